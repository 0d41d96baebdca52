"""How long a job takes to its first step, cold and warm: the same short run in fresh processes, turn by turn.

Cold, the job has never run: the cache of compiled programs is empty, and MLflow's database is not there. Warm, it is
the second start of that job. The time runs from the start of the process to the end of its first training step, and is
taken from outside; processor time is that of the process when it says so, and hangs less on what else the machine does.

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

from bertjax.cli.process.process_setup import COMPILED_SETTINGS

# What `bertjax finetune` does, with a progress that says when the first step is done.
JOB = """
import sys
import time
from bertjax.cli.process.process_setup import prepare_process
prepare_process()
from bertjax import FineTuneConfig, Table, finetune
from bertjax.training.loop.progress import NoProgress

class FirstStep(NoProgress):
    shown = False

    def show(self, reading):
        self.shown or print("first step done", time.process_time(), flush=True)
        self.shown = True

stop = iter([False, True])
finetune(FineTuneConfig(), sys.argv[1], progress=FirstStep(), should_stop=lambda: next(stop))
"""


def seconds_to_first_step(scratch: Path, name: str) -> tuple[float, float]:
    """Of one start of the default job, stopped after its second step: on the wall's clock, and of the processor."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    variables |= {"JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled"), **COMPILED_SETTINGS}
    variables["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
    started = time.perf_counter()
    command = [sys.executable, "-c", JOB, str(scratch / name)]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as job:
        assert job.stdout is not None
        line = job.stdout.readline()
        if not line.startswith("first step done"):
            raise RuntimeError("the job ended before its first step")
        return time.perf_counter() - started, float(line.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of a cold and a warm start")
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    seconds: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
    for turn in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as scratch:
            for kind, measured in seconds.items():
                measured.append(seconds_to_first_step(Path(scratch), kind))
                wall, processor = measured[-1]
                print(
                    f"{kind} start {turn + 1}: first step after {wall:.1f} s, {processor:.1f} s of processor",
                    flush=True,
                )
    ratios: dict[str, list[float]] = {}
    for clock, name in enumerate(("wall", "processor")):
        cold, warm = ([pair[clock] for pair in seconds[kind]] for kind in ("cold", "warm"))
        ratios[name] = [second / first for first, second in zip(cold, warm, strict=True)]
        print(
            f"{name}, median: cold {statistics.median(cold):.1f} s, warm {statistics.median(warm):.1f} s, warm / cold "
            f"{statistics.median(ratios[name]):.2f} (each turn: {', '.join(f'{ratio:.2f}' for ratio in ratios[name])})"
        )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"seconds": seconds, "ratios": ratios}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
