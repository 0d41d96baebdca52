"""One reader a format: from the bytes of a file to a frame and the rows that are broken.

A csv has no types, so its cells are read as text and only an empty cell is missing: the words "NA" and "null" are
words, and the label "01" stays "01". The cells of a sheet are read the same way. JSON and parquet have types: a column
of strings becomes a column of strings, and any other keeps the values that the file holds.
"""

import csv
import io
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pandas as pd

from bertjax.data.bad_rows import BadRow, OnBadRow
from bertjax.data.conll import read_conll
from bertjax.data.squad import is_squad, squad_records
from bertjax.errors import DataError

Reader = Callable[[bytes, str, str, OnBadRow], pd.DataFrame]
"""Content, name for messages, encoding, what to do with each broken row as it is met -> all rows that can be read.

Raises DataError where the rest of a file cannot be read either.
"""


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    # The csv module's own limit, 131072 characters, is shorter than a book. It is the process's, so it is put back.
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@_cells_of_any_length()
def _read_delimited(content: bytes, source: str, encoding: str, on_bad_row: OnBadRow, separator: str) -> pd.DataFrame:
    rows = _split_rows(_decode(content, source, encoding), source, separator)
    line, header = next((row for row in rows if any(map(str.strip, row[1]))), (1, None))
    if header is None:
        raise DataError(f"{source} is empty; it needs a header and rows")
    if isinstance(header, str):
        raise DataError(f"{source}: line {line} {header}")
    names = _header(header, source)
    kept: list[list[str]] = []
    for line, row in rows:
        if isinstance(row, str):
            on_bad_row(BadRow(source, line, row))
        elif len(row) == len(names):
            kept.append(row)
        elif len(row) > 1 or row[0].strip():
            wrong = f"has {len(row)} field{'' if len(row) == 1 else 's'}, the header has {len(names)}"
            hint = " (a cell with the separator in it needs quotes)" if len(row) > len(names) else ""
            on_bad_row(BadRow(source, line, wrong + hint))
    columns: Iterable[Sequence[str]] = zip(*kept, strict=True) if kept else [()] * len(names)
    cells = {name: [cell or None for cell in column] for name, column in zip(names, columns, strict=True)}
    return _frame(cells)


def _split_rows(text: str, source: str, separator: str) -> Iterator[tuple[int, list[str] | str]]:
    """Each row that is not blank: the line where it begins, and its cells or what is wrong with it.

    A cell in quotes that something other than a separator follows is wrong: most often its quote was never closed, and
    the next quote of the file seems to close it. Only its first line is given up, so the rows it swallowed come back.

    Raises:
      DataError: a quote that is open at the end of the file.
    """
    # Line by line, \r and \r\n included, so that the csv module counts the lines an editor shows.
    lines = io.StringIO(text, newline="").readlines()
    start = 0
    while start < len(lines):
        reader = csv.reader(map(lines.__getitem__, range(start, len(lines))), delimiter=separator, strict=True)
        first = start
        try:
            for row in reader:
                if row:
                    yield start + 1, row
                start = first + reader.line_num
        except csv.Error:
            end = first + reader.line_num
            if _is_open(lines, start, end, separator):
                raise DataError(f"{source}: {_open_quote(lines, start, separator)}") from None
            until = "" if end == start + 1 else f" that closes in line {end}"
            yield start + 1, f"has text after a quoted cell{until} (a quote inside a cell is written twice)"
            start += 1


def _is_open(lines: list[str], start: int, end: int, separator: str) -> bool:
    """Whether the row that begins at `start` is still inside quotes at `end`, the end of the file."""
    # A blank line is a row of its own, unless it falls inside quotes.
    return end == len(lines) and list(csv.reader([*lines[start:end], ""], delimiter=separator))[-1] != []


def _open_quote(lines: list[str], start: int, separator: str) -> str:
    *closed, _ = next(csv.reader(map(lines.__getitem__, range(start, len(lines))), delimiter=separator))
    return f"the quote that opens in line {start + 1 + sum(map(_breaks, closed))} is never closed"


def _read_json_lines(content: bytes, source: str, encoding: str, on_bad_row: OnBadRow) -> pd.DataFrame:
    text = _decode(content, source, encoding)
    if not text.strip():
        raise DataError(f"{source} is empty; it needs one JSON object a line")
    records = []
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        if not line.strip():
            continue
        try:
            record = _parse_json(line)
        except json.JSONDecodeError as error:
            on_bad_row(BadRow(source, number, f"is no JSON object: {error.msg} (character {error.pos + 1})"))
            continue
        except ValueError as error:
            on_bad_row(BadRow(source, number, f"is no JSON object: {error}"))
            continue
        if isinstance(record, dict):
            records.append(record)
        else:
            on_bad_row(BadRow(source, number, f"is no JSON object but {_kind(record)}"))
    return _frame(_columns(records))


