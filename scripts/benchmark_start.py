"""How long a job takes to its first step, cold and warm: the same short run in fresh processes, turn by turn.

Cold, the cache of compiled programs is empty; warm, it has what the cold turn before compiled. The time runs from the
start of the process to the end of its first training step, and is taken from outside.

    python scripts/benchmark_start.py --rounds 3
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bertjax.cli.environment import COMPILED_SETTINGS

# What `bertjax finetune` does, with a progress that says when the first step is done.
JOB = """
import sys
from bertjax.cli.environment import prepare_process
prepare_process()
from bertjax.data.table import Table
from bertjax.training.config import FineTuneConfig
from bertjax.training.finetune import finetune
from bertjax.training.progress import NoProgress

class FirstStep(NoProgress):
    shown = False

    def show(self, reading):
        self.shown or print("first step done", flush=True)
        self.shown = True

stop = iter([False, True])
finetune(FineTuneConfig(), sys.argv[1], progress=FirstStep(), should_stop=lambda: next(stop))
"""


def seconds_to_first_step(cache: Path, out: Path) -> float:
    """Of one start of the default job, stopped after its second step."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    variables |= {"JAX_COMPILATION_CACHE_DIR": str(cache), **COMPILED_SETTINGS}
    variables["MLFLOW_TRACKING_URI"] = f"sqlite:///{out}.db"
    started = time.perf_counter()
    command = [sys.executable, "-c", JOB, str(out)]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as job:
        assert job.stdout is not None
        if job.stdout.readline() != "first step done\n":
            raise RuntimeError("the job ended before its first step")
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of a cold and a warm start")
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(arguments.rounds):
            for kind, measured in seconds.items():
                out = Path(scratch) / f"{kind}-{turn}"
                measured.append(seconds_to_first_step(Path(scratch) / f"compiled-{turn}", out))
                print(f"{kind} start {turn + 1}: first step after {measured[-1]:.1f} s", flush=True)
    ratios = [warm / cold for cold, warm in zip(seconds["cold"], seconds["warm"], strict=True)]
    print(
        f"median: cold {statistics.median(seconds['cold']):.1f} s, warm {statistics.median(seconds['warm']):.1f} s, "
        f"warm / cold {statistics.median(ratios):.2f} (each turn: {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"seconds": seconds, "ratios": ratios}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
