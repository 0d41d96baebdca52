"""What successive halving saves: the sweep of the projects table with ASHA, against its trials all run to their end.

ASHA's sweep comes first. For the other side, a copy of its folder is continued without a scheduler: the trials that
ASHA had ended go on from their checkpoints, and become to the bit what they would have been. Counted are epochs, which
no busy machine distorts, and the best validation score that each side has found.

    python scripts/benchmark_asha.py --out asha

A second start with the same folder goes on where the first was ended.
"""

import argparse
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from typing import Any

from bertjax import Sweep, run_sweep
from bertjax.cli.process.process_setup import prepare_process
from bertjax.sweeps.driver import SweepStopped
from bertjax.sweeps.ledger import SWEEP, Ledger
from bertjax.sweeps.results.sweep_results import Results

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "sweep_projects.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("asha"), help="folder of both sides and their MLflow runs")
    parser.add_argument("--samples", type=int, help="trials; default: the experiment's")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()
    prepare_process()
    sweep: Sweep = run_path(str(EXPERIMENT))["CONFIG"]
    if arguments.samples:
        sweep = replace(sweep, samples=arguments.samples)
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{out / 'mlflow.db'}")
    try:
        asha = halved(replace(sweep, scheduler="asha", keep="all"), out / "asha")
        whole = continued(replace(sweep, scheduler="none", keep="all"), asha.folder, out / "whole")
    except SweepStopped:
        sys.exit(f"stopped; the same command with --out {arguments.out} goes on")
    result = compared(asha, whole)
    epochs, best, trial = result["epochs"], result["best"], result["trial"]
    print(
        f"{result['trials']} trials: ASHA spent {epochs['asha']} of {epochs['whole']} epochs, {result['share']:.0%}\n"
        f"best {result['metric']}: ASHA {best['asha']:.4f} (trial {trial['asha']}), all to their end "
        f"{best['whole']:.4f} (trial {trial['whole']}): {100 * result['lost']:.2f} points lost"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def halved(sweep: Sweep, folder: Path) -> Results:
    """The sweep with ASHA, or the rest of it."""
    return run_sweep(sweep, folder, if_exists="resume" if (folder / SWEEP).exists() else "error")


def continued(sweep: Sweep, halved: Path, folder: Path) -> Results:
    """The same trials, all of them to their end."""
    if not folder.exists():
        scratch = folder.with_name(f".{folder.name}")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(halved, scratch)
        ledger = Ledger(scratch)
        ledger.open(sweep)
        for trial in ledger.trials():
            if trial.status == "stopped":
                ledger.record(trial.number, status="running", cause="")
        scratch.rename(folder)
    return run_sweep(sweep, folder, if_exists="resume")


def compared(asha: Results, whole: Results) -> dict[str, Any]:
    """Epochs and best scores of both; scores of the trials that ran to their end, as `best.py` has them."""
    sides = {"asha": asha, "whole": whole}
    best = {side: results.best for side, results in sides.items()}
    scores = {side: result.best for side, result in best.items() if result is not None and result.best is not None}
    evaluations = {side: sum(len(trial.curve) for trial in results.trials) for side, results in sides.items()}
    epochs = {side: count * whole.sweep.base.evaluation.evaluate_every for side, count in evaluations.items()}
    return {
        "trials": len(whole.trials),
        "metric": whole.metric,
        "epochs": epochs,
        "share": epochs["asha"] / epochs["whole"],
        "best": scores,
        "trial": {side: result.trial.number for side, result in best.items() if result is not None},
        "lost": scores["whole"] - scores["asha"],
    }


if __name__ == "__main__":
    main()
