"""Rows of delimited text, with the line of each, and with what is wrong or suspicious about its quotes."""

import logging
import re
from collections.abc import Iterator

from bertjax.data.read.delimited.choose_dialect import choose_delimiter, choose_quoting, has_spaced_cells, swallows
from bertjax.data.read.delimited.dialect import (
    DELIMITER_NAMES,
    Dialect,
    DialectSettings,
    Span,
    cells_of_any_length,
    spans,
)
from bertjax.data.read.notes import Note, OnNote, lines_listing
from bertjax.data.read.text_lines import Lines, line_breaks
from bertjax.errors import DataError

Row = tuple[int, list[str] | str]
"""The first line of a row, counted from 1, and its cells or the problem with them."""

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


def csv_rows(
    text_lines: Iterator[str], source: str, usual_delimiter: str, settings: DialectSettings, on_note: OnNote
) -> Iterator[Row]:
    """Each row that is not blank, the header first.

    Args:
      text_lines: the lines of a file, with their ends.
      source: name for messages.
      usual_delimiter: that of the file's suffix.
      settings: what a user says of the dialect; see `choose_dialect` for what is left to the file.
      on_note: told of a dialect that is not the suffix's own, and of quotes that swallow rows.

    Raises:
      DataError: a file that can be read in two ways, or a quote that is open at its end.
    """
    lines, start = Lines(text_lines), 0
    delimiter = settings.delimiter
    if 0 in lines and (named := _SEPARATOR_LINE.fullmatch(lines[0])):
        delimiter, start = delimiter or named.group(1), 1
    delimiter = delimiter or choose_delimiter(lines, start, usual_delimiter, source)
    if delimiter not in (usual_delimiter, settings.delimiter):
        name = DELIMITER_NAMES.get(delimiter, repr(delimiter))
        on_note(Note(source, f"cells are separated by {name} (--delimiter names another one)"))

    plain, width = Dialect(delimiter, skip_initial_space=has_spaced_cells(lines, start, delimiter)), None
    if plain.skip_initial_space:
        on_note(Note(source, f"spaces after each {delimiter!r} are no part of the cells"))

    num_plain = 0
    while start in lines and not _needs_dialect(lines[start], plain, settings):
        cells = lines[start].rstrip("\r\n").split(delimiter)
        if plain.skip_initial_space:
            cells = [cell.lstrip(" ") for cell in cells]
        if cells != [""]:
            yield start + 1, cells
            num_plain += 1
            width = width or (len(cells) if any(map(str.strip, cells)) else None)
        start += 1
        lines.forget(start)
    if start in lines:
        dialect = choose_quoting(lines, start, plain, width, settings, source, is_first_row=num_plain <= 1)
        if departures := _departures(dialect, plain, settings):
            on_note(Note(source, "; ".join(departures)))
        yield from _rows(lines, start, source, dialect, width, on_note)


def _needs_dialect(line: str, plain: Dialect, settings: DialectSettings) -> bool:
    return plain.cell_opens_with_quote(line) or bool(settings.escape and settings.escape in line)


def _departures(dialect: Dialect, plain: Dialect, settings: DialectSettings) -> list[str]:
    """What a dialect has that its delimiter alone does not say, and no user either."""
    found = []
    if settings.quoting is None and dialect.delimiter == "\t":
        on, off = "cells in quotes are read without them (--quoting off keeps", "quotes are text (--quoting on removes"
        found.append(f"{on if dialect.quoting else off} them)")
    if dialect.escape and settings.escape is None:
        found.append(r'\" in a quoted cell is read as a quote (--escape "" reads it as it is)')
    if dialect.skip_initial_space and not plain.skip_initial_space:
        found.append("spaces after delimiters are no part of the cells, since quotes follow them")
    return found


def _rows(lines: Lines, start: int, source: str, dialect: Dialect, width: int | None, on_note: OnNote) -> Iterator[Row]:
    swallowing = []
    num_of_several_lines = 0
    for span in spans(lines, start, dialect):
        first, end, cells = span
        if cells is None:
            if dialect.quoting and _is_open(lines, first, end, dialect):
                raise DataError(f"{source}: {_open_quote(lines, first, dialect)}")
            yield first + 1, _problem(lines, span, dialect)
            continue
        width = width or (len(cells) if any(map(str.strip, cells)) else None)
        if end - first > 1 and width is not None and dialect.quoting:
            num_of_several_lines += 1
            if len(cells) == width and swallows([lines[i] for i in range(first, end)], dialect, width):
                swallowing.append(f"{first + 1}-{end}")
        yield first + 1, cells
    if swallowing:
        on_note(_swallowed(source, swallowing, num_of_several_lines))


def _swallowed(source: str, swallowing: list[str], num_of_several_lines: int) -> Note:
    text = (
        f"{len(swallowing)} of {num_of_several_lines} rows with line breaks in quotes look like several rows: each of "
        f"their lines has the header's number of fields ({lines_listing(swallowing)}); where quotes are text: "
        f"--quoting off"
    )
    return Note(source, text, logging.WARNING)


def _problem(lines: Lines, span: Span, dialect: Dialect) -> str:
    if not dialect.quoting:
        return f"ends with the escape character {dialect.escape}"
    until = "" if span.end == span.first + 1 else f" that closes in line {span.end}"
    is_escaped = dialect.escape is None and '\\"' in lines[span.first]
    mend = r"where \" is a quote: --escape '\'" if is_escaped else "where quotes are text: --quoting off"
    return f"has text after a quoted cell{until} (a quote inside a cell is written twice; {mend})"


@cells_of_any_length()
def _is_open(lines: Lines, start: int, end: int, dialect: Dialect) -> bool:
    """Whether the row that begins at `start` is still inside quotes at `end`, the end of the file."""
    # A blank line is a row of its own, unless it is inside quotes.
    return end not in lines and list(dialect.reader([*lines.since(start), ""], strict=False))[-1] != []


@cells_of_any_length()
def _open_quote(lines: Lines, start: int, dialect: Dialect) -> str:
    *closed, _ = next(dialect.reader(lines.since(start), strict=False))
    line = start + 1 + sum(map(line_breaks, closed))
    return f"the quote that opens in line {line} is never closed; where quotes are text: --quoting off"
