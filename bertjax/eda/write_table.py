"""Writes the rows of a table that stay: in the format of the file's suffix, with the columns and cells of the table.

What is written is read again, by the settings that read the table, and compared cell by cell before it gets its name.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bertjax.data.read.bad_rows import PLACE
from bertjax.data.read.catalog_tables import in_catalog
from bertjax.data.read.content import Reading
from bertjax.data.read.delimited.dialect import DialectSettings
from bertjax.data.read.sources import files_of, format_of, read_frames, stop
from bertjax.data.rows.cells import is_missing
from bertjax.data.rows.literals import plain
from bertjax.data.table import Table
from bertjax.errors import ConfigError, DataError, RunFolderError, writing

_CONLL = (".conll", ".conllu", ".bio", ".iob", ".iob2")
_HAS_LISTS = (".json", ".jsonl", ".ndjson", ".parquet")


def dropped_file(path: Path) -> Path:
    """The file beside a cleaned table that lists what was left out of it."""
    return path.with_name(f"{path.name.removesuffix(path.suffix)}.dropped.jsonl")


def check_cleaned_file(path: Path, table: Table, overwrite: bool) -> None:
    """Checks, before anything is read, that a cleaned table can be written.

    Raises:
      DataError: its format is unknown.
      ConfigError: it would be compressed, or hold documents.
      RunFolderError: the file, or that of the dropped rows, is there already, or is the table itself.
      DiskError: there is no such folder.
    """
    _, compression = format_of(path.name)
    if compression:
        raise ConfigError(f"--write-clean {path} would be compressed; name it {path.name.removesuffix(compression)}")
    if table.documents == "file":
        raise ConfigError("--write-clean writes one file, and --documents file reads one text a file; leave one out")
    with writing(path, "choose another file"):
        if path.exists() and not in_catalog(table.train):
            sources = [Path(file.name) for file in files_of(table.train)]
            if any(source.exists() and source.samefile(path) for source in sources):
                raise RunFolderError(f"--write-clean {path} is the table itself; choose another file")
        for file in (path, dropped_file(path)):
            if file.is_dir() or (file.exists() and not overwrite):
                raise RunFolderError(f"--write-clean: {file} exists; --overwrite replaces it")
        if not path.absolute().parent.is_dir():
            raise RunFolderError(f"--write-clean {path}: the folder {path.parent} does not exist; make it first")


def write_cleaned(
    path: Path, table: Table, frame: pd.DataFrame, kept: np.ndarray, dropped: Iterable[Mapping[str, Any]]
) -> None:
    """Writes the rows that stay, and beside them, a JSON object a line, those that do not.

    Args:
      path: its suffix says the format.
      table: how the frame was read.
      frame: all rows.
      kept: [k] places of those that stay, ascending.
      dropped: the others, and why.

    Raises:
      DataError: a format that cannot hold these cells, or no row that stays.
      DiskError: the operating system refuses.
    """
    if not len(kept):
        raise DataError("--drop leaves no row; nothing is written")
    kind, _ = format_of(path.name)
    scratch = path.with_name(f".{path.name.removesuffix(path.suffix)}.tmp{path.suffix}")
    lines = [json.dumps(dict(row), ensure_ascii=False) + "\n" for row in dropped]
    with writing(path, "free some space, or choose another file"):
        try:
            original = _parquet_of(table, len(frame)) if kind == ".parquet" else None
            if original is not None:
                from pyarrow import parquet

                parquet.write_table(original.take(kept), scratch)
            else:
                write_frame(scratch, frame.iloc[kept].reset_index(drop=True), table)
            scratch.replace(path)
            dropped_file(path).write_text("".join(lines), encoding="utf-8")
        finally:
            scratch.unlink(missing_ok=True)


def _parquet_of(table: Table, num_rows: int) -> Any:
    """The table as it is stored, types and metadata and all, where it is in parquet files with a row a row."""
    import pyarrow
    from pyarrow import parquet

    if in_catalog(table.train):
        return None
    files = files_of(table.train)
    if any(format_of(file.name) != (".parquet", "") for file in files):
        return None
    stored = []
    for file in files:
        with file.open() as content:
            stored.append(parquet.read_table(content))
    whole = pyarrow.concat_tables([part.select(stored[0].column_names) for part in stored])
    return whole if whole.num_rows == num_rows else None


def _by_words(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a row for each word again, where the reader made one row of those of a sentence."""
    lists = [name for name in frame.columns if any(isinstance(cell, list) for cell in frame[name].tolist())]
    return frame.explode(lists, ignore_index=True) if lists else frame


