"""What stacking seeds saves: several seeds in one program against one after the other, MiniLM-L6 on TREC at the default
settings, with the same batches on both sides.

The machine may be busy with other things, so the two take turns and the ratio of each pair is what counts. A turn is so
many steps of every seed. Programs are compiled afresh; between runs of the command, JAX's cache spares all shapes that
were compiled before, on both sides.

    python scripts/benchmark_seeds.py --seeds 4 --rounds 5 --steps 10
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from bertjax import Batch, FineTuneConfig
from bertjax.cli.process.process_setup import restart_with_huge_pages
from bertjax.training.multi.stacked_seeds import Stack
from bertjax.training.run.prepared_run import PreparedRun, prepare_run
from bertjax.training.step.compiled_step import CompiledTrainStep

SIDES = ("separate", "stacked")
Steps = Callable[[int], None]  # steps of every seed


def batches_of(run: PreparedRun) -> Iterator[Batch]:
    """The run's own, over and over."""
    while True:
        yield from (packed_batch.batch for packed_batch in run.prepared.train.batches())


def separate(runs: list[PreparedRun]) -> tuple[Steps, list[float]]:
    """One step a seed, one after the other; how to step them, and how long each took to compile."""
    steps, states, seconds = [], [], []
    for run in runs:
        states.append(run.state)
        steps.append(CompiledTrainStep(run.devices, run.prepared.model, run.step, run.state, run.batch_shapes()))
        steps[-1].wait()
        seconds.append(steps[-1].compile_seconds)
    sources = [batches_of(run) for run in runs]

    def train(num_steps: int) -> None:
        for i, step in enumerate(steps):
            for _ in range(num_steps):
                states[i], metrics = step(states[i], next(sources[i]))
            float(metrics["loss"])

    return train, seconds


def stacked(runs: list[PreparedRun]) -> tuple[Steps, list[float]]:
    """One step for all seeds; how to step them, and how long it took to compile."""
    stack = Stack(runs)
    stack.train_step.wait()
    sources = [batches_of(run) for run in runs]

    def train(num_steps: int) -> None:
        for _ in range(num_steps):
            metrics = stack.train([next(source) for source in sources])
        float(metrics[0]["loss"])

    return train, [stack.train_step.compile_seconds]


def measure(seeds: int, rounds: int, steps: int) -> dict[str, Any]:
    """Takes turns; returns what one run of every seed costs on each side."""
    config = FineTuneConfig()
    makers = {"separate": separate, "stacked": stacked}
    sides, compiling = {}, {}
    for side in SIDES:
        runs = [prepare_run(replace(config, seed=seed), "never-written") for seed in range(seeds)]
        sides[side], compiling[side] = makers[side](runs)
        print(f"{side}: compiled in {sum(compiling[side]):.1f} s", flush=True)
        sides[side](2)  # warm caches, threads and allocators
    plans = [run.prepared.train.plan for run in runs]
    turns: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            started = time.perf_counter()
            sides[side](steps)
            turns[side].append((time.perf_counter() - started) / steps)
    ratios = [a / b for a, b in zip(turns["stacked"], turns["separate"], strict=True)]
    step_seconds = {side: statistics.median(turns[side]) for side in SIDES}
    total = plans[0].total_steps
    whole = {side: sum(compiling[side]) + total * step_seconds[side] for side in SIDES}
    return {
        "seeds": seeds,
        "device": jax.devices()[0].device_kind,
        "layouts": [[layout._asdict() for layout in plan.layouts] for plan in plans],
        "compile_seconds": {side: sum(compiling[side]) for side in SIDES},
        "step_seconds": step_seconds,
        "step_ratios": ratios,
        "step_ratio": statistics.median(ratios),
        "steps_of_a_run": total,
        "run_seconds": whole,
        "run_ratio": whole["stacked"] / whole["separate"],
    }


def table_of(result: dict[str, Any]) -> Table:
    """The result for people."""
    table = Table(title=f"{result['seeds']} seeds on {result['device']}", title_justify="left")
    for column in ("", *SIDES, "stacked / separate"):
        table.add_column(column, justify="right" if column else "left")
    rows = {
        "compile, s": (result["compile_seconds"], None),
        "a step of every seed, s": (result["step_seconds"], result["step_ratio"]),
        f"{result['steps_of_a_run']} steps and compiling, s": (result["run_seconds"], result["run_ratio"]),
    }
    for name, (seconds, ratio) in rows.items():
        given = seconds["stacked"] / seconds["separate"] if ratio is None else ratio
        table.add_row(name, *(f"{seconds[side]:.2f}" for side in SIDES), f"{given:.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="how many")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=10, help="steps a turn")
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    restart_with_huge_pages()
    jax.config.update("jax_enable_compilation_cache", False)
    result = measure(arguments.seeds, arguments.rounds, arguments.steps)
    Console().print(table_of(result))
    verdict = "saves" if result["step_ratio"] < 1 else "does not pay: it costs"
    print(f"in steps alone, stacking {verdict} {100 * abs(1 - result['step_ratio']):.0f}% here")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
