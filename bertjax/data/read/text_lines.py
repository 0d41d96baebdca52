"""Text files as lines."""

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from bertjax.errors import DataError


def decoded_lines(file: BinaryIO, source: str, encoding: str) -> Iterator[str]:
    r"""The lines of a text file with their ends (\n, \r or \r\n), so that lines count as an editor shows them.

    Raises:
      DataError: an unknown encoding, or bytes that are not text in it.
    """
    number = 0
    try:
        with io.TextIOWrapper(file, encoding, newline="") as lines:
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


def line_breaks(text: str) -> int:
    """The number of line breaks in a text."""
    return len(re.findall(r"\r\n|\r|\n", text))
