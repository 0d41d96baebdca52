"""What a reader of a format gets, an open file, and what it makes of it, frames of rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO, NamedTuple, TypeVar

import pandas as pd

from bertjax.data.read.bad_rows import PLACE, OnBadRow, Place
from bertjax.data.read.delimited.dialect import DialectSettings
from bertjax.data.read.notes import OnNote
from bertjax.data.read.text_lines import decoded_lines
from bertjax.data.table import Documents, Table
from bertjax.errors import DataError

T = TypeVar("T")


class Reading(NamedTuple):
    """How files are read."""

    encoding: str = "utf-8"  # of text
    documents: Documents = "line"  # what a row of plain text is
    dialect: DialectSettings = DialectSettings()  # of delimited text
    class_names: bool = False  # the integers of a parquet column that has names for them become these names
    places: bool = False  # rows of csv, tsv, json lines and plain text have a `PLACE`; those of CoNLL always have

    @classmethod
    def of(cls, table: Table, class_names: bool = False) -> "Reading":
        """The settings of a table whose labels have names, or not; columns with one flag each have none."""
        return cls(table.encoding, table.documents, DialectSettings.of(table), class_names and not table.labels)


class Content(NamedTuple):
    """An open file."""

    file: BinaryIO  # its bytes, decompressed
    source: str  # name for messages
    reading: Reading  # how it is read
    on_bad_row: OnBadRow  # called with each broken row
    on_note: OnNote  # called with what the user should know
    most_rows: int  # rows of a frame, for formats that are read frame by frame

    def lines(self) -> Iterator[str]:
        """The lines of text, with their ends."""
        return decoded_lines(self.file, self.source, self.reading.encoding, self.on_note)

    def frames(
        self, rows: Iterator[tuple[int, T]], make_frame: Callable[[list[T]], pd.DataFrame]
    ) -> Iterator[pd.DataFrame]:
        """Frames of at most `most_rows` rows; the first one may have none, and still shows the columns.

        Args:
          rows: each with its first line, counted from 1.
          make_frame: of rows without their lines.
        """
        is_first = True
        while (part := list(islice(rows, self.most_rows))) or is_first:
            is_first = False
            frame = make_frame([row for _, row in part])
            if self.reading.places:
                places = [Place(self.source, line) for line, _ in part]
                frame[PLACE] = pd.Series(places, index=frame.index, dtype=object)
            yield frame


Reader = Callable[[Content], Iterable[pd.DataFrame]]
"""Frames of the readable rows of a file; one frame at least, so that a file without rows still shows its columns.

Formats of lines and parquet are read as far as a frame needs, other formats and documents are one frame.
Raises DataError where the rest of a file cannot be read.
"""


def frame_of_columns(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    """A frame whose columns are strings, or else the objects that are given."""
    # pandas' type inference would turn integers with a gap into floats, and large ones into other integers.
    return pd.DataFrame(
        {
            name: pd.Series(cells, dtype="str" if all(c is None or isinstance(c, str) for c in cells) else "object")
            for name, cells in columns.items()
        }
    )


def frame_of_records(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Records as columns; a cell is missing where a record lacks the key."""
    names = dict.fromkeys(name for record in records for name in record)
    return frame_of_columns({name: [record.get(name) for record in records] for name in names})


def check_names(names: Sequence[str], source: str) -> None:
    """Raises DataError where two columns have one name."""
    twice = sorted({repr(name) for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(f"{source} has two columns or more of the name {', '.join(twice)}; rename all but one")
