"""Reads tables: finds the files that a source names, and reads the rows of all of them into one frame.

A source is a file, a pattern of several, an address (on the web, or in a store that fsspec knows), or a data set of the
catalog.
"""

import hashlib
import io
import logging
import re
import sys
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from glob import escape, glob
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, NamedTuple
from urllib.error import URLError
from urllib.parse import urlsplit

import pandas as pd

from bertjax import catalog
from bertjax.data.read.bad_rows import BadRow, OnBadRow
from bertjax.data.read.catalog_tables import in_catalog, read_catalog
from bertjax.data.read.compression import COMPRESSIONS, decompressed
from bertjax.data.read.content import Content, Reader, Reading
from bertjax.data.read.file_formats import READERS, read_document
from bertjax.data.read.notes import OnNote, logged_notes
from bertjax.data.table import Documents
from bertjax.errors import DataError

logger = logging.getLogger(__name__)

DOWNLOAD_TIMEOUT_SECONDS = 60
_LISTED = 3
_HASHED_BYTES = 2**20  # read at a time
_DEFAULT_READING = Reading()


class ReadTable(NamedTuple):
    """The content of a source."""

    frame: pd.DataFrame  # all columns of the readable rows
    skipped: tuple[BadRow, ...] = ()  # the other rows, in the order of the files


def read_table(
    source: str, reading: Reading = _DEFAULT_READING, on_bad_row: Literal["stop", "skip"] = "stop"
) -> ReadTable:
    """All columns and rows of a source.

    Args:
      source: a path, a pattern of paths (`*.csv`, read in the order of their names), an address, or the name of a
        catalog data set.
      reading: how its files are read.
      on_bad_row: "stop" raises at the first broken row; "skip" leaves broken rows out, and logs and returns them. A row
        is broken when it has more or fewer fields than the header, or is no JSON object.

    Raises:
      DataError: the source is missing, empty, broken (with its line) or of an unknown format, or its files have
        different columns.
      AssetError: a catalog data set cannot be fetched.
    """
    if in_catalog(source):
        return ReadTable(read_catalog(source))
    files = files_of(source)
    skipped: list[BadRow] = []
    on_broken = stop if on_bad_row == "stop" else skipped.append
    with logged_notes() as on_note:
        frame = _joined((file.name, part) for file in files for part in read_frames(file, reading, on_broken, on_note))
    if frame.empty:
        raise DataError(f"{source} has no rows" + (f" but {listing(skipped)}" if skipped else ""))
    if skipped:
        logger.warning("%s: left out %s", source, listing(skipped))
    return ReadTable(frame, tuple(skipped))


class File(NamedTuple):
    """A local or remote file."""

    name: str  # path or address; its suffix is the format
    open: Callable[[], Any]  # opens it for reading bytes, in any process, whatever its current folder is


def files_of(source: str) -> list[File]:
    """The files that a source names.

    Raises:
      DataError: there are none, or they cannot be reached.
    """
    with _reading(source):
        address = re.match(r"([a-z][a-z0-9+.-]*)://", source, re.IGNORECASE)
        scheme = address.group(1).lower() if address else None
        if scheme in ("http", "https"):
            return [File(source, partial(_download, source))]
        if scheme == "file":
            return _local_files(urllib.request.url2pathname(urlsplit(source).path))
        return _stored_files(source) if scheme else _local_files(source)


def read_frames(
    file: File, reading: Reading, on_bad_row: OnBadRow, on_note: OnNote, most_rows: int = sys.maxsize
) -> Iterator[pd.DataFrame]:
    """The rows of a file, in frames of `most_rows` rows or fewer.

    Raises:
      DataError: the file cannot be read, or is of an unknown format.
    """
    kind, compression = format_of(file.name, reading.documents)
    read: Reader = read_document if reading.documents == "file" else READERS[kind]
    with (
        _reading(file.name),
        file.open() as stored,
        decompressed(stored, file.name, kind, compression, on_note) as content,
    ):
        for frame in read(Content(content, file.name, reading, on_bad_row, on_note, most_rows)):
            for start in range(0, max(1, len(frame)), most_rows):
                yield frame.iloc[start : start + most_rows].reset_index(drop=True)


def content_digest(file: File) -> str:
    """16 hexadecimal digits that change with any byte of a file.

    Raises:
      DataError: the file cannot be read.
    """
    content = hashlib.sha256()
    with _reading(file.name), file.open() as stored:
        while piece := stored.read(_HASHED_BYTES):
            content.update(piece)
    return content.hexdigest()[:16]