def write_frame(path: Path, frame: pd.DataFrame, table: Table) -> None:
    """Writes a frame in the format of the file's suffix, and reads it back.

    Args:
      path: the file.
      frame: rows of a table, as they were read.
      table: how.

    Raises:
      DataError: a format that cannot hold these cells.
    """
    kind, _ = format_of(path.name)
    frame = frame.drop(columns=[PLACE], errors="ignore")
    frame = frame if kind in (*_HAS_LISTS, *_CONLL) else _by_words(frame)
    for write in _writers(kind, table):
        try:
            write(path, frame, table.encoding)
            if _is_read_back(path, frame, table):
                return
        except (csv.Error, UnicodeEncodeError, DataError):
            continue  # the next way, or none
    raise DataError(f"cells of {table.train} cannot be written as {kind} so that they are read back; write .jsonl")


def _writers(kind: str, table: Table) -> list[Callable[[Path, pd.DataFrame, str], None]]:
    """The ways to write a format, the usual one first."""
    if kind in (".csv", ".tsv"):
        settings = DialectSettings.of(table)
        delimiter = settings.delimiter or {".csv": ",", ".tsv": "\t"}[kind]
        styles = [csv.QUOTE_MINIMAL, csv.QUOTE_NONE]
        if settings.quoting == "off" or (settings.quoting is None and delimiter == "\t"):
            styles.reverse()
        return [_delimited(delimiter, style, settings.escape or None) for style in styles]
    if kind in _CONLL:
        return [_write_conll("\t" if kind == ".conllu" else " ")]
    return [{".json": _write_json, ".txt": _write_lines, ".xlsx": _write_sheet, ".parquet": _write_parquet}.get(
        kind, _write_json_lines
    )]  # fmt: skip


def _delimited(delimiter: str, style: Any, escape: str | None) -> Callable[[Path, pd.DataFrame, str], None]:
    def write(path: Path, frame: pd.DataFrame, encoding: str) -> None:
        with path.open("w", encoding=encoding, newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, quoting=style, escapechar=escape, quotechar='"',
                                lineterminator="\n")  # fmt: skip
            writer.writerow(frame.columns)
            writer.writerows(_cells(frame, ""))

    return write


def _write_conll(separator: str) -> Callable[[Path, pd.DataFrame, str], None]:
    def write(path: Path, frame: pd.DataFrame, encoding: str) -> None:
        with path.open("w", encoding=encoding, newline="") as file:
            for columns in _cells(frame, ()):
                lines = zip_longest(*columns, fillvalue="_")
                file.write("".join(separator.join(map(str, line)) + "\n" for line in lines) + "\n")

    return write


def _write_json_lines(path: Path, frame: pd.DataFrame, encoding: str) -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in _records(frame))


def _write_json(path: Path, frame: pd.DataFrame, encoding: str) -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        file.write("[\n" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in _records(frame)) + "\n]\n")


def _write_lines(path: Path, frame: pd.DataFrame, encoding: str) -> None:
    if len(frame.columns) > 1:
        raise DataError("lines of text have one column")
    with path.open("w", encoding=encoding, newline="") as file:
        file.writelines(f"{text}\n" for (text,) in _cells(frame, ""))


def _write_sheet(path: Path, frame: pd.DataFrame, encoding: str) -> None:
    frame.to_excel(path, index=False)


def _write_parquet(path: Path, frame: pd.DataFrame, encoding: str) -> None:
    frame.to_parquet(path, index=False)


def _records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    return (dict(zip(frame.columns, row, strict=True)) for row in _cells(frame, None))


def _cells(frame: pd.DataFrame, missing: Any) -> Iterator[Sequence[Any]]:
    """The cells of each row, as Python's own values."""
    columns = [[_plain(cell, missing) for cell in frame[name].tolist()] for name in frame.columns]
    return zip(*columns, strict=True)


def _plain(cell: Any, missing: Any) -> Any:
    if is_missing(cell):
        return missing
    return plain(cell) if isinstance(cell, list | tuple | dict | np.ndarray) else cell


def _is_read_back(path: Path, frame: pd.DataFrame, table: Table) -> bool:
    """Whether reading a file gives a frame."""
    frames = list(read_frames(files_of(str(path))[0], Reading.of(table), stop, lambda note: None))
    found = pd.concat(frames, ignore_index=True).drop(columns=[PLACE], errors="ignore")
    names = list(map(str, frame.columns))
    if sorted(found.columns) != sorted(names) or len(found) != len(frame):
        return False
    rows = zip(_cells(frame, None), _cells(found[names], None), strict=True)
    return all(list(map(_text, one)) == list(map(_text, other)) for one, other in rows)


def _text(cell: Any) -> Any:
    """A cell to compare: formats without types hold the text of a number."""
    return cell if cell is None else str(cell)
