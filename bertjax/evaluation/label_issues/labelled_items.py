"""`Items`: labels of rows or words beside a model's probabilities, all that confident learning needs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.data.rows.labelled_rows import Rows, Text, as_string
from bertjax.data.task_formats import TaskFormat
from bertjax.errors import ConfigError
from bertjax.evaluation.judged_rows import JudgedRows
from bertjax.metrics.evaluators import NEXT_SENTENCE_NAMES
from bertjax.tasks import find_format
from bertjax.tasks.postprocess import softmax


class Items(NamedTuple):
    """Labels and probabilities, an entry for each thing that has a label: a row, or a word of a sentence.

    Attributes:
      names: of the labels.
      given: [n] int64 the index of the label; [n, L] bool where a row has several.
      probabilities: [n, L] float64 the model's; they sum to 1 where there is one label.
      rows: [n] int64 places of the rows in their table, from 0.
      words: [n] int64 places of the words in their sentences, from 0; None where a whole row has the label.
    """

    names: tuple[str, ...]
    given: np.ndarray
    probabilities: np.ndarray
    rows: np.ndarray
    words: np.ndarray | None = None

    @property
    def several(self) -> bool:
        """Whether a row has several labels, or none."""
        return self.given.ndim == 2

    def at_rows(self, places: np.ndarray) -> "Items":
        """The same items as rows of another table, in which row i stands at `places[i]`."""
        return self._replace(rows=places[self.rows])

    def joined(self, others: Sequence["Items"]) -> "Items":
        """These items and others with the same labels, in the order of their table."""
        parts = (self, *others)
        assert all(part.names == self.names for part in parts), "the models have the same labels"
        rows = np.concatenate([part.rows for part in parts])
        words = np.concatenate([np.zeros(0, np.int64) if part.words is None else part.words for part in parts])
        order = np.argsort(rows, kind="stable") if self.words is None else np.lexsort((words, rows))
        return Items(
            self.names,
            np.concatenate([part.given for part in parts])[order],
            np.concatenate([part.probabilities for part in parts])[order],
            rows[order],
            None if self.words is None else words[order],
        )


def check_has_items(task: str) -> TaskFormat:
    """The format of a task whose labels can be doubted.

    Raises:
      ConfigError: its labels are no classes.
    """
    task_format = find_format(task)
    if not (task_format.classes or task_format.indexed):
        raise ConfigError(
            f"label issues are found among classes, sets of labels and labels of words, which a model of task {task!r} "
            f"does not give"
        )
    return task_format


def items_of(judged: JudgedRows) -> Items:
    """The labels of judged rows beside the model's probabilities.

    Raises:
      ConfigError: the task's labels are no classes.
    """
    model, examples = judged.loaded.model, judged.examples
    task_format = check_has_items(model.task)
    positions = np.array(judged.rows.positions, np.int64)
    scores = judged.scores.astype(np.float64)
    if task_format.positions:
        assert examples.row_of is not None
        has_label = examples.labels != UNLABELLED
        rows = positions[np.repeat(examples.row_of, examples.lengths)[has_label]]
        given, words = examples.labels[has_label].astype(np.int64), examples.reference[has_label].astype(np.int64)
        return Items(tuple(model.labels), given, softmax(scores[has_label]), rows, words)
    if task_format.classes:
        names = tuple(model.labels) or NEXT_SENTENCE_NAMES
        return Items(names, examples.labels.astype(np.int64), softmax(scores), positions)
    return Items(tuple(model.labels), examples.labels > 0, 0.5 * (1 + np.tanh(scores / 2)), positions)


def texts_of(rows: Rows) -> dict[int, Text]:
    """Place of a row in its table -> its text, with the second one where it has two."""
    if rows.pairs is None:
        return dict(zip(rows.positions, rows.texts, strict=True))
    return {
        position: f"{as_string(text)} | {as_string(pair)}"
        for position, text, pair in zip(rows.positions, rows.texts, rows.pairs, strict=True)
    }