def _local_files(source: str) -> list[File]:
    path = Path(source)
    if path.is_dir():
        raise DataError(f"{source} is a folder; name a file in it, or several: {path / '*.csv'}")
    if path.exists():
        return [File(source, partial(path.absolute().open, "rb"))]
    if not _is_pattern(source):
        raise FileNotFoundError
    # Path.glob would find hidden files too, such as those that macOS puts beside its archives.
    names = sorted(name for name in glob(_pattern(source), recursive=True) if Path(name).is_file())  # noqa: PTH207
    return [File(name, partial(Path(name).absolute().open, "rb")) for name in _not_empty(names, source)]


def _pattern(source: str) -> str:
    """A pattern of files, in which the folders that exist as they are written mean themselves."""
    parts = source.split("/")
    heads = ("/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    folder = next((head for head in heads if head and Path(head).is_dir()), "")
    return escape(folder) + source.removeprefix(folder)


def _stored_files(address: str) -> list[File]:
    from fsspec.core import url_to_fs

    store, path = url_to_fs(address)
    if not _is_pattern(address) or store.exists(path):
        return [File(address, partial(store.open, path, "rb"))]
    matches: Mapping[str, Any] = store.glob(path, detail=True)
    names = sorted(name for name, info in matches.items() if info["type"] == "file")
    return [File(store.unstrip_protocol(name), partial(store.open, name, "rb")) for name in _not_empty(names, address)]


def _is_pattern(source: str) -> bool:
    return any(sign in source for sign in "*?[")


def _not_empty(names: list[str], pattern: str) -> list[str]:
    if not names:
        raise DataError(f"no file matches {pattern}")
    return names


def _download(address: str) -> BinaryIO:
    with urllib.request.urlopen(address, timeout=DOWNLOAD_TIMEOUT_SECONDS) as answer:
        return io.BytesIO(answer.read())


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turns every error of opening or reading a file into one line."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        known = ", ".join(catalog.names("data"))
        raise DataError(f"{name} does not exist; give a file, a URL, or one of {known}") from None
    except ImportError as error:
        # fsspec has another message for each store; the cause always names the module.
        package = getattr(error.__cause__, "name", None) or error.name or str(error)
        raise DataError(f"{name} needs the package {package}, which is not installed: pip install {package}") from None
    # Each store and each compression raises exceptions of its own.
    except Exception as error:
        raise DataError(f"{name} cannot be read: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, URLError) and isinstance(error.reason, OSError):
        error = error.reason
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def stop(row: BadRow) -> None:
    """Ends the run at a broken row.

    Raises:
      DataError: always, with the place of the row.
    """
    raise DataError(f"{row}; mend it, or leave such rows out (--on-bad-row skip)")


def format_of(name: str, documents: Documents = "line") -> tuple[str, str]:
    """The suffixes of a file's format and of its compression, which is empty without one.

    Raises:
      DataError: the format is unknown.
    """
    is_web = re.match("https?://", name, re.IGNORECASE)
    *outer, last = ["", *(s.lower() for s in PurePosixPath(urlsplit(name).path if is_web else name).suffixes)]
    kind, compression = (outer[-1], last) if last in COMPRESSIONS else (last, "")
    if kind not in READERS:
        known, compressions = ", ".join(READERS), ", ".join(COMPRESSIONS)
        raise DataError(f"{name}: unknown format; bertjax reads {known}, compressed ({compressions}) or not")
    if documents == "file" and kind != ".txt":
        raise DataError(f"--documents file makes one row of a .txt file, and {name} is none; leave it out")
    return kind, compression


def _joined(parts: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """The rows of all parts, each with the name of its file; every file must have the columns of the first."""
    # A file of JSON lines whose rows are all broken has no columns.
    first, *rest = [(name, part) for name, part in parts if len(part.columns)] or [("", pd.DataFrame())]
    for name, part in rest:
        check_same_columns(first[0], first[1].columns, name, part.columns)
    return pd.concat([part for _, part in (first, *rest)], ignore_index=True) if rest else first[1]


def check_same_columns(first: str, expected: Iterable[str], name: str, columns: Iterable[str]) -> None:
    """Checks that a file has the columns of the first one, in any order.

    Raises:
      DataError: it has not.
    """
    columns, expected = list(columns), list(expected)
    missing = [repr(column) for column in expected if column not in columns]
    extra = [repr(column) for column in columns if column not in expected]
    if missing or extra:
        says = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"adds {', '.join(extra)}"] * bool(extra)
        raise DataError(f"{name} has other columns than {first}: it {' and '.join(says)}")


def listing(rows: Sequence[BadRow]) -> str:
    """The number of broken rows and the first of them, as messages show them."""
    shown = [str(row) for row in rows[:_LISTED]]
    more = [f"{len(rows) - _LISTED} more"] if len(rows) > _LISTED else []
    return f"{len(rows)} broken row{'' if len(rows) == 1 else 's'} ({'; '.join(shown + more)})"
