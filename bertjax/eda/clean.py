"""Which rows to leave out of a table, and why."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertjax.data.rows.cells import is_missing
from bertjax.eda.exploration import Drop
from bertjax.eda.explore import Explored
from bertjax.eda.facts.near_duplicates import NearDuplicates


class Dropped(NamedTuple):
    """A row that is left out.

    Attributes:
      row: its place in the table, from 1.
      reason: the rule that it falls under.
      explanation: in words.
      of: the row that it repeats, from 1; None for other reasons.
      similarity: to that row.
    """

    row: int
    reason: Drop
    explanation: str
    of: int | None = None
    similarity: float | None = None


class Cleaned(NamedTuple):
    """The rows that stay, and those that do not."""

    kept: np.ndarray  # [k] places in the frame, ascending
    dropped: tuple[Dropped, ...]  # in the order of the table


def clean(explored: Explored, drop: Sequence[Drop]) -> Cleaned:
    """Applies rules to all rows; a row falls under the first that fits, in this order:

        empty            no text, or, where the table has labels, an empty cell for one
        leaks            the text stands in the validation or test table too, case, width and spaces aside
        contradictions   the text has rows with another label: none of them can be trusted, so all go
        duplicates       an earlier row that stays has the same text, letter by letter
        near_duplicates  an earlier row that stays is nearly the same

    Rows that the task cannot read for another reason stay: they are for the user to mend.
    """
    found: dict[int, Dropped] = {}  # place in the frame -> why
    if "empty" in drop:
        found |= _empty(explored)
    positions = np.array(explored.observed.rows.positions, np.int64)
    stays = ~np.isin(positions, list(found))

    def leave_out(row: int, reason: Drop, explanation: str, of: int | None = None, alike: float | None = None) -> None:
        numbers = explored.observed.numbers
        number = None if of is None else int(numbers[of]) + 1
        stays[row] = False
        found[int(positions[row])] = Dropped(int(numbers[row]) + 1, reason, explanation, number, alike)

    repeats = explored.repeats
    if "leaks" in drop:
        for side, leaks in repeats.leaks.items():
            for row in np.flatnonzero(leaks & stays).tolist():
                leave_out(row, "leaks", f"its text stands in the {side} table too")
    if "contradictions" in drop:
        for row in np.flatnonzero(repeats.contradicts & stays).tolist():
            leave_out(row, "contradictions", "its text has rows with different labels")
    if "duplicates" in drop:
        first: dict[int, int] = {}
        for row in np.flatnonzero(stays).tolist():
            kept = first.setdefault(int(repeats.first[row]), row)
            if kept != row:
                leave_out(row, "duplicates", f"its text is that of row {explored.observed.numbers[kept] + 1}", kept)
    if "near_duplicates" in drop:
        for row, kept, similarity in _nearly_repeating(explored.near, repeats.first, stays):
            number = explored.observed.numbers[kept] + 1
            leave_out(row, "near_duplicates", f"its text is nearly that of row {number}", kept, round(similarity, 4))
    num_rows = len(explored.sample.frame)
    kept_rows = np.setdiff1d(np.arange(num_rows), list(found)).astype(np.int64)
    return Cleaned(kept_rows, tuple(found[place] for place in sorted(found)))


def _empty(explored: Explored) -> dict[int, Dropped]:
    """The rows without text or label, by place in the frame."""
    sample, observed = explored.sample, explored.observed
    found = {}
    for fault in observed.without_text:
        place = int(np.searchsorted(sample.numbers, fault.row - 1))
        found[place] = Dropped(fault.row, "empty", f"it {fault.reason}")
    labels = [name for name in explored.label_columns if name in sample.frame.columns]
    for fault in observed.without_label:
        place = int(np.searchsorted(sample.numbers, fault.row - 1))
        cells = [sample.frame[name].iloc[place] for name in labels]
        if any(is_missing(cell) or (isinstance(cell, str) and not cell.strip()) for cell in cells):
            found[place] = Dropped(fault.row, "empty", f"it {fault.reason}")
    return found


def _nearly_repeating(near: NearDuplicates, first: np.ndarray, stays: np.ndarray) -> list[tuple[int, int, float]]:
    """(row, the earlier row that stays, similarity) of the rows to leave out, in the order of the table.

    Rows with the very same text were compared as one, the first of them; each of them is like what that one is like.
    """
    earlier: dict[int, list[tuple[int, float]]] = {}
    for (one, other), similarity in zip(near.pairs.tolist(), near.similarity.tolist(), strict=True):
        earlier.setdefault(other, []).append((one, similarity))
        earlier.setdefault(one, []).append((other, similarity))
    found = []
    kept: dict[int, int] = {}  # text, by its first row -> the first row with it that stays
    for row in np.flatnonzero(stays).tolist():
        text = int(first[row])
        alike = [(kept[other], similarity) for other, similarity in earlier.get(text, ()) if other in kept]
        if alike:
            of, similarity = min(alike, key=lambda pair: pair[0])
            found.append((row, of, similarity))
        else:
            kept.setdefault(text, row)
    return found
