"""`made_from.json`: the fingerprints of the run that made the results in a folder.

A result is reused only if the run that would make it now has the same fingerprints. The checkpoints of a run have them
too, but may be deleted when it has finished.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.storage.atomic_write import write_json
from bertjax.storage.small_files import read_object
from bertjax.training.run.run_folder import MADE_FROM, METRICS, earlier_starts, stored_settings
from bertjax.training.settings.finetune_config import of_this_version

_VERSIONS = ("bertjax", "jax")
_INPUTS = ("weights", "tokenizer", "teacher")


def inputs_of(fingerprints: Mapping[str, Any]) -> dict[str, Any]:
    """The hashes of what a run reads. Results with another one are results of something else.

    >>> inputs_of({"epochs": 3, "train_rows": "8e19f4f7d771b284", "weights": "2a524f1702f6a4b6"})
    {'train_rows': '8e19f4f7d771b284', 'weights': '2a524f1702f6a4b6'}
    """
    return {key: value for key, value in fingerprints.items() if key in _INPUTS or key.endswith("_rows")}


def other_inputs(stored: Mapping[str, Any], present: Mapping[str, Any]) -> bool:
    """Whether rows or weights are others, as far as it is known."""
    return any(value != present.get(key) for key, value in inputs_of(stored).items())


def without_seed(fingerprints: Mapping[str, Any]) -> dict[str, Any]:
    """What runs with several seeds have in common."""
    return {key: value for key, value in fingerprints.items() if key != "seed"}


def write_made_from(folder: Path, fingerprints: Mapping[str, Any]) -> None:
    """Writes what the results in a folder were made from, after these: a process that dies in between leaves new
    results that are taken for older ones, and never the other way round."""
    write_json(folder / MADE_FROM, fingerprints)


def read_made_from(folder: Path) -> dict[str, Any]:
    """The fingerprints of the results in a folder; where it has none, those of its last start.

    Raises:
      RunFolderError: the folder holds no run.
    """
    if (folder / METRICS).is_file() and (folder / MADE_FROM).is_file():
        return of_this_version(read_object(folder / MADE_FROM, "delete it, and the runs start again") or {})
    return of_last_start(folder)


def of_last_start(folder: Path) -> dict[str, Any]:
    """The settings of the last start in a folder and its hashes of rows and weights, and versions.

    They are all that is known of the results of earlier versions, which wrote no fingerprints beside them.

    Raises:
      RunFolderError: the folder holds no run.
    """
    settings, starts = stored_settings(folder), earlier_starts(folder)
    start = starts[-1] if starts else {}
    return inputs_of(start) | {name: start[name] for name in _VERSIONS if name in start} | settings
