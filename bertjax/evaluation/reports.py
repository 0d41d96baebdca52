"""`Report`: what is known of a model's predictions on some rows, in a form that console, page and tracker can show."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class ScoreTable(NamedTuple):
    """Scores of what a report breaks down into.

    Attributes:
      title: of the table.
      columns: their names, the first one that of what is broken down.
      rows: (name, a number for each other column); integers are counts.
      averages: rows that sum the others up.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, Sequence[float]]]
    averages: Sequence[tuple[str, Sequence[float]]] = ()


class Confusion(NamedTuple):
    """How often which label was taken for which.

    Attributes:
      names: of the labels, in index order.
      counts: [L, L]; rows are true labels, columns predictions.
    """

    names: Sequence[str]
    counts: np.ndarray


class Report(Protocol):
    """How predictions compare with what is right."""

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics under flat keys, such as `test/accuracy`; `test/class/NUM/recall` for a part of the whole.

        The task's main metric comes first.
        """
        ...

    @property
    def summary(self) -> str:
        """What was judged, such as "500 rows, 6 classes"."""
        ...

    @property
    def headline(self) -> Sequence[tuple[str, float]]:
        """The few numbers that matter most, the first one above all."""
        ...

    @property
    def table(self) -> ScoreTable | None:
        """The scores of each part, where there are parts."""
        ...

    @property
    def confusion(self) -> Confusion | None:
        """The confusion of single labels, where there are some."""
        ...
