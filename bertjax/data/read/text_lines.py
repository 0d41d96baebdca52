"""Text files as lines."""

import codecs
import io
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO

from bertjax.data.read.notes import Note, OnNote
from bertjax.errors import DataError

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The marks that are no UTF-8, the longer ones first, since one begins with another."""


def decoded_lines(file: BinaryIO, source: str, encoding: str, on_note: OnNote) -> Iterator[str]:
    r"""The lines of a text file with their ends (\n, \r or \r\n), so that lines count as an editor shows them.

    A byte order mark is dropped; that of UTF-16 or UTF-32 decides the encoding, where it would be UTF-8.

    Raises:
      DataError: an unknown encoding, or bytes that are not text in it.
    """
    number = 0
    try:
        content: Any = file if hasattr(file, "peek") else io.BufferedReader(file)
        if codecs.lookup(encoding).name == "utf-8":
            encoding = _marked_encoding(content.peek(4)[:4], source, encoding, on_note)
        with io.TextIOWrapper(content, encoding, newline="") as lines:
            for number, line in enumerate(lines, start=1):
                yield line.removeprefix("\ufeff") if number == 1 else line
    except LookupError:
        raise DataError(f"--encoding {encoding} is unknown; utf-8, utf-16, latin-1 and cp1252 are common") from None
    except UnicodeDecodeError as error:
        readable, byte = error.object[: error.start], error.object[error.start]
        line_number = number + 1 + line_breaks(readable.decode(encoding, errors="ignore"))
        raise DataError(
            f"{source} is not {encoding}: byte 0x{byte:02x} in line {line_number} cannot be read; "
            f"save it as UTF-8 or name its --encoding"
        ) from None


def _marked_encoding(begins: bytes, source: str, encoding: str, on_note: OnNote) -> str:
    """The encoding by a byte order mark, or the one that was asked for.

    Raises:
      DataError: every second byte is zero, as in UTF-16 without a mark, which UTF-8 reads as other text.
    """
    for mark, marked in _BYTE_ORDER_MARKS.items():
        if begins.startswith(mark):
            on_note(Note(source, f"is read as {marked}, as its byte order mark says"))
            return marked
    zeros = [byte == 0 for byte in begins]
    if zeros in ([False, True] * 2, [True, False] * 2):
        unmarked = "utf-16-le" if zeros[1] else "utf-16-be"
        raise DataError(f"{source} is not {encoding}: every second byte is zero; name its --encoding {unmarked}")
    return encoding


def line_breaks(text: str) -> int:
    """The number of line breaks in a text."""
    return len(re.findall(r"\r\n|\r|\n", text))


class Lines:
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

    def __getitem__(self, index: int) -> str:
        return self._kept[index - self._first]

    def since(self, start: int) -> Iterator[str]:
        """The lines from `start` to the end of the file."""
        while start in self:
            yield self[start]
            start += 1

    def forget(self, end: int) -> None:
        """Drops the lines before `end`."""
        while self._kept and self._first < end:
            self._kept.popleft()
            self._first += 1
