"""Tables as the tests write and read them."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertjax.data.read.sources import read_table
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.split.read_splits import RowSplits, read_splits
from bertjax.data.table import Table
from bertjax.data.task_formats import format_of


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    """Writes text or bytes under a name in an empty folder; returns the path as a string."""

    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def columns_of(source: str, *options: Any) -> dict[str, list[Any]]:
    """The cells of a source, column by column."""
    return read_table(source, *options).frame.to_dict("list")


def splits_of(table: Table, task: str = "classification") -> RowSplits:
    """The rows of a table as a task reads and splits them."""
    return read_splits(table, format_of(task))


def rows_of(texts: list[Any], pairs: list[Any] | None, labels: list[Any]) -> Rows:
    """Rows at the beginning of a table."""
    return Rows(texts, pairs, labels, list(range(len(texts))))


def zipped(content: bytes, *names: str) -> bytes:
    """An archive that has the same content under each name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return buffer.getvalue()
