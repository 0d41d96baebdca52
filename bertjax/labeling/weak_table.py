"""Writes a table as parquet, csv, tsv or json lines, by the suffix of its file; the file is replaced in one step."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from bertjax.data.rows.cells import is_missing
from bertjax.data.rows.literals import plain
from bertjax.errors import ConfigError, DataError, first_line, writing


def _write_json_lines(table: pd.DataFrame, path: Path) -> None:
    names = [str(name) for name in table.columns]
    with path.open("w", encoding="utf-8") as file:
        for row in zip(*(table[name].tolist() for name in table.columns), strict=True):
            cells = {name: None if is_missing(cell) else plain(cell) for name, cell in zip(names, row, strict=True)}
            file.write(json.dumps(cells, ensure_ascii=False, default=str) + "\n")


_WRITERS: Mapping[str, Callable[[pd.DataFrame, Path], object]] = {
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    ".jsonl": _write_json_lines,
}


def check_format(path: Path) -> None:
    """Raises ConfigError where a file's suffix names no format that can be written."""
    if path.suffix.lower() not in _WRITERS:
        raise ConfigError(f"{path} must end with {', '.join(_WRITERS)}, which says how a table is written")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Writes a table in the format of the file's suffix.

    Raises:
      DataError: the format has no way to hold one of the columns.
      DiskError: the operating system refuses.
    """
    scratch = path.with_name(f".{path.name}.tmp")
    with writing(path, "free some space, or choose another file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _WRITERS[path.suffix.lower()](table, scratch)
            scratch.replace(path)
        except (ValueError, TypeError) as error:  # Arrow's errors of types among them
            raise DataError(f"{path} cannot hold the table: {first_line(error)}; write it as .jsonl") from None
        finally:
            scratch.unlink(missing_ok=True)
