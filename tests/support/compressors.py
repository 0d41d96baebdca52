"""Every compression that bertjax reads, by its suffix."""

import bz2
import gzip
import lzma

import pyarrow

from tests.support.tables import zipped


def zstd(content: bytes) -> bytes:
    """Content compressed as by zstd."""
    return bytes(pyarrow.compress(content, codec="zstd", asbytes=True))


COMPRESSORS = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
    # As macOS makes them.
    ".zip": lambda content: zipped(content, "t", "__MACOSX/._t"),
}
