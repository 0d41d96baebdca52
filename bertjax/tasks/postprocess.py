"""Postprocessing: the scores of a network (`Task.scores`) as answers in words and plain values, one for each row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.task_formats.tag_scheme import outside_of
from bertjax.data.task_formats.token_format import NO_WORD
from bertjax.evaluation.answer_report import best_spans
from bertjax.evaluation.evaluators import NEXT_SENTENCE_NAMES

Prediction = dict[str, Any]


@dataclass(frozen=True)
class AnswerOptions:
    """What is asked of the answers of a model.

    Attributes:
      top_k: how many of the most likely labels, answers or words to list under `top`; 0 lists none.
      threshold: the least probability of a label that is given (classes: below it the label is `fallback_of` the
        names; several labels: default 0.5; entities), or the least margin of an answer to a question. None: every
        class, answer and entity is given as it is.
    """

    top_k: int = 0
    threshold: float | None = None


Answers = Callable[[np.ndarray, Rows, Examples, Sequence[str], AnswerOptions], list[Prediction]]
"""(scores, one entry an example or a token; the rows; the examples made of them; the label names; options) -> a
prediction for each row."""

_THRESHOLD = 0.5  # of multi_label: a label is given where it is likelier than not
_OTHER, _UNCERTAIN = "other", "uncertain"


def fallback_of(names: Sequence[str]) -> str:
    """The label where a model is less sure than it must be: `other` if that is a class, else `uncertain`."""
    return _OTHER if _OTHER in names else _UNCERTAIN


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


def each_example(answer: Callable[[np.ndarray, Sequence[str], AnswerOptions], Prediction]) -> Answers:
    """Answers of a task with one example a row.

    Args:
      answer: (scores of an example, label names, options) -> its prediction.
    """
    return lambda scores, rows, examples, names, options: [answer(of_example, names, options) for of_example in scores]


def _class(logits: np.ndarray, names: Sequence[str], options: AnswerOptions) -> Prediction:
    """The most likely class. Where a threshold is set, `label` is what it leaves of it, beside the model's own
    `predicted`."""
    probabilities = _softmax(logits).tolist()
    best = int(logits.argmax())
    prediction: Prediction = {"label": names[best]}
    if options.threshold is not None:
        unsure = probabilities[best] < options.threshold
        prediction = {"label": fallback_of(names) if unsure else names[best], "predicted": names[best]}
    prediction |= {"probability": probabilities[best], "probabilities": dict(zip(names, probabilities, strict=True))}
    return prediction | _top(names, probabilities, options)


def _top(names: Sequence[str], probabilities: Sequence[float], options: AnswerOptions) -> Prediction:
    """The likeliest labels, those of one probability in the order of the names; nothing where none are asked for."""
    if not options.top_k:
        return {}
    best = sorted(range(len(names)), key=lambda i: -probabilities[i])[: options.top_k]
    return {"top": [{"label": names[i], "probability": probabilities[i]} for i in best]}


def _softmax(logits: np.ndarray) -> np.ndarray:
    with np.errstate(under="ignore"):  # a share of 0 is right, also where a user's np.seterr raises
        odds = np.exp(logits - logits.max())
    return odds / odds.sum()


def _label_set(logits: np.ndarray, names: Sequence[str], options: AnswerOptions) -> Prediction:
    probabilities = (0.5 * (1 + np.tanh(logits / 2))).tolist()  # the logistic function, without an overflow
    least = _THRESHOLD if options.threshold is None else options.threshold
    return {
        "labels": [name for name, probability in zip(names, probabilities, strict=True) if probability > least],
        "probabilities": dict(zip(names, probabilities, strict=True)),
        **_top(names, probabilities, options),
    }


def _numbers(values: np.ndarray, names: Sequence[str], options: AnswerOptions) -> Prediction:
    return {"values": dict(zip(names, values.tolist(), strict=True))}


def _word_labels(
    logits: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str], options: AnswerOptions
) -> list[Prediction]:
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


def _answer(
    logits: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str], options: AnswerOptions
) -> list[Prediction]:
    """The best answer, and how much more it scores than none; below 0 the model says that the context has none."""
    spans = best_spans(logits, examples.offsets, examples.reference)
    return [{"answer": span.text, "margin": float(span.score - span.null_score)} for span in spans]


def _choice(
    logits: np.ndarray, rows: Rows, examples: Examples, names: Sequence[str], options: AnswerOptions
) -> list[Prediction]:
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
    each_example(lambda logits, names, options: _class(logits, NEXT_SENTENCE_NAMES, options)),
    lambda label: NEXT_SENTENCE_NAMES[int(label)],
)
COSINE = Postprocess({"cosine": "number"}, each_example(lambda cosine, names, options: {"cosine": float(cosine)}))
