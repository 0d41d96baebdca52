"""Requests are joined, split, refused, cancelled and failed by the rules, whatever computes them."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.serving.request_batcher import BatchFacts, BatchLimits, ComputeFailed, QueueFull, RequestBatcher

Piece = tuple[str, int]  # a name and a number of tokens


class Compute:
    """What a batcher calls in place of a model: it names what it got, and can be held up or fail.

    Attributes:
      batches: the pieces of each call.
      threads: that it was called in.
    """

    def __init__(self, poison: str = "poison"):
        self.batches: list[list[Piece]] = []
        self.threads: set[int] = set()
        self.free = threading.Event()
        self.free.set()
        self._poison = poison

    def __call__(self, pieces: list[Piece]) -> Sequence[str]:
        self.threads.add(threading.get_ident())
        self.batches.append(pieces)
        self.free.wait(10)
        if any(name == self._poison for name, _ in pieces):
            raise FloatingPointError("a message with the text of a user")
        return [name.upper() for name, _ in pieces]


SMALL = BatchLimits(wait_seconds=0.002, batch_tokens=10, waiting_tokens=100)


def run(
    scenario: Callable[[RequestBatcher[Piece, str], Compute], Awaitable[Any]],
    limits: BatchLimits = SMALL,
    facts: list[BatchFacts] | None = None,
) -> tuple[Any, Compute]:
    """Runs a scenario on a batcher; its result, and what was computed."""
    compute = Compute()

    async def play() -> Any:
        with ThreadPoolExecutor(1) as thread:
            observe = (lambda _: None) if facts is None else facts.append
            batcher = RequestBatcher(compute, lambda piece: piece[1], thread, limits, observe)
            try:
                async with asyncio.timeout(20):
                    result = await scenario(batcher, compute)
                    await batcher.drain()
            finally:
                compute.free.set()
            assert batcher.waiting_tokens == 0
            return result

    return asyncio.run(play()), compute


async def held(batcher: RequestBatcher[Piece, str], compute: Compute) -> "asyncio.Task[list[str]]":
    """A request that is being computed until `compute.free` is set."""
    compute.free.clear()
    first = asyncio.create_task(batcher.submit([("first", 1)]))
    while not compute.batches:
        await asyncio.sleep(0.001)
    return first


async def outcomes(calls: Sequence[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def test_requests_of_a_few_milliseconds_are_computed_together_off_the_event_loop():
    facts: list[BatchFacts] = []

    async def scenario(batcher, compute):
        answers = await outcomes([batcher.submit([(name, 2)]) for name in "abc"])
        return answers, threading.get_ident()

    limits = BatchLimits(wait_seconds=0.2, batch_tokens=1000)
    (answers, loop_thread), compute = run(scenario, limits, facts)
    assert answers == [["A"], ["B"], ["C"]]
    assert compute.batches == [[("a", 2), ("b", 2), ("c", 2)]]
    assert loop_thread not in compute.threads
    ((requests, tokens, waited, _),) = facts
    assert (requests, tokens, len(waited)) == (3, 6, 3)
    assert all(0.15 < seconds < 5 for seconds in waited)


def test_a_full_batch_does_not_wait_for_others():
    async def scenario(batcher, compute):
        started = time.monotonic()
        await outcomes([batcher.submit([(name, 5)]) for name in "ab"])
        return time.monotonic() - started

    seconds, compute = run(scenario, BatchLimits(wait_seconds=15, batch_tokens=10))
    assert seconds < 10
    assert compute.batches == [[("a", 5), ("b", 5)]]


def test_what_comes_during_a_batch_is_the_next_one():
    async def scenario(batcher, compute):
        first = await held(batcher, compute)
        others = [asyncio.create_task(batcher.submit([(name, 3)])) for name in "abcd"]
        await asyncio.sleep(0.01)
        compute.free.set()
        return await outcomes([first, *others])

    answers, compute = run(scenario)
    assert answers == [["FIRST"], ["A"], ["B"], ["C"], ["D"]]
    assert [[name for name, _ in batch] for batch in compute.batches] == [["first"], ["a", "b", "c"], ["d"]]


def test_a_long_list_and_single_texts_take_turns():
    """A list of five batches' size leaves room in each batch; nobody waits for the whole list."""

    async def scenario(batcher, compute):
        first = await held(batcher, compute)
        long = asyncio.create_task(batcher.submit([(f"l{i}", 4) for i in range(12)]))
        await asyncio.sleep(0.01)
        short = [asyncio.create_task(batcher.submit([(name, 2)])) for name in "ab"]
        await asyncio.sleep(0.01)
        compute.free.set()
        return await outcomes([first, long, *short])

    answers, compute = run(scenario)
    assert answers[1] == [f"L{i}" for i in range(12)]
    assert {("a", 2), ("b", 2)} < set(compute.batches[1])  # beside a piece of the list
    assert [len(batch) for batch in compute.batches] == [1, 3, 2, 2, 2, 2, 2, 1]  # two of its pieces fit in a batch


def test_a_piece_larger_than_a_batch_is_computed_alone():
    async def scenario(batcher, compute):
        return await outcomes([batcher.submit([("a", 3)]), batcher.submit([("huge", 50)]), batcher.submit([("b", 3)])])

    answers, compute = run(scenario)
    assert answers == [["A"], ["HUGE"], ["B"]]
    assert [("huge", 50)] in compute.batches


