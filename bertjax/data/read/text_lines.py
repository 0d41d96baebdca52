"""Text files as lines, decoded chunk by chunk."""

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from bertjax.errors import DataError

_READ_BYTES = 2**20


def decoded_lines(file: BinaryIO, source: str, encoding: str) -> Iterator[str]:
    r"""The lines of a text file with their ends (\n, \r or \r\n), so that lines count as an editor shows them.

    Raises:
      DataError: an unknown encoding, or bytes that are not text in it.
    """
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise DataError(f"--encoding {encoding} is unknown; utf-8, utf-16, latin-1 and cp1252 are common") from None
    line, rest, is_first = 1, "", True
    while True:
        content = file.read(_READ_BYTES)
        try:
            text = decoder.decode(content, final=not content)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            line += line_breaks(rest + error.object[: error.start].decode(encoding, errors="ignore"))
            raise DataError(
                f"{source} is not {encoding}: byte 0x{byte:02x} in line {line} cannot be read; "
                f"save it as UTF-8 or name its --encoding"
            ) from None
        if is_first and text:
            text, is_first = text.removeprefix("\ufeff"), False
        lines = io.StringIO(rest + text, newline="").readlines()
        # The last line, or its line break, may continue in the next chunk.
        rest = lines.pop() if content and lines else ""
        line += len(lines)
        yield from lines
        if not content:
            return


def line_breaks(text: str) -> int:
    """The number of line breaks in a text."""
    return len(re.findall(r"\r\n|\r|\n", text))
