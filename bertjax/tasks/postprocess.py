"""Postprocessing: the scores of a network (`Task.scores`) as answers in words and plain values, one for each row."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.task_formats.tag_scheme import outside_of
from bertjax.data.task_formats.token_format import NO_WORD
from bertjax.evaluation.answer_report import best_spans
from bertjax.evaluation.evaluators import NEXT_SENTENCE_NAMES

Prediction = dict[str, Any]
Answers = Callable[[np.ndarray, Rows, Examples, Sequence[str]], list[Prediction]]
"""(scores, one entry an example or a token; the rows; the examples made of them; the label names) -> a prediction for
each row."""

_THRESHOLD = 0.5  # of multi_label: a label is given where it is likelier than not


class Postprocess(NamedTuple):
    """How the scores of a task become answers.

    Attributes:
      columns: the keys of a prediction, and the kind of each value: a text, a number, texts, or numbers by their names.
      answers: scores -> one prediction for each row.
      label: a row's label as a plain value, to be written beside the prediction.
    """

    columns: Mapping[str, Literal["text", "number", "texts", "numbers"]]
    answers: Answers
    label: Callable[[Any], Any] = lambda label: label


def each_example(answer: Callable[[np.ndarray, Sequence[str]], Prediction]) -> Answers:
    """Answers of a task with one example a row.

    Args:
      answer: (scores of an example, label names) -> its prediction.
    """
    return lambda scores, rows, examples, names: [answer(of_example, names) for of_example in scores]


def _class(logits: np.ndarray, names: Sequence[str]) -> Prediction:
    probabilities = _softmax(logits)
    best = int(logits.argmax())
    return {
        "label": names[best],
        "probability": float(probabilities[best]),
        "probabilities": dict(zip(names, probabilities.tolist(), strict=True)),
    }


def _softmax(logits: np.ndarray) -> np.ndarray:
    with np.errstate(under="ignore"):  # a share of 0 is right, also where a user's np.seterr raises
        odds = np.exp(logits - logits.max())
    return odds / odds.sum()


def _label_set(logits: np.ndarray, names: Sequence[str]) -> Prediction:
    probabilities = 0.5 * (1 + np.tanh(logits / 2))  # the logistic function, without an overflow
    return {
        "labels": [name for name, probability in zip(names, probabilities, strict=True) if probability > _THRESHOLD],
        "probabilities": dict(zip(names, probabilities.tolist(), strict=True)),
    }


def _numbers(values: np.ndarray, names: Sequence[str]) -> Prediction:
    return {"values": dict(zip(names, values.tolist(), strict=True))}


def _word_labels(logits: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str]) -> list[Prediction]:
    """One label a word; where the tokenizer makes nothing of a word, that of no entity, or an empty one where no label
    says so."""
    assert examples.row_of is not None
    outside = outside_of(names, None if examples.words is None else examples.words.scheme) or ""
    labels = [[outside] * len(words) for words in rows.texts]
    is_first = examples.reference != NO_WORD
    row_of = np.repeat(examples.row_of, examples.lengths)[is_first]
    for row, word, best in zip(row_of, examples.reference[is_first], logits[is_first].argmax(axis=-1), strict=True):
        labels[row][word] = names[best]
    return [{"labels": of_row} for of_row in labels]


def _answer(logits: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str]) -> list[Prediction]:
    """The best answer, and how much more it scores than none; below 0 the model says that the context has none."""
    spans = best_spans(logits, examples.offsets, examples.reference)
    return [{"answer": span.text, "margin": float(span.score - span.null_score)} for span in spans]


def _choice(logits: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str]) -> list[Prediction]:
    assert rows.pairs is not None
    return [
        {"candidate": candidates[best], "index": best, "probability": float(_softmax(scores)[best])}
        for candidates, scores, best in zip(rows.pairs, logits, logits.argmax(axis=-1).tolist(), strict=True)
    ]


CLASS = Postprocess({"label": "text", "probability": "number", "probabilities": "numbers"}, each_example(_class))
LABEL_SET = Postprocess({"labels": "texts", "probabilities": "numbers"}, each_example(_label_set))
NUMBERS = Postprocess({"values": "numbers"}, each_example(_numbers))
WORD_LABELS = Postprocess({"labels": "texts"}, _word_labels)
ANSWER = Postprocess(
    {"answer": "text", "margin": "number"}, _answer, lambda question: [answer.text for answer in question.answers]
)
CHOICE = Postprocess({"candidate": "text", "index": "number", "probability": "number"}, _choice)
NEXT_SENTENCE = Postprocess(
    CLASS.columns,
    each_example(lambda logits, names: _class(logits, NEXT_SENTENCE_NAMES)),
    lambda label: NEXT_SENTENCE_NAMES[int(label)],
)
COSINE = Postprocess({"cosine": "number"}, each_example(lambda cosine, names: {"cosine": float(cosine)}))
