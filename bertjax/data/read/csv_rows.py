"""Rows of delimited text, with the line of each and with quotes that are never closed.

The csv module parses cells, but does not say in which line a row begins, and cannot continue after a broken row.
"""

import csv
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from bertjax.data.read.text_lines import line_breaks
from bertjax.errors import DataError


def csv_rows(text_lines: Iterator[str], source: str, separator: str) -> Iterator[tuple[int, list[str] | str]]:
    """Each row that is not blank: its first line, and its cells or the problem with them.

    A quoted cell followed by anything but a separator is a problem: most often its quote was never closed, and the next
    quote of the file seems to close it. Only its first line is dropped, so the rows that it swallowed are read again.

    Raises:
      DataError: a quote that is open at the end of the file.
    """
    lines, start = _Lines(text_lines), 0
    while start in lines:
        reader = csv.reader(lines.since(start), delimiter=separator, strict=True)
        first = start
        try:
            while True:
                with _cells_of_any_length():
                    row = next(reader, None)
                if row is None:
                    break
                if row:
                    yield start + 1, row
                start = first + reader.line_num
                lines.forget(start)
        except csv.Error:
            end = first + reader.line_num
            if _is_open(lines, start, end, separator):
                raise DataError(f"{source}: {_open_quote(lines, start, separator)}") from None
            until = "" if end == start + 1 else f" that closes in line {end}"
            yield start + 1, f"has text after a quoted cell{until} (a quote inside a cell is written twice)"
            start += 1


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    # The csv module's limit, 131072 characters, is shorter than a book. It is global, so it is restored.
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


class _Lines:
    """Lines of a file by index, read on demand and kept until `forget`."""

    def __init__(self, lines: Iterator[str]):
        self._lines, self._kept, self._first = lines, deque[str](), 0

    def __contains__(self, index: int) -> bool:
        while index >= self._first + len(self._kept):
            line = next(self._lines, None)
            if line is None:
                return False
            self._kept.append(line)
        return True

    def since(self, start: int) -> Iterator[str]:
        """The lines from `start` to the end of the file."""
        while start in self:
            yield self._kept[start - self._first]
            start += 1

    def forget(self, end: int) -> None:
        """Drops the lines before `end`."""
        while self._kept and self._first < end:
            self._kept.popleft()
            self._first += 1


@_cells_of_any_length()
def _is_open(lines: _Lines, start: int, end: int, separator: str) -> bool:
    """Whether the row that begins at `start` is still inside quotes at `end`, the end of the file."""
    # A blank line is a row of its own, unless it is inside quotes.
    return end not in lines and list(csv.reader([*lines.since(start), ""], delimiter=separator))[-1] != []


@_cells_of_any_length()
def _open_quote(lines: _Lines, start: int, separator: str) -> str:
    *closed, _ = next(csv.reader(lines.since(start), delimiter=separator))
    return f"the quote that opens in line {start + 1 + sum(map(line_breaks, closed))} is never closed"
