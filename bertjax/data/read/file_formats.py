"""One reader a format: parses an open file into frames of its rows, and reports broken rows.

A csv has no types, so its cells are read as text and only an empty cell is missing: "NA" and "null" are words, and the
label "01" stays "01". The cells of a sheet are read the same way. JSON and parquet have types: a column of strings
becomes a column of strings, and any other column keeps the values of the file.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, NamedTuple, TypeVar

import pandas as pd

from bertjax.data.read.bad_rows import BadRow, OnBadRow
from bertjax.data.read.conll import read_conll
from bertjax.data.read.csv_rows import csv_rows
from bertjax.data.read.text_lines import decoded_lines, line_breaks
from bertjax.errors import DataError

T = TypeVar("T")


class Content(NamedTuple):
    """An open file."""

    file: BinaryIO  # its bytes, decompressed
    source: str  # name for messages
    encoding: str  # of text
    on_bad_row: OnBadRow  # called with each broken row
    most_rows: int  # rows of a frame, for formats that are read frame by frame

    def lines(self) -> Iterator[str]:
        """The lines of text, with their ends."""
        return decoded_lines(self.file, self.source, self.encoding)

    def frames(self, rows: Iterator[T], make_frame: Callable[[list[T]], pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Frames of at most `most_rows` rows; the first one may have none, and still shows the columns."""
        yield make_frame(list(islice(rows, self.most_rows)))
        while part := list(islice(rows, self.most_rows)):
            yield make_frame(part)


Reader = Callable[[Content], Iterable[pd.DataFrame]]
"""Frames of the readable rows of a file; one frame at least, so that a file without rows still shows its columns.

Formats of lines and parquet are read as far as a frame needs, other formats and documents are one frame.
Raises DataError where the rest of a file cannot be read.
"""


def _read_delimited(content: Content, separator: str) -> Iterable[pd.DataFrame]:
    source = content.source
    rows = csv_rows(content.lines(), source, separator)
    line, header = next((row for row in rows if any(map(str.strip, row[1]))), (1, None))
    if header is None:
        raise DataError(f"{source} is empty; it needs a header and rows")
    if isinstance(header, str):
        raise DataError(f"{source}: line {line} {header}")
    names = _header(header, source)

    def frame_of(cells: Sequence[Sequence[str]]) -> pd.DataFrame:
        columns: Iterable[Sequence[str]] = zip(*cells, strict=True) if cells else [()] * len(names)
        return _frame({name: [cell or None for cell in column] for name, column in zip(names, columns, strict=True)})

    return content.frames(_cells_of_rows(rows, len(names), content), frame_of)


def _cells_of_rows(
    rows: Iterable[tuple[int, list[str] | str]], num_columns: int, content: Content
) -> Iterator[list[str]]:
    """The cells of each row that has as many as the header."""
    for line, row in rows:
        if isinstance(row, str):
            content.on_bad_row(BadRow(content.source, line, row))
        elif len(row) == num_columns:
            yield row
        elif len(row) > 1 or row[0].strip():
            problem = f"has {len(row)} field{'' if len(row) == 1 else 's'}, the header has {num_columns}"
            hint = " (a cell with the separator in it needs quotes)" if len(row) > num_columns else ""
            content.on_bad_row(BadRow(content.source, line, problem + hint))


def _read_json_lines(content: Content) -> Iterable[pd.DataFrame]:
    return content.frames(_json_records(content), lambda rows: _frame(_columns(rows)))


def _json_records(content: Content) -> Iterator[dict[str, Any]]:
    source, on_bad_row = content.source, content.on_bad_row
    is_empty = True
    for number, line in enumerate(content.lines(), start=1):
        if not line.strip():
            continue
        is_empty = False
        try:
            record = _parse_json(line)
        except ValueError as error:
            problem = f"{error.msg} (character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else error
            on_bad_row(BadRow(source, number, f"is no JSON object: {problem}"))
            continue
        if isinstance(record, dict):
            yield record
        else:
            on_bad_row(BadRow(source, number, f"is no JSON object but {_kind(record)}"))
    if is_empty:
        raise DataError(f"{source} is empty; it needs one JSON object a line")


def _read_json(content: Content) -> Iterable[pd.DataFrame]:
    source, text = content.source, "".join(content.lines())
    if not text.strip():
        raise DataError(f"{source} is empty; it needs an array of objects")
    try:
        table = _parse_json(text)
    except json.JSONDecodeError as error:
        hint = "; name a file with one object a line .jsonl" if error.msg == "Extra data" else ""
        line = 1 + line_breaks(text[: error.pos])
        raise DataError(f"{source} cannot be read as JSON: line {line}: {error.msg}{hint}") from None
    except ValueError as error:
        raise DataError(f"{source} cannot be read: {error}") from None
    if isinstance(table, list):
        bad = next((i for i, row in enumerate(table) if not isinstance(row, dict)), None)
        if bad is not None:
            raise DataError(f"{source} is no table: item {bad + 1} of its array is {_kind(table[bad])}, no object")
        return [_frame(_columns(table))]
    if _is_squad(table):
        return [_frame(_columns(list(_squad_records(table))))]
    if isinstance(table, dict) and all(isinstance(column, list | dict) for column in table.values()):
        columns = list(table.values())
        # pandas writes a column as an object, from row label to cell.
        labels = [list(column) if isinstance(column, dict) else len(column) for column in columns]
        if any(label != labels[0] for label in labels):
            raise DataError(f"{source} is no table: its columns have different rows")
        cells = [list(column.values()) if isinstance(column, dict) else column for column in columns]
        return [_frame(dict(zip(table, cells, strict=True)))]
    raise DataError(f"{source} is no table; it must hold an array of objects, or an object of columns")


