"""Ray Data reads the files of a table and encodes their rows in its workers; the results come back in order.

A read task yields the rows of files as frames; a map task encodes one frame. A `FileBlock` is one pickled value, since
the cells of a table need not fit Arrow's types, and since Ray must not cut it. Errors in a worker are values too, so
that the first error of a file comes after the rows before it.
"""

import logging
import os
import pickle
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from bertjax.data.read.bad_rows import PLACE, BadRow
from bertjax.data.read.content import Reading
from bertjax.data.read.notes import Note
from bertjax.data.read.sources import File, read_frames
from bertjax.data.streaming.encode_block import EncodedBlock, Recipe, encode_block
from bertjax.errors import DataError, UserError
from bertjax.ray_cluster import keeping_sigterm

BLOCK_ROWS = 2**13
_BLOCK_BYTES = 2**20  # Ray joins smaller values; these rows have about as many bytes, so that a task has one value
_STORE_BYTES = 2**28  # of shared memory
_READ_TASKS = 2**8  # at most; a task costs as much as some thousands of rows
_READERS = 4  # files read at a time, at most
READER_CPUS = 0.1  # reading waits for the encoding most of the time
_VALUE = "value"  # the one column of a block


class FileBlock(NamedTuple):
    """A part of a file."""

    file: str  # name of the file
    columns: tuple[str, ...] = ()  # all columns of these rows
    broken: tuple[BadRow, ...] = ()  # rows that cannot be read, in their order
    notes: tuple[Note, ...] = ()  # what the user should know of the file
    frame: pd.DataFrame | None = None  # the rows, until they are encoded
    encoded: EncodedBlock | None = None  # the encoded rows; None where there are none
    error: str = ""  # one line that says why the rest of the file cannot be read; empty without an error


def encoded_blocks(
    files: Sequence[File], source: str, recipe: Recipe, block_rows: int = BLOCK_ROWS
) -> Iterator[FileBlock]:
    """The rows of files, encoded, in the order of the files and of their rows.

    Args:
      files: files to read.
      source: named in the description of unusable rows.
      recipe: how rows are encoded.
      block_rows: rows encoded at a time.
    """
    import ray.data

    with ray_session(), ordered_values(_BLOCK_BYTES):
        parts = ray.data.read_datasource(
            _table_files(files, recipe, block_rows),
            num_cpus=READER_CPUS,
            concurrency=min(_READERS, len(files)),
            override_num_blocks=min(_READ_TASKS, len(files)),
        )
        blocks = parts.map_batches(
            partial(_encode_blocks, source, recipe), batch_size=None, batch_format="pyarrow", num_cpus=1
        )
        for table in blocks.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            yield from _blocks(table)


@contextmanager
def ordered_values(block_bytes: int) -> Iterator[None]:
    """Ray Data that keeps the order of its blocks, joins no values of `block_bytes` or more, and is silent."""
    import ray.data

    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.issue_detectors_config.detectors = []  # they advise on memory settings
    context.target_max_block_size = block_bytes
    with _quiet(), ray.data.DataContext.current(context):
        yield


def _encode_blocks(source: str, recipe: Recipe, table: Any) -> Iterator[Any]:
    for block in _blocks(table):
        try:
            encoded = None if block.frame is None else encode_block(block.frame, source, recipe)
            yield _packed(block._replace(frame=None, encoded=encoded))
        except UserError as error:
            yield _packed(block._replace(frame=None, error=str(error)))


def _read_files(files: Sequence[File], recipe: Recipe, block_rows: int) -> Iterator[Any]:
    for file in files:
        yield from map(_packed, _read_file(file, recipe, block_rows))


def _read_file(file: File, recipe: Recipe, block_rows: int) -> Iterator[FileBlock]:
    table = recipe.table
    reading = Reading.of(table, class_names=recipe.task_format.indexed)
    broken: list[BadRow] = []
    notes: list[Note] = []
    error = ""
    try:
        frames = read_frames(file, reading, broken.append, notes.append, block_rows)
        for frame in recipe.task_format.gathered(frames, file.name):
            # A record of JSON lines may lack a key that others have.
            places = [PLACE] if PLACE in frame.columns else []
            cells = frame.reindex(columns=[*recipe.frame_columns, *places])
            yield FileBlock(file.name, tuple(map(str, frame.columns)), tuple(broken), tuple(notes), cells)
            broken.clear()
            notes.clear()
    except DataError as caught:
        error = str(caught)
    if broken or notes or error:
        yield FileBlock(file.name, broken=tuple(broken), notes=tuple(notes), error=error)


def _blocks(table: Any) -> Iterator[FileBlock]:
    """The blocks in an Arrow table of Ray Data."""
    for value in table[_VALUE]:
        yield pickle.loads(value.as_buffer())


def _packed(block: FileBlock) -> Any:
    import pyarrow

    return pyarrow.table({_VALUE: pyarrow.array([pickle.dumps(block)], pyarrow.large_binary())})


@contextmanager
def ray_session(num_cpus: int | None = None) -> Iterator[None]:
    """Uses the running Ray session, or starts one on this machine and ends it afterwards.

    Args:
      num_cpus: cores of a new session; default: all.
    """
    with keeping_sigterm():
        import ray

    if ray.is_initialized():
        yield
        return
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if "RAY_ADDRESS" not in os.environ:
        settings |= {"object_store_memory": _STORE_BYTES, "num_cpus": num_cpus}
    with warnings.catch_warnings(), keeping_sigterm():
        # JAX warns of forks; Ray's run another program at once.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        ray.init(**settings)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Ray Data, which writes to stderr when it starts and ends, whatever the level of other loggers."""
    logger = logging.getLogger("ray.data")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _table_files(files: Sequence[File], recipe: Recipe, block_rows: int) -> Any:
    """The files as a source of Ray Data: one read task for a file, or for several neighbours of many files."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class TableFiles(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
            nothing_known = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None)
            each = -(-len(files) // _READ_TASKS)
            return [
                ReadTask(partial(_read_files, files[start : start + each], recipe, block_rows), nothing_known)
                for start in range(0, len(files), each)
            ]

    return TableFiles()
