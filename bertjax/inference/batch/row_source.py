"""The rows of the files to predict: a survey of all of them, and then the rows themselves, in chunks.

The survey reads every row once before anything is computed. So a broken row, a missing column or a file of other
columns is reported in the first moments of a long job and not in its last; the number of rows is known, and json lines
whose records lack keys have all their columns. Reading takes a small part of the time of predicting.

Readable rows are numbered over all files. Part `p` has those from `p * rows_per_part` on; a chunk is rows of one part
that are computed together. The size of chunks changes no part.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

import pandas as pd

from bertjax.data.read.bad_rows import PLACE, BadRow
from bertjax.data.read.content import Reading
from bertjax.data.read.notes import OnNote, logged_notes
from bertjax.data.read.sources import File, check_same_columns, read_frames, stop
from bertjax.data.rows.cells import BadCell
from bertjax.data.rows.labelled_rows import Text
from bertjax.data.split.labelled_table import check_columns
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat
from bertjax.data.task_formats.token_format import Words
from bertjax.errors import DataError
from bertjax.inference.batch.column_types import ColumnTypes
from bertjax.tasks import find_readout, find_vectors

_FRAME_ROWS = 2**9  # read at a time: each text may have a megabyte
_CHUNK_BYTES = 2**22  # about; a chunk of longer texts has fewer rows
_PLAIN = "text"  # the column of plain text
_RECORDS = {".json", ".jsonl", ".ndjson"}  # formats whose rows may lack columns


class Origin(NamedTuple):
    """Where a row stands, as in `BadRow`."""

    source: str
    line: int
    unit: Literal["line", "row"]


class Entries(NamedTuple):
    """The rows of a frame as a predictor takes them.

    Attributes:
      texts: a text, a pair, words, or a question and its candidates; of the usable rows.
      usable: positions of these in the frame.
      bad: the other rows.
    """

    texts: list[Any]
    usable: list[int]
    bad: list[BadRow]


class Chunk(NamedTuple):
    """Neighbouring rows of a part.

    Attributes:
      part: its number, from 0.
      frame: all columns of the readable rows.
      origins: where each of them stands.
      broken: rows beside them that cannot be read.
    """

    part: int
    frame: pd.DataFrame
    origins: list[Origin]
    broken: list[BadRow]


class Survey(NamedTuple):
    """What one pass over the rows finds.

    Attributes:
      columns: of all files, in the order in which they were met.
      rows: readable ones.
      left_out: rows without an answer, readable or not.
    """

    columns: tuple[str, ...]
    rows: int
    left_out: int


class PartSizes(NamedTuple):
    """How rows are divided.

    Attributes:
      rows_per_part: readable rows.
      batch_size: rows of a chunk, at most.
    """

    rows_per_part: int
    batch_size: int


class RowSource(NamedTuple):
    """The rows of some files, read for a task; it travels between processes.

    Attributes:
      source: the files, as the user named them.
      files: one or more.
      task: says what a row is.
      vectors: whether rows are read for their vectors alone, as texts.
      table: how they are read: text columns, dialect, what a bad row does.
      any_text: whether lines of plain text stand for the text columns.
    """

    source: str
    files: tuple[File, ...]
    task: str
    table: Table
    any_text: bool = True
    vectors: bool = False

    @property
    def task_format(self) -> TaskFormat:
        """How a row is read."""
        return (find_vectors if self.vectors else find_readout)(self.task).format

    def survey(self, types: ColumnTypes | None = None) -> tuple["RowSource", Survey]:
        """Reads all rows once.

        Args:
          types: gets to know the columns, where a format needs their types.

        Returns:
          The source, its text columns named as in the files; what was found.

        Raises:
          DataError: a row that cannot be used, unless such rows are left out; files of different columns, a missing
            column, or no row to predict.
          ConfigError: the task needs a setting of the table that is missing.
        """
        source: RowSource | None = None
        first_file = ""
        first_bad: BadRow | None = None
        columns: dict[str, None] = {}
        rows = usable = left_out = 0
        with logged_notes() as on_note:
            for block in self._blocks(on_note):
                bad = list(block.broken)
                if len(block.frame.columns):
                    if source is None:
                        source, first_file = self._settled(block), block.file
                    elif block.file != first_file and not _RECORDS & set(PurePath(block.file).suffixes):
                        check_same_columns(first_file, columns, block.file, block.frame.columns)
                    columns |= dict.fromkeys(block.frame.columns)
                    entries = source.entries(block.frame, block.origins)
                    bad += entries.bad
                    usable += len(entries.usable)
                    if types is not None:
                        types.add(block.frame)
                earliest = min(bad, key=lambda row: row.line, default=None)
                if earliest is not None and self.table.on_bad_row == "stop":
                    stop(earliest)
                first_bad = first_bad or earliest
                rows, left_out = rows + len(block.frame), left_out + len(bad)
        if source is None or not usable:
            raise DataError(
                f"{self.source} has no row to predict" + (f"; the first is {first_bad}" if first_bad else "")
            )
        return source, Survey(tuple(columns), rows, left_out)

    def chunks(self, survey: Survey, sizes: PartSizes, first_part: int = 0) -> Iterator[Chunk]:
        """The rows from a part on, in their order; they must be those of the survey.

        A row that cannot be read is in the part of a readable row next to it.
        """
        last_part = max(0, survey.rows - 1) // sizes.rows_per_part
        position, held = 0, _Held(survey.columns)
        for block in self._blocks(lambda note: None):
            start, broken = 0, list(block.broken)
            while broken or start < len(block.frame):
                part = min(position // sizes.rows_per_part, last_part)
                room = min((part + 1) * sizes.rows_per_part - position, sizes.batch_size - held.rows)
                end = min(start + room, len(block.frame))
                is_last = end == len(block.frame)
                with_them = [row for row in broken if is_last or row.line < block.origins[end].line]
                broken = broken[len(with_them) :]
                if part >= first_part:
                    if held.part != part:
                        yield from held.release()
                    held.add(part, block, start, end, with_them)
                    if held.rows == sizes.batch_size or held.num_bytes >= _CHUNK_BYTES:
                        yield from held.release()
                position += end - start
                start = end
        yield from held.release()

    def entries(self, frame: pd.DataFrame, origins: list[Origin]) -> Entries:
        """The rows of a frame as a predictor takes them; an absent column has empty cells."""
        task_format = self.task_format
        columns = list(dict.fromkeys(task_format.text_columns(self.table)))
        cells = [frame[name].tolist() if name in frame.columns else [None] * len(frame) for name in columns]
        entries = Entries([], [], [])
        for i, row in enumerate(zip(*cells, strict=True)):
            try:
                text, pair = task_format.read_texts(dict(zip(columns, row, strict=True)), self.table)
            except BadCell as error:
                origin = origins[i]
                bad = BadRow(origin.source, origin.line + error.lines_on, str(error), origin.unit)
                entries.bad.append(bad)
            else:
                entries.texts.append(_entry(text) if pair is None else (text, _entry(pair)))
                entries.usable.append(i)
        return entries

    def _settled(self, block: "_Block") -> "RowSource":
        """The source with its text columns named as in a first frame; raises DataError where it lacks one."""
        task_format = self.task_format
        names = tuple(map(str, block.frame.columns))
        table = task_format.with_usual_columns(self.table, (*names, PLACE))
        if self.any_text and names == (_PLAIN,) and not table.text_pair and not table.candidates:
            table = replace(table, text=names)
        check_columns(names, task_format.text_columns(table), block.file)
        return self._replace(table=table)

    def _blocks(self, on_note: OnNote) -> Iterator["_Block"]:
        reading = Reading.of(self.table)._replace(places=True)
        for file in self.files:
            broken: list[BadRow] = []
            number = 1
            frames = read_frames(file, reading, broken.append, on_note, _FRAME_ROWS)
            for frame in self.task_format.gathered(frames, file.name):
                places = frame.pop(PLACE).tolist() if PLACE in frame.columns else None
                origins = _origins(file.name, number, len(frame)) if places is None else list(map(_origin, places))
                yield _Block(file.name, frame, origins, tuple(broken))
                number += len(frame)
                broken.clear()
            if broken:
                yield _Block(file.name, pd.DataFrame(), [], tuple(broken))


class _Block(NamedTuple):
    """A frame as it was read, and the broken rows that were met before its end."""

    file: str
    frame: pd.DataFrame
    origins: list[Origin]
    broken: tuple[BadRow, ...]


class _Held:
    """Rows that become the next chunk."""

    def __init__(self, columns: tuple[str, ...]):
        self.part = -1
        self._columns = list(columns)
        self._clear()

    def _clear(self) -> None:
        self._frames: list[pd.DataFrame] = []
        self._origins: list[Origin] = []
        self._broken: list[BadRow] = []
        self.rows = self.num_bytes = 0

    def add(self, part: int, block: _Block, start: int, end: int, broken: list[BadRow]) -> None:
        frame = block.frame.iloc[start:end]
        self.part = part
        self._frames.append(frame.reindex(columns=self._columns))
        self._origins += block.origins[start:end]
        self._broken += broken
        self.rows += end - start
        self.num_bytes += int(frame.memory_usage(index=False, deep=True).sum())

    def release(self) -> Iterator[Chunk]:
        """The rows as a chunk, unless there are none; they are held no more."""
        if self._frames:
            frame = pd.concat(self._frames, ignore_index=True)
            yield Chunk(self.part, frame, self._origins, self._broken)
        self._clear()


def _entry(text: Text) -> Any:
    """A text as a predictor takes it: words that know their places as they are, others in a list."""
    return text if isinstance(text, str | Words) else list(text)


def _origin(place: Any) -> Origin:
    """Of a row, or of the first of the rows that were gathered to one."""
    file, line = place[0] if isinstance(place, list) else place
    return Origin(file, line, "line")


def _origins(file: str, first: int, count: int) -> list[Origin]:
    return [Origin(file, row, "row") for row in range(first, first + count)]
