"""Compile time and step time of layers that are compiled one by one (`unrolled`) and scanned over (`stacked`), at
several depths: a training step of MiniLM's widths on a full packed batch, from random weights.

The machine may be busy with other things, so the two take turns and the ratio of each pair is what counts. Each is
compiled once, without JAX's compilation cache.

    python scripts/benchmark_layers.py --layers 6 12 24 --rounds 5 --steps 10
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from bertjax import (
    Batch,
    BertConfig,
    Execution,
    Optimizer,
    make_model,
    make_optimizer,
    make_train_step,
    pack_batch,
    padded_batch,
)
from bertjax.batch import empty_batch
from bertjax.cli.process.process_setup import restart_with_huge_pages
from bertjax.data.batching.packing import Layout
from bertjax.devices.data_parallel import AXIS, all_devices
from bertjax.losses import cross_entropy
from bertjax.training.step.compiled_step import CompiledTrainStep

Layers = Literal["unrolled", "stacked"]
Turn = Callable[[int], float]  # steps -> seconds

MODES: tuple[Layers, ...] = get_args(Layers)
LABELS = ("a", "b", "c", "d", "e", "f")
LAYOUT = Layout(rows=14, row_length=96, slots=4)
LENGTHS = (32, 28, 20, 16)  # tokens of the examples of a row, which they fill


def make_batch() -> Batch:
    """Random examples of `LENGTHS` in every row."""
    rng = np.random.default_rng(0)
    lengths = np.array(LENGTHS * LAYOUT.rows)
    mask = (np.arange(max(LENGTHS)) < lengths[:, None]).astype(np.int32)
    examples = padded_batch(mask, rng.integers(1000, 30000, mask.shape), labels=rng.integers(0, 6, len(lengths)))
    rows = np.arange(len(lengths)).reshape(LAYOUT.rows, -1).tolist()
    return pack_batch(examples, rows, LAYOUT)


def compile_step(num_layers: int, layers: Layers) -> tuple[float, Turn]:
    """Seconds that a training step took to compile, and what runs it."""
    config = BertConfig(
        hidden_size=384, num_layers=num_layers, intermediate_size=1536, execution=Execution(layers=layers)
    )
    model = make_model(config, "classification", LABELS)
    optimizer = make_optimizer(Optimizer(), total_steps=10_000, model=model)
    step = make_train_step(model, optimizer, cross_entropy, axis_name=AXIS)
    state = step.init(jax.jit(model.init)(jax.random.PRNGKey(0)), jax.random.PRNGKey(0))
    devices = all_devices()
    state = devices.place(state)
    engine = CompiledTrainStep(devices, model, step, state, [empty_batch(*LAYOUT)])
    engine.wait()
    batch = make_batch()
    current = [state]

    def turn(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            current[0], _ = engine(current[0], batch)
        jax.block_until_ready(current[0])
        return time.perf_counter() - started

    return engine.compile_seconds, turn


def measure(num_layers: int, rounds: int, steps: int) -> dict[str, Any]:
    """Both at one depth: seconds to compile, median milliseconds a step, and the median ratio of the pairs."""
    compile_seconds: dict[str, float] = {}
    turns: dict[str, Turn] = {}
    for layers in MODES:
        compile_seconds[layers], turns[layers] = compile_step(num_layers, layers)
    for turn in turns.values():
        turn(2)  # warm caches, threads and allocators
    milliseconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            milliseconds[name].append(1000 * turn(steps) / steps)
    ratios = [stacked / unrolled for unrolled, stacked in zip(*milliseconds.values(), strict=True)]
    return {
        "layers": num_layers,
        "compile_seconds": compile_seconds,
        "compile_ratio": compile_seconds["stacked"] / compile_seconds["unrolled"],
        "step_milliseconds": {name: statistics.median(values) for name, values in milliseconds.items()},
        "step_ratio": statistics.median(ratios),
        "step_ratios": ratios,
    }


def table_of(results: Sequence[dict[str, Any]]) -> Table:
    """One line a depth."""
    table = Table("\nlayers", title=f"{LAYOUT.rows} x {LAYOUT.row_length} tokens, stacked / unrolled")
    for quantity in ("compile s", "step ms"):
        for column in (f"{quantity}\nunrolled", "\nstacked", "\nratio"):
            table.add_column(column, justify="right")
    for result in results:
        seconds, milliseconds = result["compile_seconds"], result["step_milliseconds"]
        table.add_row(
            str(result["layers"]),
            *(f"{seconds[layers]:.1f}" for layers in MODES),
            f"{result['compile_ratio']:.2f}",
            *(f"{milliseconds[layers]:.0f}" for layers in MODES),
            f"{result['step_ratio']:.2f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[6, 12, 24], help="depths")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=10, help="steps a turn")
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    restart_with_huge_pages()
    jax.config.update("jax_enable_compilation_cache", False)
    compile_step(1, "unrolled")  # the first compilation of a process starts the compiler too
    results = []
    for num_layers in arguments.layers:
        results.append(measure(num_layers, arguments.rounds, arguments.steps))
        print(
            f"{num_layers} layers: step ratios {', '.join(f'{r:.2f}' for r in results[-1]['step_ratios'])}", flush=True
        )
    Console().print(table_of(results))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
