"""Whether two checkouts compute the same bits: for a change that should only move code.

    python scripts/same_bits.py OLD NEW                        # one epoch of TREC, and a run of OLD that NEW resumes
    python scripts/same_bits.py OLD NEW --projects FOLDER      # and a sweep of two trials on the projects table

Both checkouts run in this Python environment, one after the other, with the same seed. Compared are the weights of the
model, bit by bit, the scores, and the losses of every step. The run to be resumed is started by OLD, stopped by SIGTERM
in the middle, and continued by NEW; its weights must be those of OLD's uninterrupted run.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

SWEEP = """
import bertjax
try:
    from bertjax import Grid
except ImportError:  # before the ranges were public names
    from bertjax.sweeps.space import Grid
data = bertjax.Table("FOLDER/dataset.csv", test="FOLDER/holdout.csv", text=("title", "description"), label="tag",
                     validation_size=0.2)
space = {"optimizer.learning_rate": Grid((1e-4, 2e-4))}
CONFIG = bertjax.Sweep(bertjax.FineTuneConfig(data=data, epochs=1), space, keep="all")
"""
STOP_AFTER = 0.4  # of the steps of the run that is stopped


def bertjax(checkout: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts a command of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.absolute())}
    command = [sys.executable, "-m", "bertjax", *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> None:
    """Waits for a command, and ends this script with its messages if it fails."""
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(process.args)} failed:\n{errors}")  # type: ignore[arg-type]


def stop_in_the_middle(process: subprocess.Popen[str], run: Path, total_steps: int) -> None:
    """Sends SIGTERM once the event log has enough steps; the run saves its state and ends."""
    log = run / "tracking.jsonl"
    while process.poll() is None and (
        not log.exists() or log.read_text().count('"train/loss"') < STOP_AFTER * total_steps
    ):
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    finish(process)


def losses(run: Path) -> dict[int, float]:
    """Step -> training loss, from the event log of a run."""
    events: list[dict[str, Any]] = [json.loads(line) for line in (run / "tracking.jsonl").read_text().splitlines()]
    return {
        event["step"]: event["metrics"]["train/loss"] for event in events if "train/loss" in event.get("metrics", {})
    }


def scores(run: Path) -> dict[str, float]:
    """The metrics of a run that do not depend on the machine's speed."""
    metrics = json.loads((run / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name.startswith(("test/", "validation/", "train/loss"))}


def compare(title: str, old: Path, new: Path) -> bool:
    """Prints whether two runs are the same, and what differs."""
    left, right = (load_file(run / "model" / "model.safetensors") for run in (old, new))
    weights = [name for name in left | right if not np.array_equal(left.get(name, ()), right.get(name, ()))]
    different = {
        "weights": weights,
        "scores": [name for name in scores(old) | scores(new) if scores(old).get(name) != scores(new).get(name)],
        "losses": [str(step) for step, loss in losses(old).items() if losses(new).get(step) != loss],
    }
    parts = [f"{what} differ: {', '.join(names[:3])} ({len(names)})" for what, names in different.items() if names]
    print(f"{title}: {'; '.join(parts) or f'equal ({len(left)} tensors, {len(losses(old))} steps)'}", flush=True)
    return not parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--projects", type=Path, help="folder with dataset.csv and holdout.csv")
    options = parser.parse_args()
    checkouts = {"old": options.old.absolute(), "new": options.new.absolute()}
    projects = options.projects and options.projects.absolute()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        flags = ["finetune", "--epochs", "1", "--out"]
        for side, checkout in checkouts.items():
            finish(bertjax(checkout, *flags, side))
        same = [compare("one epoch of TREC", Path("old"), Path("new"))]
        stop_in_the_middle(bertjax(checkouts["old"], *flags, "resumed"), Path("resumed"), len(losses(Path("old"))))
        finish(bertjax(checkouts["new"], *flags, "resumed", "--resume"))
        same.append(compare("started by OLD, resumed by NEW", Path("old"), Path("resumed")))
        if projects:
            Path("sweep.py").write_text(SWEEP.replace("FOLDER", str(projects)))
            for side, checkout in checkouts.items():
                finish(bertjax(checkout, "sweep", "--config", "sweep.py", "--out", f"sweep-{side}"))
            for trial in ("000", "001"):
                same.append(compare(f"trial {trial}", *(Path(f"sweep-{side}/trials/{trial}") for side in checkouts)))
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
