"""Notes: what a reader decided or noticed about a file, for the log.

A worker of Ray has no log that a user sees, so a note is a value that travels with the rows.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

logger = logging.getLogger(__name__)

LISTED_LINES = 3


class Note(NamedTuple):
    """What a user should know of a file."""

    file: str  # its name
    text: str  # one clause
    level: int = logging.INFO  # WARNING where rows may be wrong


OnNote = Callable[[Note], None]
"""Called with each note of a file."""


@contextmanager
def logged_notes() -> Iterator[OnNote]:
    """Logs the notes of some files at the end, also where that is an error; one line for files with the same note."""
    files: dict[tuple[int, str], dict[str, None]] = {}

    def keep(note: Note) -> None:
        files.setdefault((note.level, note.text), {})[note.file] = None

    try:
        yield keep
    finally:
        for (level, text), (first, *others) in files.items():
            more = f" and {len(others)} other file{'' if len(others) == 1 else 's'}" if others else ""
            logger.log(level, "%s%s: %s", first, more, text)


def lines_listing(lines: list[str]) -> str:
    """The first of some lines, or ranges of lines, as notes show them.

    >>> lines_listing(["2-4", "9", "12", "20"])
    'lines 2-4, 9, 12 and 1 more'
    """
    more = f" and {len(lines) - LISTED_LINES} more" if len(lines) > LISTED_LINES else ""
    return f"line{'' if lines[0].isdecimal() and len(lines) == 1 else 's'} {', '.join(lines[:LISTED_LINES])}{more}"
