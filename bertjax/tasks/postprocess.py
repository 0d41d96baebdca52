"""Postprocessing: from a network's scores to one answer per row, in labels, words and plain values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.rows.labelled_rows import Rows
from bertjax.errors import ConfigError
from bertjax.metrics.evaluators import NEXT_SENTENCE_NAMES
from bertjax.tasks.readout import Readout

Prediction = dict[str, Any]
ColumnKind = Literal["text", "number", "texts", "numbers", "records"]


@dataclass(frozen=True)
class AnswerOptions:
    """What is asked of the answers of a model.

    Attributes:
      top_k: how many of the most likely labels, answers or words to list under `top`; 0 lists none.
      threshold: the least probability of a label that is given (classes: below it the label is `fallback_of` the
        names; several labels: default 0.5; entities), or the least margin of an answer to a question. None: every
        class, entity and answer is given as it is.
    """

    top_k: int = 0
    threshold: float | None = None


Answers = Callable[[np.ndarray, Rows, Examples, Sequence[str], AnswerOptions], list[Prediction]]
"""(scores, one entry an example or a token; the rows; the examples made of them; the label names; options) -> a
prediction for each row."""


class Postprocess(NamedTuple):
    """How the scores of a task become answers.

    Attributes:
      columns: the keys of a prediction, and the kind of each value: a text, a number, texts, numbers by their names, or
        a list of mappings.
      answers: scores -> one prediction for each row.
      label: a row's label as a plain value, to be written beside the prediction.
      takes: the options that mean something here.
      readout: how the network is read for an answer, where that is not as the task's evaluation reads it.
      says: the key that holds the answer itself; "" for the first one.
    """

    columns: Mapping[str, ColumnKind]
    answers: Answers
    label: Callable[[Any], Any] = lambda label: label
    takes: tuple[Literal["top_k", "threshold"], ...] = ()
    readout: Readout | None = None
    says: str = ""

    def said(self, prediction: Prediction) -> Any:
        """The answer itself of a prediction, without how sure it is and what else there is."""
        return prediction[self.says or next(iter(self.columns))]

    def check(self, options: AnswerOptions, task: str) -> None:
        """Checks that options can be had.

        Raises:
          ConfigError: one that means nothing for the task, or is out of its range.
        """
        asked = {"top_k": options.top_k != 0, "threshold": options.threshold is not None}
        for name, is_asked in asked.items():
            if is_asked and name not in self.takes:
                raise ConfigError(f"{name} means nothing for a model of task {task!r}")
        if options.top_k < 0:
            raise ConfigError(f"top_k must be 0 or more, got {options.top_k}")


def each_example(answer: Callable[[np.ndarray, Sequence[str], AnswerOptions], Prediction]) -> Answers:
    """Answers of a task with one example a row.

    Args:
      answer: (scores of an example, label names, options) -> its prediction.
    """
    return lambda scores, rows, examples, names, options: [answer(of_example, names, options) for of_example in scores]


_LEAST_PROBABILITY = 0.5  # of multi_label: a label is given where it is likelier than not
_OTHER, _UNCERTAIN = "other", "uncertain"


def fallback_of(names: Sequence[str]) -> str:
    """The label where a model is less sure than it must be: `other` if that is a class, else `uncertain`."""
    return _OTHER if _OTHER in names else _UNCERTAIN


def _classes(
    logits: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str], options: AnswerOptions
) -> list[Prediction]:
    """The most likely class. Where a threshold is set, `label` is what it leaves of it, beside the model's own
    `predicted`."""
    fallback = fallback_of(names)
    predictions = []
    for probabilities, best in zip(softmax(logits).tolist(), logits.argmax(axis=-1).tolist(), strict=True):
        prediction: Prediction = {"label": names[best]}
        if options.threshold is not None:
            unsure = probabilities[best] < options.threshold
            prediction = {"label": fallback if unsure else names[best], "predicted": names[best]}
        of_names = dict(zip(names, probabilities, strict=True))
        prediction |= {"probability": probabilities[best], "probabilities": of_names}
        predictions.append(prediction | _top(names, probabilities, options))
    return predictions


def _top(names: Sequence[str], probabilities: Sequence[float], options: AnswerOptions) -> Prediction:
    """The likeliest labels, those of one probability in the order of the names; nothing where none are asked for."""
    if not options.top_k:
        return {}
    best = sorted(range(len(names)), key=lambda i: -probabilities[i])[: options.top_k]
    return {"top": [{"label": names[i], "probability": probabilities[i]} for i in best]}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    with np.errstate(under="ignore"):  # a share of 0 is right, also where a user's np.seterr raises
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def logistic(logits: np.ndarray) -> np.ndarray:
    """The probability of each label by itself."""
    return 0.5 * (1 + np.tanh(logits / 2))  # without an overflow


def _label_sets(
    logits: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str], options: AnswerOptions
) -> list[Prediction]:
    least = _LEAST_PROBABILITY if options.threshold is None else options.threshold
    return [
        {
            "labels": [name for name, probability in zip(names, probabilities, strict=True) if probability > least],
            "probabilities": dict(zip(names, probabilities, strict=True)),
            **_top(names, probabilities, options),
        }
        for probabilities in logistic(logits).tolist()
    ]


def _numbers(values: np.ndarray, names: Sequence[str], options: AnswerOptions) -> Prediction:
    return {"values": dict(zip(names, values.tolist(), strict=True))}


def _choice(
    logits: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str], options: AnswerOptions
) -> list[Prediction]:
    assert rows.pairs is not None
    predictions = []
    for candidates, of_row in zip(rows.pairs, softmax(logits).tolist(), strict=True):
        ranked = [
            {"candidate": candidates[i], "index": i, "probability": of_row[i]}
            for i in sorted(range(len(candidates)), key=lambda i: -of_row[i])
        ]
        predictions.append(ranked[0] | ({"top": ranked[: options.top_k]} if options.top_k else {}))
    return predictions


CLASS = Postprocess(
    {"label": "text", "probability": "number", "probabilities": "numbers"},
    _classes,
    takes=("top_k", "threshold"),
)
LABEL_SET = Postprocess({"labels": "texts", "probabilities": "numbers"}, _label_sets, takes=("top_k", "threshold"))
NUMBERS = Postprocess({"values": "numbers"}, each_example(_numbers))
CHOICE = Postprocess(
    {"candidate": "text", "index": "number", "probability": "number"},
    _choice,
    takes=("top_k",),
)
NEXT_SENTENCE = CLASS._replace(
    answers=lambda logits, rows, examples, names, options: _classes(
        logits, rows, examples, NEXT_SENTENCE_NAMES, options
    ),
    label=lambda label: NEXT_SENTENCE_NAMES[int(label)],
)
COSINE = Postprocess(
    {"cosine": "number"},
    each_example(lambda cosine, names, options: {"cosine": float(cosine)}),
)
