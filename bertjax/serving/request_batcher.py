"""`RequestBatcher`: dynamic batching of concurrent requests.

It knows neither models nor HTTP. A request is a list of pieces, each with a number of tokens. Batches are filled up to
a number of tokens, one piece per waiting request in turn (round robin), so a long request neither delays short ones
nor starves. A request that is cancelled, because its client is gone or its time is up, leaves the queue.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

logger = logging.getLogger(__name__)

P = TypeVar("P")
R = TypeVar("R")


class QueueFull(RuntimeError):
    """So much waits that one more request would wait too long; it may come again later."""


class ComputeFailed(RuntimeError):
    """A request could not be computed, not even alone."""


@dataclass(frozen=True)
class BatchLimits:
    """How requests are joined.

    Attributes:
      wait_seconds: how long the first request of a batch waits for others.
      batch_tokens: tokens of a batch, unless its only piece has more.
      waiting_tokens: tokens that may wait for their batch; a request that finds no other one waiting is taken whatever
        its size.
    """

    wait_seconds: float = 0.002
    batch_tokens: int = 4096
    waiting_tokens: int = 131_072


class BatchFacts(NamedTuple):
    """What was computed together.

    Attributes:
      requests: with a piece in the batch.
      tokens: of all pieces.
      waited: seconds from the arrival of each request to its first batch, for those that this is the first of.
      seconds: that the batch took.
    """

    requests: int
    tokens: int
    waited: Sequence[float]
    seconds: float


@dataclass(eq=False)
class _Request(Generic[P, R]):
    """A request on its way."""

    pieces: Sequence[P]
    tokens: Sequence[int]
    done: "asyncio.Future[None]"
    arrived: float = field(default_factory=time.monotonic)
    taken: int = 0  # pieces that are in a batch, or were
    results: list[R] = field(default_factory=list)  # of the first pieces: batches are computed one after the other

    @property
    def is_waiting(self) -> bool:
        return self.taken < len(self.pieces)

    @property
    def waiting_tokens(self) -> int:
        return sum(self.tokens[self.taken :])


class RequestBatcher(Generic[P, R]):
    """Joins requests into batches, which are computed one after the other. It belongs to one event loop.

    Attributes:
      waiting_tokens: tokens that wait for their batch.
    """

    def __init__(
        self,
        compute: Callable[[list[P]], Sequence[R]],
        tokens_of: Callable[[P], int],
        thread: Executor,
        limits: BatchLimits,
        observe: Callable[[BatchFacts], None] = lambda facts: None,
    ):
        """Starts nothing yet.

        Args:
          compute: pieces -> the result of each.
          tokens_of: a piece -> its tokens.
          thread: runs `compute`, off the event loop.
          limits: how requests are joined.
          observe: is told of each batch.
        """
        self.waiting_tokens = 0
        self._compute, self._tokens_of, self._thread, self._limits = compute, tokens_of, thread, limits
        self._observe = observe
        self._queue: list[_Request[P, R]] = []  # those with a piece that waits
        self._is_full = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, pieces: Sequence[P]) -> list[R]:
        """The result of each piece of a request.

        Args:
          pieces: one or more.

        Raises:
          QueueFull: too much waits already.
          ComputeFailed: `compute` failed for this request.
        """
        tokens = [self._tokens_of(piece) for piece in pieces]
        if self._queue and self.waiting_tokens + sum(tokens) > self._limits.waiting_tokens:
            raise QueueFull(f"{self.waiting_tokens} tokens wait to be computed")
        loop = asyncio.get_running_loop()
        request: _Request[P, R] = _Request(pieces, tokens, loop.create_future())
        self._queue.append(request)
        self.waiting_tokens += request.waiting_tokens
        if self.waiting_tokens >= self._limits.batch_tokens:
            self._is_full.set()
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        try:
            await request.done
            return request.results
        finally:
            if request.is_waiting:
                self._queue.remove(request)
                self.waiting_tokens -= request.waiting_tokens

    async def drain(self) -> None:
        """Waits until no request is left."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        """Computes until nothing waits."""
        try:
            while self._queue:
                await self._wait_for_others()
                await self._compute_batch(self._next_batch())
        finally:
            self._worker = None

    async def _wait_for_others(self) -> None:
        """Returns when the request that waits longest has waited long enough, or a batch is full."""
        self._is_full.clear()
        first = min(request.arrived for request in self._queue)
        left = first + self._limits.wait_seconds - time.monotonic()
        if left > 0 and self.waiting_tokens < self._limits.batch_tokens:
            try:
                async with asyncio.timeout(left):
                    await self._is_full.wait()
            except TimeoutError:
                pass

    def _next_batch(self) -> dict[_Request[P, R], list[P]]:
        """Takes pieces out of the queue, one of each request in turn, until a batch is full."""
        batch: dict[_Request[P, R], list[P]] = {}
        room, found = self._limits.batch_tokens, True
        while found and room > 0:
            found = False
            for request in self._queue:
                if request.is_waiting and (not batch or request.tokens[request.taken] <= room):
                    batch.setdefault(request, []).append(request.pieces[request.taken])
                    room -= request.tokens[request.taken]
                    request.taken += 1
                    found = True
        self.waiting_tokens -= self._limits.batch_tokens - room
        # Those that this batch passed over come first next time.
        self._queue = sorted((request for request in self._queue if request.is_waiting), key=batch.__contains__)
        return batch

    async def _compute_batch(self, batch: dict[_Request[P, R], list[P]]) -> None:
        """Computes a batch; if that fails, each of its requests alone, so that one does not take the others with it."""
        started = time.monotonic()
        waited = [started - request.arrived for request, pieces in batch.items() if request.taken == len(pieces)]
        try:
            await self._deliver(batch)
        except Exception as error:
            if len(batch) > 1:
                logger.warning("a batch of %d requests failed (%s); computing each alone", len(batch), named(error))
            for request, pieces in batch.items():
                if len(batch) == 1:
                    self._fail(request, error)
                    continue
                try:
                    await self._deliver({request: pieces})
                except Exception as own_error:
                    self._fail(request, own_error)
        tokens = sum(self._tokens_of(piece) for pieces in batch.values() for piece in pieces)
        self._observe(BatchFacts(len(batch), tokens, waited, time.monotonic() - started))

    async def _deliver(self, batch: dict[_Request[P, R], list[P]]) -> None:
        """Computes pieces and hands out the results."""
        pieces = [piece for of_request in batch.values() for piece in of_request]
        results = iter(await asyncio.get_running_loop().run_in_executor(self._thread, self._compute, pieces))
        for request, of_request in batch.items():
            request.results.extend(islice(results, len(of_request)))
            if len(request.results) == len(request.pieces) and not request.done.done():
                request.done.set_result(None)

    def _fail(self, request: _Request[P, R], error: Exception) -> None:
        logger.error("a request of %d tokens could not be computed (%s)", sum(request.tokens), named(error))
        if not request.done.done():
            request.done.set_exception(ComputeFailed("the model could not compute this request"))


def named(error: BaseException) -> str:
    """The kind of an error and where it arose, without its message: that may quote a text."""
    (*_, place) = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
