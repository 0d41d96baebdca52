"""One reader a format: parses an open file into frames of its rows, and reports broken rows.

A csv has no types, so its cells are read as text: "NA" and "null" are words, and the label "01" stays "01". The cells
of a sheet are read the same way. JSON and parquet have types: a column of strings becomes a column of strings, and any
other column keeps the values of the file.

A cell is missing, None or NaN in a frame, where it is

    csv, tsv          empty, with quotes or without
    xlsx              empty
    json, json lines  null, NaN, or a key that the record lacks
    parquet           null, NaN, or -1 in a column of classes with names

and nowhere else: what a cell holds (blank text, "NA", an empty list) is for the task to judge. Plain text and CoNLL
have no missing cells.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import pandas as pd

from bertjax.data.read.bad_rows import BadRow
from bertjax.data.read.conll import read_conll
from bertjax.data.read.content import Content, Reader, check_names, frame_of_columns
from bertjax.data.read.delimited.csv_rows import Row, csv_rows
from bertjax.data.read.notes import Note, lines_listing
from bertjax.data.read.typed.json_tables import read_json, read_json_lines
from bertjax.data.read.typed.parquet_tables import read_parquet
from bertjax.errors import DataError


def _read_delimited(content: Content, separator: str) -> Iterable[pd.DataFrame]:
    source = content.source
    rows = csv_rows(content.lines(), source, separator, content.reading.dialect, content.on_note)
    line, header = next((row for row in rows if any(map(str.strip, row[1]))), (1, None))
    if header is None:
        raise DataError(f"{source} is empty; it needs a header and rows")
    if isinstance(header, str):
        raise DataError(f"{source}: line {line} {header}")
    names = _header(header, source)

    def frame_of(cells: Sequence[Sequence[str]]) -> pd.DataFrame:
        columns: Iterable[Sequence[str]] = zip(*cells, strict=True) if cells else [()] * len(names)
        found = ([cell or None for cell in column] for column in columns)
        return frame_of_columns(dict(zip(names, found, strict=True)))

    return content.frames(_cells_of_rows(rows, header, content), frame_of)


def _cells_of_rows(rows: Iterable[Row], header: list[str], content: Content) -> Iterator[tuple[int, list[str]]]:
    """The line and the cells of each row that has as many as the header, and does not repeat it."""
    repeated = []
    for line, row in rows:
        if isinstance(row, str):
            content.on_bad_row(BadRow(content.source, line, row))
        elif row == header and len(header) > 1:
            repeated.append(str(line))
        elif len(row) == len(header):
            yield line, row
        elif len(row) > 1 or row[0].strip():
            problem = f"has {len(row)} field{'' if len(row) == 1 else 's'}, the header has {len(header)}"
            hint = f" ({_mend(row)})" if len(row) > len(header) else ""
            content.on_bad_row(BadRow(content.source, line, problem + hint))
    _note_repeated_header(content, repeated)


def _mend(row: Sequence[str]) -> str:
    """How to mend a row with too many cells."""
    if any(cell.endswith("\\") for cell in row[:-1]):
        return r"where \ is before a separator that is text: --escape '\'"
    if any(cell.startswith('"') for cell in row):
        return "where quotes are around cells: --quoting on"
    return "a cell with the separator in it needs quotes"


def _note_repeated_header(content: Content, lines: list[str]) -> None:
    if lines:
        count = f"{len(lines)} row{' that repeats' if len(lines) == 1 else 's that repeat'}"
        text = f"left out {count} the header ({lines_listing(lines)})"
        content.on_note(Note(content.source, text, logging.WARNING))


def _read_text(content: Content) -> Iterable[pd.DataFrame]:
    """A row for each line that is not blank."""
    numbered = enumerate(content.lines(), start=1)
    lines = ((number, line.rstrip("\r\n")) for number, line in numbered if line.strip())
    return content.frames(lines, lambda part: frame_of_columns({"text": part}))


def read_document(content: Content) -> Iterable[pd.DataFrame]:
    """One row with the whole text of a file, line breaks and all; none where it is blank."""
    text = "".join(content.lines())
    return [frame_of_columns({"text": [text] if text.strip() else []})]


def _read_conll(content: Content) -> Iterable[pd.DataFrame]:
    columns = read_conll("".join(content.lines()), content.source, content.on_bad_row, content.on_note)
    return [frame_of_columns(columns)]


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
    repeats = (rows.fillna("") == header.fillna("")).all(axis="columns") & (len(names) > 1)
    _note_repeated_header(content, [str(line + 1) for line in rows.index[repeats]])
    return [rows[~repeats].set_axis(names, axis="columns").reset_index(drop=True)]


def _header(cells: Sequence[str], source: str) -> list[str]:
    """Column names; a column without a name, such as an index that pandas wrote, gets the name that pandas gives it."""
    names = [cell or f"Unnamed: {i}" for i, cell in enumerate(cells)]
    check_names(names, source)
    return names


READERS: Mapping[str, Reader] = {
    ".csv": partial(_read_delimited, separator=","),
    ".tsv": partial(_read_delimited, separator="\t"),
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".txt": _read_text,
    **dict.fromkeys([".conll", ".conllu", ".bio", ".iob", ".iob2"], _read_conll),
    ".parquet": read_parquet,
    ".xlsx": _read_sheet,
}
