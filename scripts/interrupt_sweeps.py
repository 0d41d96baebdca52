"""Sweeps whose driver is killed at a random moment and resumed: every trial ends once, and MLflow has each run once.

A tiny model is tuned by the real command, tracked by a real MLflow. Kills come at any time between the start of the
driver and the end of the sweep, so they hit Ray's start, a trial's first step, its last, and the moments between.

    python scripts/interrupt_sweeps.py                 # five sweeps, one kill each
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from interrupt_runs import make_inputs

TRIALS = 4
SWEEP_FILE = """
from bertjax import FineTuneConfig, LogUniform, Sweep, Table

CONFIG = Sweep(
    base=FineTuneConfig(
        model="tiny", data=Table("train.csv", validation_size=0.25), epochs=3, max_length=32, batch_size=9
    ),
    space={{"optimizer.learning_rate": LogUniform(1e-4, 1e-2)}},
    samples={trials},
    concurrency=2,
)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=5, help="each killed once")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = kill_sweeps(Path(scratch), arguments.sweeps, arguments.seed)
    whole = sum(not result["wrong"] for result in results)
    print(f"{whole} of {len(results)} killed sweeps were completed, no run missing and none twice")
    if arguments.json:
        arguments.json.write_text(json.dumps({"sweeps": results, "whole": whole}, indent=2) + "\n", encoding="utf-8")
    return 0 if whole == len(results) else 1


def kill_sweeps(folder: Path, sweeps: int, seed: int) -> list[dict[str, Any]]:
    """Kills and resumes one sweep after the other; the first one, left alone, says how long one takes."""
    make_inputs(folder)
    (folder / "sweep.py").write_text(SWEEP_FILE.format(trials=TRIALS), encoding="utf-8")
    started = time.monotonic()
    if start(folder, ["--config", "sweep.py", "--out", "whole"], "whole").wait() != 0:
        raise SystemExit("the sweep without a kill failed")
    length = time.monotonic() - started
    print(f"a sweep takes {length:.0f} s; {'; '.join(problems(folder, 'whole')) or 'it is complete'}", flush=True)
    rng = random.Random(seed)
    results = []
    for i in range(sweeps):
        name = f"sweep-{i}"
        moment = rng.uniform(0.1, 0.95) * length
        process = start(folder, ["--config", "sweep.py", "--out", name], name)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = finished(folder / name)
        resumable = (folder / name / "sweep.json").exists()
        again = ["--resume", name] if resumable else ["--config", "sweep.py", "--out", name]
        status = start(folder, again, name).wait()
        wrong = [f"the second start ended with {status}"] * bool(status) or problems(folder, name)
        results.append({"sweep": name, "killed_after_seconds": moment, "finished_before": before, "wrong": wrong})
        print(
            f"{name}: killed after {moment:.1f} s with {before} of {TRIALS} trials finished: "
            f"{'; '.join(wrong) or 'complete'}",
            flush=True,
        )
    return results


def start(folder: Path, flags: list[str], name: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, with an MLflow database for the sweep alone."""
    variables = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/{name}.db"}
    command = [sys.executable, "-m", "bertjax", "sweep", *flags]
    return subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finished(folder: Path) -> int:
    """Trials of a sweep that have ended."""
    return len(list(folder.glob("trials/*/metrics.json")))


def problems(folder: Path, name: str) -> list[str]:
    """What a sweep that has ended lacks, or has twice."""
    from mlflow import MlflowClient

    wrong = []
    if finished(folder / name) != TRIALS:
        wrong.append(f"{finished(folder / name)} of {TRIALS} trials finished")
    client = MlflowClient(f"sqlite:///{folder}/{name}.db")
    experiment = client.get_experiment_by_name("bertjax")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    if (len(runs), len(children)) != (TRIALS + 1, TRIALS):
        wrong.append(f"MLflow has {len(runs)} runs, {len(children)} of them trials")
    if {run.info.status for run in runs} != {"FINISHED"}:
        wrong.append(f"MLflow has runs that are {sorted({run.info.status for run in runs})}")
    for run in children:
        counts = Counter(point.step for point in client.get_metric_history(run.info.run_id, "train/loss"))
        if sorted(counts.elements()) != list(range(1, max(counts, default=1) + 1)):
            wrong.append(f"the steps of {run.info.run_name} have gaps or are there twice")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
