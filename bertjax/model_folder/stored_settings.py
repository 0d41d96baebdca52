"""The settings that a model folder stores under `bertjax` in its `config.json`, and the labels and task in it.

Hugging Face's format has no keys for them (task, pooling, preprocessing, maximum length, temperature); transformers
ignores the entry.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.config import BertConfig, read_config_json
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.errors import ConfigError, writing
from bertjax.members import find_member
from bertjax.storage.atomic_write import write_json
from bertjax.tasks import TASKS, find_task


def stored_task(stored: Mapping[str, Any]) -> str:
    """The task that a `config.json` was saved for: as bertjax wrote it, or by transformers' class."""
    if "task" in stored_settings(stored):
        return str(stored_settings(stored)["task"])
    member = find_member(str(stored.get("model_type", "bert")))
    architecture = member.of_bert((stored.get("architectures") or ["Model"])[0])
    problem = stored.get("problem_type")
    if problem is None:  # transformers decides by the number of outputs
        problem = "regression" if len(stored_labels(stored)) == 1 else "single_label_classification"
    for name, row in TASKS.items() if member.has(architecture) else ():
        if row.architecture == architecture and row.problem_type in (None, problem):
            return name
    return "encoder"


def stored_preprocessing(stored: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that a `config.json` was saved with; the identity where it has none.

    Raises:
      ConfigError: the entry is no preprocessing, or has a step that bertjax lacks.
    """
    saved = stored_settings(stored)
    return Preprocessing.from_json(saved["preprocessing"]) if "preprocessing" in saved else Preprocessing()


def stored_max_length(stored: Mapping[str, Any]) -> int:
    """The length in tokens at which texts were cut when the model of a `config.json` was trained.

    Where it is not known, as many as the network has positions.
    """
    length = stored_settings(stored).get("max_length") or BertConfig.from_hugging_face(stored).max_length
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ConfigError(f"config.json: bertjax.max_length must be a number of tokens, got {length!r}")
    return length


def says_pooling(stored: Mapping[str, Any]) -> bool:
    """Whether a `config.json` settles how a text becomes one vector: bertjax wrote it, or its task has one way.

    transformers' bare encoder leaves that to its user.
    """
    row = find_task(stored_task(stored))
    return bool(stored_settings(stored).get("pooling")) or row.pooling != "chosen" or bool(row.head_modules)


def stored_reading(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by which the rows of a `config.json`'s model were read; none where it was saved without."""
    reading = stored_settings(stored).get("reading", {})
    if not isinstance(reading, Mapping):
        raise ConfigError(f"config.json: bertjax.reading must hold an object, got {reading!r}")
    return dict(reading)


def stored_temperature(stored: Mapping[str, Any]) -> float:
    """The number by which a `config.json`'s model has its logits divided where they become probabilities; 1 where it
    was saved without one, as by transformers.

    Raises:
      ConfigError: it is no number above 0, or the model's task gives no probabilities of labels.
    """
    saved = stored_settings(stored)
    if "temperature" not in saved:
        return 1.0
    temperature = saved["temperature"]
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not is_number or not 0 < temperature < math.inf:
        raise ConfigError(f"config.json: bertjax.temperature must be a number above 0, got {temperature!r}")
    if find_task(stored_task(stored)).probabilities is None:
        raise ConfigError(
            f"config.json: bertjax.temperature means nothing for task {stored_task(stored)!r}; leave it out"
        )
    return float(temperature)


def save_temperature(folder: Path, temperature: float) -> None:
    """Gives the model in a folder another temperature; its `config.json` is replaced in one step.

    Raises:
      DiskError: the folder cannot be written; it stays as it was.
    """
    stored = read_config_json(folder)
    settings = {key: value for key, value in stored_settings(stored).items() if key != "temperature"}
    if temperature != 1:
        settings["temperature"] = temperature
    with writing(folder, "give a folder that can be written"):
        write_json(folder / "config.json", stored | {"bertjax": settings})


def stored_settings(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of bertjax in a `config.json`; none where another program wrote it.

    Raises:
      ConfigError: the entry is no object.
    """
    saved = stored.get("bertjax", {})
    if not isinstance(saved, Mapping):
        raise ConfigError(f"config.json: bertjax must hold an object, got {saved!r}")
    return saved


def stored_labels(stored: Mapping[str, Any]) -> tuple[str, ...]:
    """The label names of a `config.json`, in index order; two numbered ones, as in transformers, where it has none.

    Raises:
      ConfigError: indices that are not 0, 1, 2, ...
    """
    by_index = stored.get("id2label")
    if not by_index:
        count = stored.get("num_labels") or 2
        if isinstance(count, bool) or not isinstance(count, int):
            raise ConfigError(f"config.json: num_labels must be a whole number, got {count!r}")
        return numbered_labels(count)
    try:
        indices = sorted(map(int, by_index))
        if indices != list(range(len(indices))):
            raise ValueError
    except ValueError:
        raise ConfigError(f"config.json: id2label must number its labels 0, 1, 2, ..., got {list(by_index)}") from None
    return tuple(str(by_index[key]) for key in sorted(by_index, key=int))


def numbered_labels(count: int | None) -> tuple[str, ...]:
    return tuple(f"LABEL_{i}" for i in range(count or 0))
