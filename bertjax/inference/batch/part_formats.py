"""Answered rows as files: parts in csv, tsv, json lines and parquet, and how the parts become one file.

Lists and objects, such as probabilities and entities, are nested values in json lines and parquet, and JSON text in the
cells of csv and tsv.
"""

import csv
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TextIO

import numpy as np
import pandas as pd

from bertjax.inference.batch.column_types import typed_array
from bertjax.inference.batch.plain_values import cell_text, json_text, plain_cells

Answers = Mapping[str, Sequence[Any]]
_ROW_GROUP = 2**15  # rows of parquet


class PartWriter(Protocol):
    """Writes a part chunk by chunk; a context manager that ends the file."""

    def __enter__(self) -> "PartWriter": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, frame: pd.DataFrame, answers: Answers) -> None:
        """Adds rows: the input columns of each, then its answers; the same columns each time."""
        ...


class PartFormat(NamedTuple):
    """A format of parts.

    Attributes:
      suffix: of its files.
      typed: whether columns have types.
      open: (path, whether the file has a header, schema of the input columns or None) -> writer.
      join: (parts, path, names of all columns) writes one file of parts without headers.
    """

    suffix: str
    typed: bool
    open: Callable[[Path, bool, Any], PartWriter]
    join: Callable[[Sequence[Path], Path, Sequence[str]], None]


class _TextWriter:
    """Lines of text."""

    def __init__(self, path: Path):
        self._file: TextIO = path.open("w", encoding="utf-8", newline="")

    def __enter__(self) -> "PartWriter":
        return self  # type: ignore[return-value]

    def __exit__(self, *exception: Any) -> None:
        self._file.close()


class _JsonLinesWriter(_TextWriter):
    def write(self, frame: pd.DataFrame, answers: Answers) -> None:
        names = [*map(str, frame.columns), *answers]
        for row in _rows(frame, answers):
            self._file.write(json_text(dict(zip(names, row, strict=True))) + "\n")


class _DelimitedWriter(_TextWriter):
    def __init__(self, path: Path, separator: str, has_header: bool):
        super().__init__(path)
        self._writer = _csv_writer(self._file, separator)
        self._lacks_header = has_header

    def write(self, frame: pd.DataFrame, answers: Answers) -> None:
        if self._lacks_header:
            self._writer.writerow([*map(str, frame.columns), *answers])
            self._lacks_header = False
        self._writer.writerows(map(cell_text, row) for row in _rows(frame, answers))


class _NewlineEnds(NamedTuple):
    r"""A file in which rows end with \n; the csv module puts quotes around a lone \r only if they end with \r\n."""

    file: TextIO

    def write(self, row: str) -> int:
        return self.file.write(row.removesuffix("\r\n") + "\n")


def _csv_writer(file: TextIO, separator: str) -> Any:
    return csv.writer(_NewlineEnds(file), delimiter=separator, lineterminator="\r\n")


def _rows(frame: pd.DataFrame, answers: Answers) -> Iterable[Sequence[Any]]:
    return zip(*(plain_cells(frame[name]) for name in frame.columns), *answers.values(), strict=True)


class _ParquetWriter:
    """Row groups of one schema: that of all chunks, since an empty list shows no type in the first of them."""

    def __init__(self, path: Path, schema: Any):
        self._path, self._schema = path, schema
        self._tables: list[Any] = []

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            _write_parquet(self._path, [table.schema for table in self._tables], self._tables)

    def write(self, frame: pd.DataFrame, answers: Answers) -> None:
        import pyarrow

        fields = [self._schema.field(name) for name in frame.columns]
        arrays = [typed_array(frame[field.name], field) for field in fields]
        arrays += [_answer_array(values) for values in answers.values()]
        names = [*(field.name for field in fields), *answers]
        self._tables.append(pyarrow.Table.from_arrays(arrays, names=names))


def _answer_array(values: Sequence[Any]) -> Any:
    import pyarrow

    if values and isinstance(values[0], np.ndarray):
        return pyarrow.array(values, pyarrow.list_(pyarrow.from_numpy_dtype(values[0].dtype)))
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowException, OverflowError):  # a rule may answer with values of several types
        return pyarrow.array([None if value is None else json_text(value) for value in values])


def _write_parquet(path: Path, schemas: Sequence[Any], tables: Iterable[Any]) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
    with parquet.ParquetWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(table.cast(schema), row_group_size=_ROW_GROUP)


def _join_parquet(parts: Sequence[Path], path: Path, names: Sequence[str]) -> None:
    from pyarrow import parquet

    def tables() -> Iterable[Any]:
        for part in parts:
            file = parquet.ParquetFile(part)
            yield from (file.read_row_group(i) for i in range(file.num_row_groups))

    _write_parquet(path, [parquet.read_schema(part) for part in parts], tables())


def join_bytes(parts: Iterable[Path], path: Path, mode: str = "wb") -> None:
    """Writes the content of files one after the other."""
    with path.open(mode) as joined:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined, 2**20)


def _delimited(suffix: str, separator: str) -> PartFormat:
    def opened(path: Path, has_header: bool, schema: Any) -> PartWriter:
        return _DelimitedWriter(path, separator, has_header)

    def join(parts: Sequence[Path], path: Path, names: Sequence[str]) -> None:
        with path.open("w", encoding="utf-8", newline="") as header:
            _csv_writer(header, separator).writerow(names)
        join_bytes(parts, path, "ab")

    return PartFormat(suffix, False, opened, join)


_JSON_LINES = PartFormat(
    suffix=".jsonl",
    typed=False,
    open=lambda path, has_header, schema: _JsonLinesWriter(path),
    join=lambda parts, path, names: join_bytes(parts, path),
)
_PARQUET = PartFormat(
    suffix=".parquet",
    typed=True,
    open=lambda path, has_header, schema: _ParquetWriter(path, schema),
    join=_join_parquet,
)

FORMATS: Mapping[str, PartFormat] = {
    "csv": _delimited(".csv", ","),
    "tsv": _delimited(".tsv", "\t"),
    "jsonl": _JSON_LINES,
    "parquet": _PARQUET,
}
"""By name, as `--format` has it."""
