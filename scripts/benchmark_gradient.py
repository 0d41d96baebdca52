"""The gradient of a training step on a CPU: the products that XLA derives beside those of `gradients_on_cpu`, and the
share of the machine's matrix throughput that each reaches; and the share of the whole step, the update with it.

The jobs are those of `benchmark_finetune.py`, each in its largest batch. The gradients take turns in one process, so
what slows the machine down slows both down, and the ratio of each turn is what counts; so does the share of the peak,
which is measured in each turn.

    python scripts/benchmark_gradient.py --data trec 384-words --rounds 9 --json gradient.json
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import jax
import numpy as np
from benchmark_finetune import DATA, job_on
from measuring.bertjax_side import BertjaxSide, first_state, one_device, plain_step

from bertjax import Execution, FineTuneConfig
from bertjax.cli.process.process_setup import restart_with_huge_pages
from bertjax.data.batching.collate import PackedBatch
from bertjax.errors import UserError
from bertjax.model import products
from bertjax.tasks import make_model
from bertjax.training.run.prepare import Prepared, prepare
from bertjax.training.step.mfu import matmul_peak, training_flops
from bertjax.training.step.reserved_memory import ReservedMemory

SIDES = {"derived": products.derived_gradients, "by hand": products.gradients_on_cpu}
STEP = "whole step"  # gradient by hand and update
WARM = 2  # turns that do not count


def compiled_gradients(prepared: Prepared, packed: PackedBatch) -> dict[str, Callable[[], Any]]:
    """The gradient on a batch by each side."""
    architecture, devices = prepared.model.config, one_device()

    def compiled(gradients: Any) -> Callable[[], Any]:
        with patch.object(products, "gradients_on_cpu", gradients):
            # A network of its own, or JAX would take what it has traced for the other side.
            model = make_model(architecture, prepared.model.task, prepared.model.labels, prepared.model.pooling)
            step = plain_step(model)
            state = devices.place(first_state(step, prepared.params, prepared.train.examples))
            dealt = devices.deal(packed.batch)
            program = devices.map(step.gradient, summed=True).lower(state, dealt).compile()
            ReservedMemory().reserve(program.memory_analysis().temp_size_in_bytes)  # as a run does
        return lambda: jax.block_until_ready(program(state, dealt))

    return {side: compiled(gradients) for side, gradients in SIDES.items()}


def flops_of(prepared: Prepared, packed: PackedBatch) -> float:
    """The FLOPs of the real tokens of a batch."""
    segments = np.asarray(packed.batch.segment_ids)
    in_batch = segments + segments.size * np.arange(len(segments))[:, None]  # another number for each example
    _, lengths = np.unique(in_batch[segments > 0], return_counts=True)
    return training_flops(prepared.model.config, int(lengths.sum()), int((lengths**2).sum()))


class Turns(NamedTuple):
    """Times of programs that took turns, and the machine's matrix throughput in each turn, in operations a second."""

    seconds: dict[str, list[float]]
    peaks: list[float]


def take_turns(kinds: dict[str, Callable[[], Any]], execution: Execution, rounds: int) -> Turns:
    """Runs each in every turn, and measures the throughput beside them: a shared machine is not always as fast."""
    turns = Turns({kind: [] for kind in kinds}, [])
    for turn in range(WARM + rounds):
        peak = matmul_peak.__wrapped__((jax.devices()[0],), execution)  # measured anew
        for kind, run in kinds.items():
            started = time.perf_counter()
            run()
            if turn >= WARM:
                turns.seconds[kind].append(time.perf_counter() - started)
        if turn >= WARM:
            turns.peaks.append(peak)
    return turns


def measure(config: FineTuneConfig, rounds: int) -> dict[str, Any]:
    """Medians of all turns; the share of the peak counts real tokens alone.

    The whole step is measured after the gradients, whose memory is free by then: a training alternates with nothing.
    """
    prepared = prepare(config)
    packed = max(prepared.train.batches(), key=lambda made: made.batch.token_ids.size)
    gradients = take_turns(compiled_gradients(prepared, packed), config.execution, rounds)
    whole = BertjaxSide.on_one_batch(prepared.model, prepared.params, packed, prepared.train.examples)
    steps = take_turns({STEP: partial(whole.run, 1)}, config.execution, rounds)
    whole.close()
    flops = flops_of(prepared, packed)

    def summary(seconds: list[float], peaks: list[float]) -> dict[str, float]:
        shares = (flops / each / peak for each, peak in zip(seconds, peaks, strict=True))
        return {"ms": 1e3 * statistics.median(seconds), "share_of_peak": statistics.median(shares)}

    derived, by_hand = (gradients.seconds[side] for side in SIDES)
    return {
        "peak_gflops": statistics.median(gradients.peaks + steps.peaks) / 1e9,
        "kinds": {
            kind: summary(each, turns.peaks) for turns in (gradients, steps) for kind, each in turns.seconds.items()
        },
        "ratio": statistics.median(b / a for a, b in zip(derived, by_hand, strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=["trec", "384-words"], help="what to train on")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    restart_with_huge_pages()
    results: dict[str, Any] = {
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
        "date": datetime.date.today().isoformat(),
        "jax": jax.__version__,
    }
    for data in arguments.data:
        try:
            with job_on(data) as config:
                results[data] = measure(config.resolved(), arguments.rounds)
        except UserError as error:
            sys.exit(f"{parser.prog}: {error}")
        for kind, of in results[data]["kinds"].items():
            print(f"{data:10} {kind:10} {of['ms']:7.1f} ms, {100 * of['share_of_peak']:.0f}% of the peak")
        print(f"{data:10} by hand takes {results[data]['ratio']:.3f} of the time", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
