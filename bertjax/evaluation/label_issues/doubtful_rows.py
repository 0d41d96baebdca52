"""Doubtful labels in words: what was given, what the model says, and why."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bertjax.data.rows.labelled_rows import Text, as_string
from bertjax.evaluation.label_issues.confident_learning import Doubts
from bertjax.evaluation.label_issues.labelled_items import Items

_CONTEXT = 5  # words on either side of one
_LABELS_TOLD = 3  # wrong labels of a set


class DoubtfulLabel(NamedTuple):
    """A label that may be wrong.

    Attributes:
      row: its number in the table, from 1.
      word: the number of the word in its sentence, from 1; None where the row has the label.
      text: of the row; of a word, the words around it too, with the word in brackets.
      given: the label, or all of them with commas between.
      predicted: by the model.
      self_confidence: how far the model believes in what was given, from 0 to 1; for sets, cleanlab's average.
      margin: how much more probable the model's label is than the given one; of a set, its worst label.
      is_issue: whether confident learning takes the label for wrong.
      why: in words.
    """

    row: int
    word: int | None
    text: str
    given: str
    predicted: str
    self_confidence: float
    margin: float
    is_issue: bool
    why: str

    def record(self) -> dict[str, Any]:
        """A JSON object."""
        values = self._asdict()
        return values if self.word is not None else {name: values[name] for name in values if name != "word"}


def doubtful_labels(
    items: Items, doubts: Doubts, ranked: Sequence[int] | np.ndarray, texts: Mapping[int, Text]
) -> list[DoubtfulLabel]:
    """Items in words.

    Args:
      items: all.
      doubts: of them.
      ranked: those to describe.
      texts: place of a row -> its text.
    """
    describe = _of_set if items.several else _of_class
    return [describe(items, doubts, int(item), texts) for item in ranked]


def _of_class(items: Items, doubts: Doubts, item: int, texts: Mapping[int, Text]) -> DoubtfulLabel:
    probabilities, given = items.probabilities[item], int(items.given[item])
    best = int(probabilities.argmax())
    of_best, of_given = float(probabilities[best]), float(probabilities[given])
    best_name, given_name = items.names[best], items.names[given]
    why = f"the model gives {best_name!r} {of_best:.2f}, and {given_name!r} {of_given:.2f}"
    if best == given:
        why = f"the model gives {given_name!r} {of_given:.2f}"
    row, word = int(items.rows[item]), None if items.words is None else int(items.words[item])
    return DoubtfulLabel(
        row + 1,
        None if word is None else word + 1,
        _shown(texts[row], word),
        given_name,
        best_name,
        float(doubts.quality[item]),
        of_best - of_given,
        bool(doubts.is_issue[item]),
        why,
    )


def _of_set(items: Items, doubts: Doubts, item: int, texts: Mapping[int, Text]) -> DoubtfulLabel:
    assert doubts.of_label is not None
    probabilities, given = items.probabilities[item], items.given[item]
    of_given = np.where(given, probabilities, 1 - probabilities)  # that each label is given, or not, as it is
    order = np.argsort(of_given, kind="stable")
    told = [i for i in order if doubts.of_label[item, i]][:_LABELS_TOLD] or [order[0]]
    parts = [
        f"{items.names[i]!r} {probabilities[i]:.2f}, which is {'' if given[i] else 'not '}given" for i in map(int, told)
    ]
    return DoubtfulLabel(
        int(items.rows[item]) + 1,
        None,
        _shown(texts[int(items.rows[item])], None),
        _set(items.names, given),
        _set(items.names, probabilities > 0.5),  # as predictions are
        float(doubts.quality[item]),
        float(1 - 2 * of_given[order[0]]),
        bool(doubts.is_issue[item]),
        f"the model gives {'; '.join(parts)}",
    )


def _set(names: Sequence[str], members: np.ndarray) -> str:
    return ", ".join(names[i] for i in np.flatnonzero(members).tolist())


def _shown(text: Text, word: int | None) -> str:
    if word is None or isinstance(text, str):
        return as_string(text)
    before, after = text[max(0, word - _CONTEXT) : word], text[word + 1 : word + 1 + _CONTEXT]
    return " ".join([*before, f"[{text[word]}]", *after])
