"""What a network's outputs say of a text, in words and plain values: one row a task."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from bertjax.errors import ConfigError

Prediction = dict[str, Any]

_THRESHOLD = 0.5  # of multi_label: a label is given where it is likelier than not


class Readout(NamedTuple):
    """How a task's outputs are told.

    Attributes:
      columns: the keys of a prediction, and what each holds: a text, a number, texts, or numbers by their names.
      read: (logits of an example [L], label names) -> the prediction.
    """

    columns: Mapping[str, Literal["text", "number", "texts", "numbers"]]
    read: Callable[[np.ndarray, tuple[str, ...]], Prediction]


def _read_class(logits: np.ndarray, names: tuple[str, ...]) -> Prediction:
    odds = np.exp(logits - logits.max())
    probabilities = odds / odds.sum()
    best = int(logits.argmax())
    return {
        "label": names[best],
        "probability": float(probabilities[best]),
        "probabilities": dict(zip(names, probabilities.tolist(), strict=True)),
    }


def _read_labels(logits: np.ndarray, names: tuple[str, ...]) -> Prediction:
    probabilities = 0.5 * (1 + np.tanh(logits / 2))  # the logistic function, without an overflow
    return {
        "labels": [name for name, probability in zip(names, probabilities, strict=True) if probability > _THRESHOLD],
        "probabilities": dict(zip(names, probabilities.tolist(), strict=True)),
    }


def _read_numbers(logits: np.ndarray, names: tuple[str, ...]) -> Prediction:
    return {"values": dict(zip(names, logits.tolist(), strict=True))}


READOUTS: Mapping[str, Readout] = {
    "classification": Readout({"label": "text", "probability": "number", "probabilities": "numbers"}, _read_class),
    "multi_label": Readout({"labels": "texts", "probabilities": "numbers"}, _read_labels),
    "regression": Readout({"values": "numbers"}, _read_numbers),
}


def readout_of(task: str) -> Readout:
    """A row of the table.

    Raises:
      ConfigError: a task that says nothing of a text as a whole.
    """
    if task not in READOUTS:
        raise ConfigError(f"a model of task {task!r} does not predict texts; those of {', '.join(READOUTS)} do")
    return READOUTS[task]
