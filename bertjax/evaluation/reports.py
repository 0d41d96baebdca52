"""`Report`: how a model's predictions compare with labels, in a form that console, page and tracker can show."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class ScoreTable(NamedTuple):
    """Scores of the parts of a report.

    Attributes:
      title: of the table.
      columns: their titles, the first one that of the parts.
      rows: (name, a number for each other column); integers are counts.
      averages: rows of averages over the others.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, Sequence[float]]]
    averages: Sequence[tuple[str, Sequence[float]]] = ()


class Confusion(NamedTuple):
    """How often each label was predicted for each other.

    Attributes:
      names: of the labels, in index order.
      counts: [L, L]; rows are true labels, columns predictions.
    """

    names: Sequence[str]
    counts: np.ndarray


class Report(Protocol):
    """How predictions compare with labels."""

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics under flat keys, such as `test/accuracy`; `test/class/NUM/recall` for a part of the whole.

        The task's main metric comes first.
        """
        ...

    @property
    def summary(self) -> str:
        """The rows behind the report, in words, such as "500 rows, 6 classes"."""
        ...

    @property
    def headline(self) -> Sequence[tuple[str, float]]:
        """The main metrics, the most important first."""
        ...

    @property
    def table(self) -> ScoreTable | None:
        """The scores of each part, or None."""
        ...

    @property
    def confusion(self) -> Confusion | None:
        """The confusion of single labels, or None."""
        ...
