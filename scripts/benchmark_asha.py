"""What successive halving saves: the sweep of the projects table with ASHA, against the same trials without.

Both draw the same settings, and a trial has the same seed on both sides, so that it learns the same as far as it goes.
Counted are epochs, which no busy machine distorts, and the best validation score that each side found.

    python scripts/benchmark_asha.py --out asha

A second start with the same folder goes on where the first was ended.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from typing import Any

from bertjax.cli.environment import COMPILED_SETTINGS
from bertjax.sweeps.config import Sweep
from bertjax.sweeps.driver import run_sweep
from bertjax.sweeps.ledger import SWEEP
from bertjax.sweeps.results import Results

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "sweep_projects.py"
SIDES = ("asha", "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("asha"), help="folder of both sweeps and their MLflow runs")
    parser.add_argument("--samples", type=int, help="trials; default: the experiment's")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()
    sweep: Sweep = run_path(str(EXPERIMENT))["CONFIG"]
    if arguments.samples:
        sweep = replace(sweep, samples=arguments.samples)
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{out / 'mlflow.db'}")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(out / "compiled"))
    for name, value in COMPILED_SETTINGS.items():
        os.environ.setdefault(name, value)
    found = {side: run(replace(sweep, scheduler=side), out / side) for side in SIDES}
    result = compared(found["asha"], found["none"])
    print(
        f"{result['trials']} trials: ASHA spent {result['epochs']['asha']} epochs, all of them to the end "
        f"{result['epochs']['none']}: {100 * result['share']:.0f}%\n"
        f"best {result['metric']}: ASHA {result['best']['asha']:.4f} (trial {result['trial']['asha']}), all "
        f"{result['best']['none']:.4f} (trial {result['trial']['none']}): {100 * result['lost']:.2f} points lost"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def run(sweep: Sweep, folder: Path) -> Results:
    """The sweep, or the rest of it."""
    return run_sweep(sweep, folder, resume=(folder / SWEEP).exists())


def compared(asha: Results, whole: Results) -> dict[str, Any]:
    """Epochs and best scores of both; scores of the trials that ran to their end, as `best.py` has them."""
    sides = {"asha": asha, "none": whole}
    best = {side: results.best for side, results in sides.items()}
    scores = {side: result.best for side, result in best.items() if result is not None and result.best is not None}
    epochs = {side: results.reports * whole.sweep.base.evaluating.evaluate_every for side, results in sides.items()}
    return {
        "trials": len(whole.trials),
        "metric": whole.metric,
        "epochs": epochs,
        "share": epochs["asha"] / epochs["none"],
        "best": scores,
        "trial": {side: result.trial.number for side, result in best.items() if result is not None},
        "lost": scores["none"] - scores["asha"],
    }


if __name__ == "__main__":
    main()