@pytest.mark.parametrize("sizes", [[60], [1] * 60, [20, 20, 20]], ids=["one list", "single texts", "lists"])
def test_one_bound_for_lists_and_single_texts(sizes):
    """60 tokens wait, in whatever requests; 41 more are beyond 100, 40 are not."""

    async def scenario(batcher, compute):
        first = await held(batcher, compute)
        waiting = [asyncio.create_task(batcher.submit([("w", 1)] * size)) for size in sizes]
        await asyncio.sleep(0.01)
        assert batcher.waiting_tokens == 60
        with pytest.raises(QueueFull, match="60 tokens wait"):
            await batcher.submit([("x", 1)] * 41)
        last = asyncio.create_task(batcher.submit([("x", 1)] * 40))
        await asyncio.sleep(0.01)
        compute.free.set()
        return await outcomes([first, *waiting, last])

    answers, _ = run(scenario)
    assert not any(isinstance(answer, Exception) for answer in answers)


def test_a_request_larger_than_the_queue_is_taken_where_nothing_waits():
    answers, _ = run(lambda batcher, compute: batcher.submit([("x", 1)] * 500))
    assert answers == ["X"] * 500


def test_a_cancelled_request_leaves_the_queue_and_is_not_computed():
    async def scenario(batcher, compute):
        first = await held(batcher, compute)
        gone = asyncio.create_task(batcher.submit([("gone", 7), ("gone", 7)]))
        stays = asyncio.create_task(batcher.submit([("stays", 7)]))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        assert batcher.waiting_tokens == 7
        compute.free.set()
        return await outcomes([first, gone, stays])

    answers, compute = run(scenario)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert answers[2] == ["STAYS"]
    assert not any(name == "gone" for batch in compute.batches for name, _ in batch)


def test_a_request_cancelled_in_its_batch_takes_nobody_with_it():
    async def scenario(batcher, compute):
        first = await held(batcher, compute)
        other = asyncio.create_task(batcher.submit([("other", 1)]))
        first.cancel()
        await asyncio.sleep(0.01)
        compute.free.set()
        return await outcomes([first, other])

    answers, _ = run(scenario)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1] == ["OTHER"]


def test_a_failed_batch_fails_the_poisoned_request_alone(caplog):
    async def scenario(batcher, compute):
        first = await held(batcher, compute)
        calls = [asyncio.create_task(batcher.submit([(name, 2)])) for name in ("a", "poison", "b")]
        await asyncio.sleep(0.01)
        compute.free.set()
        answers = await outcomes([first, *calls])
        return [*answers, await batcher.submit([("after", 1)])]

    answers, compute = run(scenario)
    assert [answers[i] for i in (0, 1, 3, 4)] == [["FIRST"], ["A"], ["B"], ["AFTER"]]
    assert isinstance(answers[2], ComputeFailed)
    assert compute.batches.count([("poison", 2)]) == 1  # once alone, not again and again
    assert "FloatingPointError in test_request_batcher.py" in caplog.text
    assert "user" not in caplog.text


def test_a_failed_piece_ends_its_request_and_the_rest_leaves_the_queue():
    async def scenario(batcher, compute):
        return await outcomes([batcher.submit([("poison", 8), *[("later", 8)] * 9]), batcher.submit([("b", 8)])])

    answers, compute = run(scenario)
    assert isinstance(answers[0], ComputeFailed)
    assert answers[1] == ["B"]
    assert sum(name == "later" for batch in compute.batches for name, _ in batch) == 0


REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(1, 12), min_size=1, max_size=8),  # tokens of the pieces
        st.sampled_from(["stays", "stays", "goes", "poisoned"]),
        st.integers(0, 3),  # when it comes
    ),
    min_size=1,
    max_size=12,
)


@given(REQUESTS)
def test_every_request_has_its_own_answers_in_their_order(requests):
    """Whatever comes, goes or fails beside it: no request is lost, mixed up, or computed beyond a batch's size."""

    async def scenario(batcher, compute):
        async def request(number: int, sizes: list[int], fate: str, when: int) -> list[str]:
            await asyncio.sleep(when / 1000)
            pieces = [(f"r{number}-{i}", size) for i, size in enumerate(sizes)]
            return await batcher.submit([*pieces, ("poison", 1)] if fate == "poisoned" else pieces)

        tasks = [asyncio.create_task(request(number, *each)) for number, each in enumerate(requests)]
        await asyncio.sleep(0.002)
        for task, (_, fate, _) in zip(tasks, requests, strict=True):
            if fate == "goes":
                task.cancel()
        return await outcomes(tasks)

    answers, compute = run(scenario, BatchLimits(wait_seconds=0.001, batch_tokens=10))
    for number, ((sizes, fate, _), answer) in enumerate(zip(requests, answers, strict=True)):
        if fate == "poisoned":
            assert isinstance(answer, ComputeFailed)
        elif fate == "stays" or not isinstance(answer, asyncio.CancelledError):
            assert answer == [f"R{number}-{i}" for i in range(len(sizes))]
    for batch in compute.batches:
        assert sum(tokens for _, tokens in batch) <= 10 or len(batch) == 1
