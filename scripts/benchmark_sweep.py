"""What a sweep costs beside its trials: eight short runs in a sweep, against the same eight by hand.

By hand, each is `bertjax finetune` in a process of its own, one after the other. The sweep has the same settings in a
grid, one trial at a time. Both find their programs compiled, and both leave their runs in MLflow. Each takes its turn,
in the same folder; the time is that of the whole command, from outside.

    python scripts/benchmark_sweep.py
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bertjax.cli.process.process_setup import COMPILED_SETTINGS
from bertjax.data.read.catalog_tables import read_catalog

RATES = (1e-5, 2e-5, 3e-5, 5e-5, 8e-5, 1e-4, 2e-4, 3e-4)
ROWS, TEST_ROWS = 800, 200
SWEEP_FILE = f"""
from bertjax import FineTuneConfig, Grid, Sweep, Table

TABLE = Table("train.csv", validation="validation.csv", test="test.csv")
CONFIG = Sweep(
    base=FineTuneConfig(model="minilm-l6", data=TABLE, epochs=1),
    space={{"optimizer.learning_rate": Grid({RATES})}},
    searcher="grid",
    concurrency=1,
    cpus=2,
    keep="all",
)
"""
TABLES = ["--train", "train.csv", "--validation", "validation.csv", "--test", "test.csv"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"by hand": [], "sweep": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_inputs(folder)
        run(folder, ["finetune", *TABLES, "--epochs", "1", "--out", "first"])  # fills the cache of compiled programs
        for turn in range(arguments.rounds):
            for kind, measured in seconds.items():
                measured.append(by_hand(folder) if kind == "by hand" else in_a_sweep(folder))
                print(f"turn {turn + 1}, {kind}: {measured[-1]:.1f} s for {len(RATES)} runs", flush=True)
    ratios = [sweep / hand for hand, sweep in zip(seconds["by hand"], seconds["sweep"], strict=True)]
    print(f"sweep / by hand: {statistics.median(ratios):.2f} (each turn: {', '.join(f'{r:.2f}' for r in ratios)})")
    if arguments.json:
        arguments.json.write_text(json.dumps({"seconds": seconds, "ratios": ratios}, indent=2) + "\n", encoding="utf-8")


def write_inputs(folder: Path) -> None:
    """Tables with rows of TREC, and the sweep."""
    rows = read_catalog("trec")[["text", "label"]].drop_duplicates("text").sample(frac=1, random_state=0)
    rows.iloc[:ROWS].to_csv(folder / "train.csv", index=False)
    rows.iloc[ROWS : ROWS + TEST_ROWS].to_csv(folder / "validation.csv", index=False)
    rows.iloc[ROWS + TEST_ROWS : ROWS + 2 * TEST_ROWS].to_csv(folder / "test.csv", index=False)
    (folder / "sweep.py").write_text(SWEEP_FILE, encoding="utf-8")


def run(folder: Path, words: list[str]) -> float:
    """Seconds that a command takes."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    variables |= {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"), **COMPILED_SETTINGS}
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "bertjax", *words], cwd=folder, env=variables, capture_output=True, check=True
    )
    return time.perf_counter() - started


def by_hand(folder: Path) -> float:
    """Seconds for the runs one after the other."""
    total = 0.0
    for rate in RATES:
        flags = ["--epochs", "1", "--learning-rate", str(rate), "--out", "run"]
        total += run(folder, ["finetune", *TABLES, *flags])
        shutil.rmtree(folder / "run")
    return total


def in_a_sweep(folder: Path) -> float:
    """Seconds for the same runs as trials."""
    taken = run(folder, ["sweep", "--config", "sweep.py", "--out", "sweep"])
    trials = list((folder / "sweep").glob("trials/*/metrics.json"))
    if len(trials) != len(RATES):
        raise RuntimeError(f"{len(trials)} of {len(RATES)} trials finished")
    shutil.rmtree(folder / "sweep")
    return taken


if __name__ == "__main__":
    main()
