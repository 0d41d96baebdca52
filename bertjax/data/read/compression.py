"""What the bytes of a file are, whatever its name says: compressed or not, and a few things that are no table."""

import bz2
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO, NamedTuple

from bertjax.data.read.notes import Note, OnNote
from bertjax.errors import DataError


def _unzstd(file: BinaryIO) -> BinaryIO:
    # The standard library has no zstd before Python 3.14; parquet needs pyarrow anyway.
    import pyarrow

    return pyarrow.input_stream(file, compression="zstd")


def _unzip(file: BinaryIO) -> BinaryIO:
    with zipfile.ZipFile(io.BytesIO(file.read())) as archive:
        # macOS adds a folder of its own to its archives.
        inside = [f for f in archive.infolist() if not f.is_dir() and not f.filename.startswith("__MACOSX/")]
        if len(inside) != 1:
            raise ValueError(f"a zip must hold one file, this one holds {len(inside)}")
        return io.BytesIO(archive.read(inside[0]))


class Compression(NamedTuple):
    """A way to compress a file."""

    begins: re.Pattern[bytes]  # first bytes of such files
    open: Callable[[BinaryIO], Any]  # compressed file -> file


COMPRESSIONS: Mapping[str, Compression] = {
    ".gz": Compression(re.compile(rb"\x1f\x8b\x08"), partial(gzip.open, mode="rb")),
    ".bz2": Compression(re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), partial(bz2.open, mode="rb")),
    ".zst": Compression(re.compile(rb"\x28\xb5\x2f\xfd"), _unzstd),
    ".xz": Compression(re.compile(rb"\xfd7zXZ\x00"), partial(lzma.open, mode="rb")),
    ".zip": Compression(re.compile(rb"PK\x03\x04"), _unzip),
}
"""By the suffix of a file."""

_PARQUET = b"PAR1"
_NO_TEXT = {
    _PARQUET: "is a parquet file; name it .parquet",
    b"\xd0\xcf\x11\xe0": "is a file of an old Excel; save its sheet as .xlsx or .csv",
    b"%PDF": "is a PDF file",
    b"version https://git-lfs": "is only a pointer of Git LFS to the file; get the file itself with git lfs pull",
}
"""First bytes of what is kept under the name of a table -> what to say of it."""

_BINARY = (".parquet", ".xlsx")  # formats whose readers say themselves what is wrong
_PEEKED_BYTES = 32


def decompressed(file: BinaryIO, name: str, kind: str, compression: str, on_note: OnNote) -> Any:
    """A file for reading without its compression.

    Args:
      file: its bytes.
      name: for messages.
      kind: the suffix of its format.
      compression: the suffix of its compression, or an empty string; the first bytes decide where they say otherwise.
      on_note: told where they do.

    Raises:
      DataError: the file is no text, in a format of text.
    """
    buffered: Any = file if hasattr(file, "peek") else io.BufferedReader(file)
    found = _compression_of(buffered.peek(_PEEKED_BYTES)[:_PEEKED_BYTES], kind, compression)
    if found != compression:
        says = f"is compressed as {found} files are" if found else f"is not compressed as {compression} files are"
        on_note(Note(name, f"{says}, whatever its name says"))
    content: Any = COMPRESSIONS[found].open(buffered) if found else buffered
    if kind in _BINARY:
        return content
    content = content if hasattr(content, "peek") else io.BufferedReader(content)
    begins = content.peek(_PEEKED_BYTES)
    for magic, what in _NO_TEXT.items():
        if begins.startswith(magic):
            raise DataError(f"{name} {what}")
    return content


def _compression_of(begins: bytes, kind: str, named: str) -> str:
    """The suffix of a file's compression: by its first bytes, or by its name where these say nothing."""
    found = next((suffix for suffix, known in COMPRESSIONS.items() if known.begins.match(begins)), "")
    if kind == ".xlsx" and found == ".zip" and named != ".zip":
        return ""  # a sheet is a zip itself
    return found if found or _is_text(begins) or begins.startswith(_PARQUET) else named


def _is_text(begins: bytes) -> bool:
    return bool(begins) and not re.search(rb"[\x00-\x08\x0e-\x1f]", begins)
