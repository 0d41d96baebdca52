"""Answers on the devices of this process: chunks are read ahead and tokenized in one thread, computed in another, while
the caller writes."""

from collections.abc import Generator
from contextlib import closing

from bertjax.data.batching.prefetch import prefetched
from bertjax.inference.batch.row_answers import Answered, Request, RowAnswerer
from bertjax.inference.batch.row_source import PartSizes, RowSource, Survey
from bertjax.inference.loaded_model import LoadedModel


def answered_here(
    loaded: LoadedModel, source: RowSource, survey: Survey, sizes: PartSizes, first_part: int, request: Request
) -> Generator[Answered]:
    """The answered chunks from a part on, in their order; at most a handful is in memory."""
    answerer = RowAnswerer(loaded, source, request)
    chunks = source.chunks(survey, sizes, first_part)
    with (
        closing(prefetched(map(answerer.read, chunks), depth=1)) as read,
        closing(prefetched(map(answerer.compute, read), depth=1)) as scored,
    ):
        yield from map(answerer.answer, scored)
