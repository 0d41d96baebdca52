"""Many runs in one process: what each takes until its first step, and what it leaves in the process.

All runs of a job have the same settings, as those of a notebook that is run again and again. Shown are the seconds to
the first training step, and the process's memory maps (Linux gives it 65,530), resident memory, threads and open files
after every run; what counts is whether they grow. Each job has a process of its own, in which nothing is compiled, and
JAX's cache of compiled programs on disk is off.

    python scripts/benchmark_many_runs.py --tiny 100 --real 8
"""

import argparse
import gc
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from measuring.fresh_process import fresh
from rich.console import Console
from rich.table import Table as Grid

from bertjax import FineTuneConfig, Table, finetune
from bertjax.config import BertConfig
from bertjax.training.loop.progress import NoProgress, StepProgress

TINY = BertConfig(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_position_embeddings=128)
ROWS, EPOCHS = 600, 1  # of TREC
UNITS = {"first_step": "s to the first step", "maps": "maps", "memory": "MiB", "threads": "threads", "files": "files"}


class FirstStep(NoProgress):
    """Takes the time of the first step."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        self._started = time.perf_counter()

    def show(self, progress: StepProgress) -> None:
        """A step is done."""
        if self.seconds is None:
            self.seconds = time.perf_counter() - self._started


def left_behind() -> dict[str, float]:
    """What this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "maps": Path("/proc/self/maps").read_text().count("\n"),
        "memory": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "threads": threading.active_count(),
        "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
    }


def tiny_model(folder: Path) -> Path:
    """A network of a few small layers, with MiniLM's tokenizer."""
    import jax

    from bertjax import catalog, make_model, save_pretrained
    from bertjax.data.encode.pretrained_tokenizer import load_tokenizer

    model = make_model(TINY, "encoder")
    tokenizer = load_tokenizer(catalog.fetch("minilm-l6"))
    save_pretrained(folder, model, model.init(jax.random.key(0)), tokenizer)
    return folder


def runs(tiny: bool, count: int, scratch: str) -> list[dict[str, float]]:
    """What each of so many equal runs took and left."""
    folder = Path(scratch)
    table = Table(per_class=ROWS // 6, validation_size=60)
    config = FineTuneConfig(data=table, epochs=EPOCHS, tracking="none")
    if tiny:
        config = replace(config, model=str(tiny_model(folder / "tiny")))
    measured = []
    for number in range(count):
        first_step = FirstStep()
        finetune(config, folder / f"run-{number}", progress=first_step)
        assert first_step.seconds is not None, "the run has steps"
        measured.append({"first_step": first_step.seconds} | left_behind())
    return measured


def growth(measured: Sequence[Mapping[str, float]], name: str) -> float:
    """How much more there is after a run, on average over the second half of the runs."""
    half = [row[name] for row in measured[len(measured) // 2 :]]
    return (half[-1] - half[0]) / max(1, len(half) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", type=int, default=100, help="runs of a tiny network")
    parser.add_argument("--real", type=int, default=8, help="runs of the default model")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()
    results = {}
    grid = Grid("runs", "", *UNITS.values())
    for name, count in (("tiny", arguments.tiny), ("minilm-l6", arguments.real)):
        if not count:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            variables = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
            measured = fresh(variables, runs, name == "tiny", count, scratch)
        results[name] = measured
        shown = {"first": measured[0], "second": measured[1], "last": measured[-1]}
        for row, values in shown.items():
            grid.add_row(name, row, *(f"{values[unit]:.4g}" for unit in UNITS))
        later = statistics.median(row["first_step"] for row in measured[1:])
        trend = [f"{growth(measured, unit):+.2g} a run" for unit in UNITS if unit != "first_step"]
        grid.add_row(name, f"{count} runs", f"median of later {later:.2f}", *trend)
    Console().print(grid)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
