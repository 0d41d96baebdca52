r"""The dialect of delimited text, and its rows as the csv module parses them."""

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from bertjax.data.read.text_lines import Lines
from bertjax.data.table import Table

DELIMITER_NAMES = {"\t": "a tab", ",": "a comma"}


class Dialect(NamedTuple):
    """How the cells of a file are written."""

    delimiter: str = ","  # between the cells of a row
    quoting: bool = True  # a cell that begins with a quote ends with one; a quote inside it is written twice
    escape: str | None = None  # what follows this character is text
    skip_initial_space: bool = False  # spaces after a delimiter are no part of the cell

    def reader(self, lines: Iterable[str], strict: bool = True) -> Any:
        """The csv module's reader of rows; a strict one raises `csv.Error` at a broken row."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoting else csv.QUOTE_NONE,
            escapechar=self.escape,
            skipinitialspace=self.skip_initial_space,
            strict=strict,
        )

    def width(self, line: str) -> int:
        """The number of cells of a line in which quotes are text."""
        return line.count(self.delimiter) + 1

    def cell_opens_with_quote(self, line: str) -> bool:
        """Whether a cell of a line begins with a quote, or with spaces and one; all else reads alike with quoting and
        without it."""
        return '"' in line and re.search(f'(?:^|{re.escape(self.delimiter)}) *"', line) is not None


class DialectSettings(NamedTuple):
    """What a user says of the dialect of all files; None is for each file to show."""

    delimiter: str | None = None
    quoting: Literal["on", "off"] | None = None
    escape: str | None = None  # empty: none

    @classmethod
    def of(cls, table: Table) -> "DialectSettings":
        """The settings of a table; a shell cannot easily write a tab, so `\\t` is one too."""
        return cls("\t" if table.delimiter == r"\t" else table.delimiter, table.quoting, table.escape)


class Span(NamedTuple):
    """A row and its lines, counted from 0."""

    first: int
    end: int  # index of the line after it, or after the line in which a broken row ends
    cells: list[str] | None  # None where the row is broken


def spans(lines: Lines, start: int, dialect: Dialect) -> Iterator[Span]:
    """Each row from line `start` on, without those of blank lines; the lines before it are forgotten.

    A quoted cell followed by anything but a separator is broken: most often its quote was never closed, and the next
    quote of the file seems to close it. Only its first line is dropped, so the rows that it swallowed are read again.
    So is a row that is still inside quotes at the end of the file.
    """
    while start in lines:
        reader = dialect.reader(lines.since(start))
        first = start
        try:
            while True:
                with cells_of_any_length():
                    row = next(reader, None)
                if row is None:
                    break
                end = first + reader.line_num
                if row:
                    yield Span(start, end, row)
                start = end
                lines.forget(start)
        except csv.Error:
            yield Span(start, first + reader.line_num, None)
            start += 1


@contextmanager
def cells_of_any_length() -> Iterator[None]:
    """Lifts the csv module's limit of a cell, 131072 characters, which is shorter than a book; it is global."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
