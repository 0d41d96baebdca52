"""Which candidate of a multiple choice is right: one rule for a whole column, chosen from all of its rows."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from bertjax.data.rows.cells import BadCell, is_missing, label_text, shown
from bertjax.data.rows.spellings import plain_spelling
from bertjax.data.table import AnswerAs, Table
from bertjax.errors import DataError

logger = logging.getLogger(__name__)

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DESCRIPTIONS: Mapping[AnswerAs, str] = {
    "text": "the right candidate's text",
    "letter": "the right candidate's letter",
    "index0": "the right candidate's number, counted from 0",
    "index1": "the right candidate's number, counted from 1",
}


def right_candidate(cells: Mapping[str, Any], column: str, candidates: Sequence[str], rule: AnswerAs | None) -> int:
    """The candidate that a cell names, counted from 0.

    Raises:
      BadCell: the cell is missing, or names none of the candidates by this rule.
    """
    cell = cells[column]
    if _label(cell) is None:
        raise BadCell(f"does not say in column {column!r} which candidate is right")
    readings = _readings(cell, candidates)
    if rule not in readings:
        mend = "give a number from 0, a letter from A, or the candidate's text"
        if rule is not None:
            mend = f"the column is read as {_DESCRIPTIONS[rule]} (--answer-as {rule})"
        raise BadCell(
            f"holds {shown(cell)} in column {column!r}, which is none of its {len(candidates)} candidates: {mend}"
        )
    return readings[rule]


def decide_answers(table: Table, rows: Iterable[tuple[Any, Sequence[str]]], source: str) -> Table:
    """The settings with the rule that fits a column best; what fits no row is left undecided.

    Args:
      table: settings; a rule that is set stays.
      rows: the cell and the candidates of each row.
      source: named in messages.

    Raises:
      DataError: several rules fit as well, and give other candidates.
    """
    if table.answer_as is not None:
        return table
    fits: Counter[AnswerAs] = Counter()
    clashes: dict[frozenset[AnswerAs], tuple[int, Any]] = {}
    has_text, usable = False, 0
    for row, (cell, candidates) in enumerate(rows, start=1):
        readings = _readings(cell, candidates)
        fits.update(readings.keys())
        has_text |= isinstance(cell, str)
        usable += bool(readings)
        for pair in combinations(readings, 2):
            if readings[pair[0]] != readings[pair[1]]:
                clashes.setdefault(frozenset(pair), (row, cell))
    best = [rule for rule in _DESCRIPTIONS if fits[rule] and fits[rule] == max(fits.values())]
    if not best:
        return table
    where = f"{source}: column {table.label!r}"
    # Typed integers were written by a program, and programs count from 0.
    if best == ["index0", "index1"] and fits["index0"] == usable and not has_text:
        logger.warning(
            "%s is read as %s, though no row has a 0; if it counts from 1, give --answer-as index1",
            where, _DESCRIPTIONS["index0"],
        )  # fmt: skip
        return replace(table, answer_as="index0")
    clash = next((pair for pair in combinations(best, 2) if frozenset(pair) in clashes), None)
    if clash is not None:
        row, cell = clashes[frozenset(clash)]
        described = " or ".join(_DESCRIPTIONS[rule] for rule in clash)
        flags = " or ".join(f"--answer-as {rule}" for rule in clash)
        raise DataError(
            f"{where} can be read as {described}, which differ for {shown(cell)} in row {row}; give {flags}"
        )
    logger.info("%s is read as %s (--answer-as %s)", where, _DESCRIPTIONS[best[0]], best[0])
    return replace(table, answer_as=best[0])


def _label(cell: Any) -> str | None:
    return None if is_missing(cell) or isinstance(cell, bool) else label_text(cell)


def _readings(cell: Any, candidates: Sequence[str]) -> dict[AnswerAs, int]:
    """The candidate by each rule that the cell fits; a number of json or parquet is never a text."""
    label = _label(cell)
    if label is None:
        return {}
    readings: dict[AnswerAs, int] = {}
    if isinstance(cell, str):
        texts = [candidate.strip() for candidate in candidates]
        if label in texts:
            readings["text"] = texts.index(label)
        if len(label) == 1 and label in _LETTERS[: len(candidates)]:
            readings["letter"] = _LETTERS.index(label)
    number = int(plain) if (plain := plain_spelling(label)).isdecimal() else -1
    if 0 <= number < len(candidates):
        readings["index0"] = number
    if 0 < number <= len(candidates):
        readings["index1"] = number - 1
    return readings
