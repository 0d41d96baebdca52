"""The gradient of a training step on a CPU: the products that XLA derives beside those of `gradients_on_cpu`, and the
share of the machine's matrix throughput that each reaches.

The jobs are those of `benchmark_finetune.py`, each in its largest batch. The gradients take turns in one process, so
what slows the machine down slows both of them down, and the ratio of each turn is what counts.

    python scripts/benchmark_gradient.py --data trec 384-words --rounds 9 --json gradient.json
"""

import argparse
import datetime
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import numpy as np
from benchmark_finetune import DATA, job_on
from measuring.bertjax_side import one_device, plain_step

from bertjax import FineTuneConfig
from bertjax.cli.process.process_setup import restart_with_huge_pages
from bertjax.model import products
from bertjax.tasks import make_model
from bertjax.training.run.prepare import prepare
from bertjax.training.step.mfu import matmul_peak, training_flops
from bertjax.training.step.train_step import seed_key

SIDES = {"derived": products.derived_gradients, "by hand": products.gradients_on_cpu}
WARM = 2  # turns that do not count


def compiled_gradients(config: FineTuneConfig) -> tuple[dict[str, Callable[[], Any]], float]:
    """The gradient on the largest batch of a job by each side, and the FLOPs of its real tokens."""
    prepared = prepare(config)
    batch = max((made.batch for made in prepared.train.batches()), key=lambda batch: batch.token_ids.size)
    architecture, devices = prepared.model.config, one_device()

    def compiled(gradients: Any) -> Callable[[], Any]:
        with patch.object(products, "gradients_on_cpu", gradients):
            # A network of its own, or JAX would take what it has traced for the other side.
            model = make_model(architecture, prepared.model.task, prepared.model.labels, prepared.model.pooling)
            step = plain_step(model)
            state = devices.place(step.init(prepared.params, seed_key(0)))
            dealt = devices.deal(batch)
            program = devices.map(step.gradient, summed=True).lower(state, dealt).compile()
        return lambda: jax.block_until_ready(program(state, dealt))

    segments = np.asarray(batch.segment_ids)
    in_batch = segments + segments.size * np.arange(len(segments))[:, None]  # another number for each example
    _, lengths = np.unique(in_batch[segments > 0], return_counts=True)
    flops = training_flops(architecture, int(lengths.sum()), int((lengths**2).sum()))
    return {side: compiled(gradients) for side, gradients in SIDES.items()}, flops


def measure(config: FineTuneConfig, rounds: int) -> dict[str, Any]:
    """Medians of all turns; the share of the peak counts real tokens alone."""
    gradients, flops = compiled_gradients(config)
    seconds: dict[str, list[float]] = {side: [] for side in gradients}
    for turn in range(WARM + rounds):
        for side, run in gradients.items():
            started = time.perf_counter()
            run()
            if turn >= WARM:
                seconds[side].append(time.perf_counter() - started)
    peak = matmul_peak((jax.devices()[0],), config.execution)
    sides = {
        side: {"ms": 1e3 * statistics.median(each), "share_of_peak": flops / statistics.median(each) / peak}
        for side, each in seconds.items()
    }
    derived, by_hand = seconds.values()
    ratio = statistics.median(b / a for a, b in zip(derived, by_hand, strict=True))
    return {"peak_gflops": peak / 1e9, "sides": sides, "ratio": ratio}


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
        with job_on(data) as config:
            results[data] = measure(config.resolved(), arguments.rounds)
        for side, of in results[data]["sides"].items():
            print(f"{data:10} {side:8} {of['ms']:7.1f} ms, {100 * of['share_of_peak']:.0f}% of the peak")
        print(f"{data:10} by hand takes {results[data]['ratio']:.3f} of the time", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
