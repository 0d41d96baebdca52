"""Several labels a row: the labels themselves in a list, or a 0 or 1 for each label that there is (a multi-hot vector).

Lists of one length that hold only zeros and ones are flags; what they stand for is not in them.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bertjax.data.rows.cells import BadCell, as_flag, check_labelled, label_text, read_list, shown
from bertjax.data.rows.literals import looks_like_list
from bertjax.data.table import Table
from bertjax.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

_SEPARATORS = ("|", ";", ",", "/", "\t")


def read_labels(cells: Mapping[str, Any], table: Table) -> tuple[str, ...]:
    """The distinct labels of a row.

    Raises:
      BadCell: the cell is no list, or holds something else than labels, or than a flag for each label name.
    """
    items = _items(cells, table)
    if table.labels_as == "flags":
        return _flagged(items, table)
    labels = [label_text(item, table.merges_labels) for item in items]
    if None in labels:
        item = items[labels.index(None)]
        raise BadCell(f"holds the label {shown(item)} in column {table.label!r}, which is neither string nor integer")
    check_labelled(labels, table.label)
    return tuple(label for label in dict.fromkeys(labels) if label)


def decide_lists(table: Table, rows: Iterable[Mapping[str, Any]], source: str) -> Table:
    """The settings, with what the lists of the label column hold, where that is flags.

    Args:
      table: settings; what is set stays.
      rows: cells by column.
      source: named in messages.

    Raises:
      ConfigError: the lists are said to be flags, and nothing names their labels.
      DataError: the lists are found to be flags, and nothing names their labels.
    """
    if table.labels or table.labels_as == "names" or table.flag_names:
        return table
    if table.label_names:
        logger.info("%s: column %r has a 0 or 1 for each of %s", source, table.label, ", ".join(table.label_names))
        return replace(table, labels_as="flags")
    if table.labels_as == "flags":
        raise ConfigError("--labels-as flags needs the label of each place of a list: name them with --label-names")
    flags, example = _flags_in(table, rows)
    if flags:
        raise DataError(
            f"{source}: column {table.label!r} holds lists of {flags} zeros and ones ({example}): name the label of "
            f"each place with --label-names NAME..., or give --labels-as names if 0 and 1 are labels themselves"
        )
    return table


def _items(cells: Mapping[str, Any], table: Table) -> list[Any]:
    try:
        return read_list(cells, table.label, table.label_delimiter, any_order=True)
    except BadCell as error:
        cell = cells[table.label]
        if not isinstance(cell, str) or looks_like_list(cell):
            raise
        separator = " " if set(cell) <= set("01 ") else next((sign for sign in _SEPARATORS if sign in cell), "|")
        raise BadCell(f"{error}; name what separates its labels: --label-delimiter {separator!r}") from None


def _flagged(items: Sequence[Any], table: Table) -> tuple[str, ...]:
    names = table.flag_names
    flags = [as_flag(item) for item in items]
    if None in flags or len(flags) != len(names):
        raise BadCell(
            f"holds {shown(items)} in column {table.label!r}, which must have a 0 or 1 for each of the "
            f"{len(names)} --label-names"
        )
    return tuple(name for name, flag in zip(names, flags, strict=True) if flag)


def _flags_in(table: Table, rows: Iterable[Mapping[str, Any]]) -> tuple[int, str]:
    """How many flags each list has and the first such row; 0 where the lists hold labels.

    Labels do not repeat within a list as [1, 0, 0] does, so where most lists do that, the others are mistakes.
    """
    lists: dict[int, int] = {}  # length -> lists of flags
    certain, others, example = 0, 0, ""
    for row, cells in enumerate(rows, start=1):
        try:
            items = _items(cells, table)
        except BadCell:
            continue
        if not items:
            continue
        flags = [as_flag(item) for item in items]
        is_bool = all(isinstance(item, bool) for item in items)
        if None in flags or (len(items) == 1 and not is_bool):
            others += 1
            continue
        lists[len(items)] = lists.get(len(items), 0) + 1
        certain += is_bool or len(set(flags)) < len(flags)
        example = example or f"row {row}: {shown(items)}"
    if not lists:
        return 0, ""
    length = max(lists, key=lists.__getitem__)
    others += sum(lists.values()) - lists[length]
    return (length, example) if not others or certain > others else (0, "")