def _read_json(content: bytes, source: str, encoding: str, on_bad_row: OnBadRow) -> pd.DataFrame:
    text = _decode(content, source, encoding)
    if not text.strip():
        raise DataError(f"{source} is empty; it needs an array of objects")
    try:
        table = _parse_json(text)
    except json.JSONDecodeError as error:
        hint = "; name a file with one object a line .jsonl" if error.msg == "Extra data" else ""
        line = 1 + _breaks(text[: error.pos])
        raise DataError(f"{source} cannot be read as JSON: line {line}: {error.msg}{hint}") from None
    except ValueError as error:
        raise DataError(f"{source} cannot be read: {error}") from None
    if isinstance(table, list):
        wrong = next((i for i, row in enumerate(table) if not isinstance(row, dict)), None)
        if wrong is not None:
            raise DataError(f"{source} is no table: item {wrong + 1} of its array is {_kind(table[wrong])}, no object")
        return _frame(_columns(table))
    if is_squad(table):
        return _frame(_columns(list(squad_records(table))))
    if isinstance(table, dict) and all(isinstance(column, list | dict) for column in table.values()):
        columns = list(table.values())
        # pandas writes a column as an object, from row label to cell.
        labels = [list(column) if isinstance(column, dict) else len(column) for column in columns]
        if any(label != labels[0] for label in labels):
            raise DataError(f"{source} is no table: its columns have different rows")
        cells = [list(column.values()) if isinstance(column, dict) else column for column in columns]
        return _frame(dict(zip(table, cells, strict=True)))
    raise DataError(f"{source} is no table; it must hold an array of objects, or an object of columns")


def _parse_json(text: str) -> Any:
    """The value that `text` holds.

    Raises:
      ValueError: text that is no JSON, is nested too deeply, or escapes half of a character.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # A lone surrogate is legal JSON and no text: neither a file nor a tokenizer can take it.
    if re.search(r"\\u[dD]", text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(r"a \u escape is half of a surrogate pair") from None
    return value


def _kind(value: object) -> str:
    kinds = {list: "an array", dict: "an object", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _read_text(content: bytes, source: str, encoding: str, on_bad_row: OnBadRow) -> pd.DataFrame:
    """A row for each line that is not blank."""
    lines = re.split(r"\r\n|\r|\n", _decode(content, source, encoding))
    return _frame({"text": [line for line in lines if line.strip()]})


def _read_conll(content: bytes, source: str, encoding: str, on_bad_row: OnBadRow) -> pd.DataFrame:
    return _frame(read_conll(_decode(content, source, encoding), source, on_bad_row))


def _read_parquet(content: bytes, source: str, encoding: str, on_bad_row: OnBadRow) -> pd.DataFrame:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        _check_names(file.schema_arrow.names, source)
        frame = file.read().to_pandas()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{source} cannot be read; it is cut short or no parquet file: {reason}") from None
    # pandas saves a named index apart from the columns; a text or label may be in it.
    return frame.reset_index(drop=list(frame.index.names) == [None])


def _read_sheet(content: bytes, source: str, encoding: str, on_bad_row: OnBadRow) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # It warns of styles and menus that it does not know, and no cell depends on.
            warnings.filterwarnings("ignore", module="openpyxl")
            grid = pd.read_excel(
                io.BytesIO(content),
                header=None,
                dtype=str,
                keep_default_na=False,
                na_values=[""],
                engine="openpyxl",
            )
    # openpyxl lets through whatever the zip and XML inside it raise.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{source} cannot be read; it is damaged or no xlsx file: {reason}") from None
    grid = grid.dropna(how="all").dropna(how="all", axis="columns")
    if grid.empty:
        raise DataError(f"{source} is empty: its first sheet has no cells; it needs a header and rows")
    header, rows = grid.iloc[0], grid.iloc[1:]
    names = _header(["" if pd.isna(cell) else cell for cell in header], source)
    return rows.set_axis(names, axis="columns").reset_index(drop=True)


def _decode(content: bytes, source: str, encoding: str) -> str:
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        line = 1 + _breaks(error.object[: error.start].decode(encoding, errors="ignore"))
        raise DataError(
            f"{source} is not {encoding}: byte 0x{byte:02x} in line {line} cannot be read; "
            f"save it as UTF-8 or name its --encoding"
        ) from None
    except LookupError:
        raise DataError(f"--encoding {encoding} is unknown; utf-8, utf-16, latin-1 and cp1252 are common") from None


def _breaks(text: str) -> int:
    return len(re.findall(r"\r\n|\r|\n", text))


def _header(cells: Sequence[str], source: str) -> list[str]:
    """Column names; a nameless column, such as an index that pandas wrote, is named as pandas names it."""
    names = [cell or f"Unnamed: {i}" for i, cell in enumerate(cells)]
    _check_names(names, source)
    return names


def _check_names(names: Sequence[str], source: str) -> None:
    twice = sorted({repr(name) for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(f"{source} has two columns or more of the name {', '.join(twice)}; rename all but one")


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Records as columns; a key that a record lacks is missing there."""
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _frame(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    # pandas' own guess would turn integers with a gap into floats, and large ones into other integers.
    return pd.DataFrame(
        {
            name: pd.Series(cells, dtype="str" if all(c is None or isinstance(c, str) for c in cells) else "object")
            for name, cells in columns.items()
        }
    )


READERS: Mapping[str, Reader] = {
    ".csv": partial(_read_delimited, separator=","),
    ".tsv": partial(_read_delimited, separator="\t"),
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".txt": _read_text,
    **dict.fromkeys([".conll", ".bio", ".iob", ".iob2"], _read_conll),
    ".parquet": _read_parquet,
    ".xlsx": _read_sheet,
}