def _is_squad(content: Any) -> bool:
    articles = content.get("data") if isinstance(content, dict) else None
    return (
        isinstance(articles, list)
        and bool(articles)
        and all(isinstance(article, dict) and isinstance(article.get("paragraphs"), list) for article in articles)
    )


def _squad_records(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A record for each question of SQuAD (Rajpurkar et al. 2016, 2018); plausible answers of 2.0 are not answers."""
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph.get("qas", []):
                yield {
                    "id": question.get("id"),
                    "title": article.get("title"),
                    "context": paragraph.get("context"),
                    "question": question.get("question"),
                    "answers": [] if question.get("is_impossible") else question.get("answers"),
                }


def _parse_json(text: str) -> Any:
    """The value of JSON text.

    Raises:
      ValueError: the text is no JSON, is nested too deeply, or escapes half of a character.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # A lone surrogate is legal JSON but no text: neither files nor tokenizers accept it.
    if re.search(r"\\u[dD]", text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(r"a \u escape is half of a surrogate pair") from None
    return value


def _kind(value: object) -> str:
    kinds = {list: "an array", dict: "an object", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _read_text(content: Content) -> Iterable[pd.DataFrame]:
    """A row for each line that is not blank."""
    lines = (line.rstrip("\r\n") for line in content.lines() if line.strip())
    return content.frames(lines, lambda part: _frame({"text": part}))


def read_document(content: Content) -> Iterable[pd.DataFrame]:
    """One row with the whole text of a file, line breaks and all; none where it is blank."""
    text = "".join(content.lines())
    return [_frame({"text": [text] if text.strip() else []})]


def _read_conll(content: Content) -> Iterable[pd.DataFrame]:
    return [_frame(read_conll("".join(content.lines()), content.source, content.on_bad_row))]


def _read_parquet(content: Content) -> Iterable[pd.DataFrame]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(content.file)
        _check_names(table.schema_arrow.names, content.source)
        batches = table.iter_batches(batch_size=content.most_rows) if table.metadata.num_rows else [table.read()]
        yield from map(_parquet_frame, batches)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{content.source} cannot be read; it is cut short or no parquet file: {reason}") from None


def _parquet_frame(rows: Any) -> pd.DataFrame:
    frame = rows.to_pandas()
    # pandas saves a named index apart from the columns; it may hold texts or labels.
    return frame.reset_index(drop=list(frame.index.names) == [None])


def _read_sheet(content: Content) -> Iterable[pd.DataFrame]:
    source = content.source
    try:
        with warnings.catch_warnings():
            # openpyxl warns of unknown styles and menus, which do not change cells.
            warnings.filterwarnings("ignore", module="openpyxl")
            grid = pd.read_excel(
                content.file, header=None, dtype=str, keep_default_na=False, na_values=[""], engine="openpyxl"
            )
    # openpyxl passes on any exception of its zip and XML parsers.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{source} cannot be read; it is damaged or no xlsx file: {reason}") from None
    grid = grid.dropna(how="all").dropna(how="all", axis="columns")
    if grid.empty:
        raise DataError(f"{source} is empty: its first sheet has no cells; it needs a header and rows")
    header, rows = grid.iloc[0], grid.iloc[1:]
    names = _header(["" if pd.isna(cell) else cell for cell in header], source)
    return [rows.set_axis(names, axis="columns").reset_index(drop=True)]


def _header(cells: Sequence[str], source: str) -> list[str]:
    """Column names; a column without a name, such as an index that pandas wrote, gets the name that pandas gives it."""
    names = [cell or f"Unnamed: {i}" for i, cell in enumerate(cells)]
    _check_names(names, source)
    return names


def _check_names(names: Sequence[str], source: str) -> None:
    twice = sorted({repr(name) for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(f"{source} has two columns or more of the name {', '.join(twice)}; rename all but one")


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Records as columns; a cell is missing where a record lacks the key."""
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _frame(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    # pandas' type inference would turn integers with a gap into floats, and large ones into other integers.
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
    **dict.fromkeys([".conll", ".conllu", ".bio", ".iob", ".iob2"], _read_conll),
    ".parquet": _read_parquet,
    ".xlsx": _read_sheet,
}
