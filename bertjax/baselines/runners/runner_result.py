"""The files of one run of a comparison, written and read.

result.json   framework, seed, metrics, speed, memory, versions, what it was made from; written last: a folder that has
              it holds a finished run
arrays.npz    losses of every update, scores of each test row
error.txt     one line, where the run failed
log.txt       output of the process
model/        the trained model, with `keep_models`
"""

from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from bertjax.errors import RunFolderError, first_line
from bertjax.storage.atomic_write import write_json, write_text
from bertjax.storage.small_files import read_object, read_text

_ARRAYS = ("losses", "answers", "offsets")
_REMEDY = "delete the folder, and --resume runs it again"
RESULT, ARRAYS, ERROR, LOG, MODEL = "result.json", "arrays.npz", "error.txt", "log.txt", "model"


class RunResult(NamedTuple):
    """A finished run of one framework with one seed.

    Attributes:
      framework: a row of `FRAMEWORKS`.
      task: a row of `TASKS`.
      labels: the label vocabulary.
      metrics: of the test rows, flat.
      measured: seconds, counts and bytes, by name.
      device: name of the device.
      versions: of the packages that were used.
      made_from: the fingerprints of the run, see `prepared_run`; none in files of earlier versions.
      losses: [updates] float64; empty where nothing was trained.
      answers: scores of the test rows, [N, ...] or one a token (`Task.scores`).
      offsets: [N + 1], where the tokens of each test row begin.
    """

    framework: str
    seed: int
    task: str
    labels: tuple[str, ...]
    metrics: dict[str, float]
    measured: dict[str, float]
    device: str
    versions: dict[str, str]
    made_from: dict[str, Any]
    losses: np.ndarray
    answers: np.ndarray
    offsets: np.ndarray

    @property
    def examples_per_second(self) -> float:
        """Training examples a second, without the first update."""
        return self.measured["examples"] / self.measured["seconds"]

    @property
    def real_tokens_per_second(self) -> float:
        """Training tokens a second, without padding and without the first update."""
        return self.measured["real_tokens"] / self.measured["seconds"]

    @property
    def peak_bytes(self) -> float:
        """Most memory held: on the accelerator, else by the process above its memory before the training."""
        held = self.measured["memory_peak_bytes"] - self.measured["memory_before_bytes"]
        return self.measured.get("device_peak_bytes", held)

    @property
    def padding_share(self) -> float:
        """Share of the computed training tokens that are padding."""
        return 1 - self.measured["real_tokens"] / self.measured["computed_tokens"]


def run_folder(out: Path, framework: str, seed: int) -> Path:
    """The folder of one run in that of the comparison."""
    return out / f"{framework}-{seed}"


def write_result(folder: Path, result: RunResult) -> None:
    """Writes a result; `result.json`, by which it counts as finished, comes last."""
    with (folder / ARRAYS).open("wb") as file:
        np.savez_compressed(file, **{name: getattr(result, name) for name in _ARRAYS})
    values: dict[str, Any] = {name: value for name, value in result._asdict().items() if name not in _ARRAYS}
    write_json(folder / RESULT, values)


def write_error(folder: Path, line: str) -> None:
    """Writes why a run failed."""
    write_text(folder / ERROR, line + "\n")


def read_error(folder: Path) -> str | None:
    """Why a run failed; None where it did not."""
    line = read_text(folder / ERROR, _REMEDY)
    return None if line is None else line.strip()


def read_result(folder: Path) -> RunResult | None:
    """The result in a folder; None where no run has finished.

    Raises:
      RunFolderError: files that cannot be read.
    """
    values = read_object(folder / RESULT, _REMEDY)
    if values is None:
        return None
    try:
        with np.load(folder / ARRAYS) as arrays:
            values = {"made_from": {}} | values | {"labels": tuple(values["labels"])}
            return RunResult(**values, **{name: arrays[name] for name in _ARRAYS})
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
        raise RunFolderError(f"{folder} holds a result that cannot be read ({first_line(error)}); {_REMEDY}") from None
