"""Sides of a comparison that take turns: what slows the machine down slows all of them down, and the ratio of each turn
is what counts."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Counts(NamedTuple):
    """What some training steps did; computed tokens include padding."""

    examples: int
    real_tokens: int
    computed_tokens: int


Steps = Callable[[int], Counts]
"""Does so many training steps, and returns when the device has done them."""


def take_turns(sides: Mapping[str, Steps], rounds: int, steps: int, warm: int = 3) -> dict[str, dict[str, Any]]:
    """Of each side: its speed in every turn, their medians, and the share of its computed tokens that are real."""
    for run in sides.values():
        run(warm)  # caches, threads and allocators
    results: dict[str, dict[str, Any]] = {side: {"each_ms": [], "each_speed": []} for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            started = time.perf_counter()
            counts = run(steps)
            seconds = time.perf_counter() - started
            results[side]["each_ms"].append(1e3 * seconds / steps)
            results[side]["each_speed"].append(counts.examples / seconds)
            results[side]["real_token_share"] = counts.real_tokens / counts.computed_tokens
    for result in results.values():
        result["ms"] = statistics.median(result["each_ms"])
        result["examples_per_second"] = statistics.median(result["each_speed"])
    return results


def speed_ratios(results: Mapping[str, Mapping[str, Any]], ours: str) -> dict[str, float]:
    """How many times as fast `ours` is as each other side: the median of the turns' ratios."""
    return {
        side: statistics.median(a / b for a, b in zip(results[ours]["each_speed"], of["each_speed"], strict=True))
        for side, of in results.items()
        if side != ours
    }
