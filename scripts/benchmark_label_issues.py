"""Whether confident learning finds planted label noise, and whether leaving out what it finds pays: labels of TREC's
training rows are flipped at random, `find_training_issues` ranks the rows, and MiniLM-L6 is trained with and without
the most doubtful ones, and judged on the catalog's clean test rows.

    python scripts/benchmark_label_issues.py --folds 5 --epochs 3 --seeds 0 1 2 --json label_issues.json
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table as TextTable

from bertjax import FineTuneConfig
from bertjax.cli.process.process_setup import prepare_process
from bertjax.data.split.read_splits import read_splits
from bertjax.data.table import Table
from bertjax.label_folds.clean_table import suspects, write_without_suspects
from bertjax.label_folds.training_issues import TrainingIssues, find_training_issues
from bertjax.tasks import find_format
from bertjax.tracking.tracker import NullTracker
from bertjax.training.run.finetuning import finetune

COLUMNS = ("recall in the top share", "recall of all issues", "precision of all issues", "accuracy, noisy",
           "without the top share", "without all issues")  # fmt: skip


def write_tables(folder: Path, noise: float, seed: int) -> tuple[Path, Path, set[int]]:
    """The noisy training table, the test table, and the places of the flipped rows."""
    splits = read_splits(Table(), find_format("classification"))
    train = pd.DataFrame({"text": splits.train.texts, "label": splits.train.labels})
    rng = np.random.default_rng(seed)
    flipped = rng.choice(len(train), round(noise * len(train)), replace=False)
    names = sorted(set(train["label"]))
    for row in flipped.tolist():
        train.loc[row, "label"] = rng.choice([name for name in names if name != train.loc[row, "label"]])
    paths = folder / "noisy.jsonl", folder / "test.jsonl"
    train.to_json(paths[0], orient="records", lines=True)
    pd.DataFrame({"text": splits.test.texts, "label": splits.test.labels}).to_json(
        paths[1], orient="records", lines=True
    )
    return *paths, set(flipped.tolist())


def accuracy(config: FineTuneConfig, train: Path, test: Path, out: Path) -> float:
    """Of the test rows, after training on a table."""
    table = Table(train=str(train), test=str(test))
    result = finetune(replace(config, data=table), out, tracker=NullTracker())
    return result.metrics["test/accuracy"]


def measure(config: FineTuneConfig, seed: int, arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """One seed: noise, folds, and the three trainings."""
    train, test, flipped = write_tables(folder, arguments.noise, seed)
    table = Table(train=str(train), folds=arguments.folds)
    found = find_training_issues(replace(config, data=table), folder / "folds", tracker=NullTracker())
    top, issues = (set(suspects(found.issues, share).tolist()) for share in (arguments.share, None))
    result = {
        COLUMNS[0]: len(top & flipped) / len(flipped),
        COLUMNS[1]: len(issues & flipped) / len(flipped),
        COLUMNS[2]: len(issues & flipped) / len(issues),
    } | by_other_rankings(found, flipped, arguments.share)
    print(json.dumps({"seed": seed, **result}), flush=True)
    result[COLUMNS[3]] = accuracy(config, train, test, folder / "noisy")
    for name, share in ((COLUMNS[4], arguments.share), (COLUMNS[5], None)):
        clean = folder / f"clean-{share}.jsonl"
        write_without_suspects(clean, found, share)
        result[name] = accuracy(config, clean, test, folder / f"run-{share}")
    print(json.dumps({"seed": seed, **result}), flush=True)
    return result


def by_other_rankings(found: TrainingIssues, flipped: set[int], share: float) -> dict[str, float]:
    """The recall in the top share, by the margin and by self-confidence alone."""
    items = found.issues.items
    of_given = np.take_along_axis(items.probabilities, items.given[:, None], axis=1)[:, 0]
    margins = of_given - items.probabilities.max(axis=1)
    top = round(share * len(of_given))
    orders = {"self-confidence": np.argsort(of_given), "margin": np.lexsort((of_given, margins))}
    return {
        f"recall by {name}": len(set(items.rows[order[:top]].tolist()) & flipped) / len(flipped)
        for name, order in orders.items()
    }


def table_of(results: dict[int, dict[str, float]]) -> TextTable:
    """The results for people."""
    table = TextTable(title="planted label noise", title_justify="left")
    for column in ("seed", *COLUMNS):
        table.add_column(column, justify="right")
    for seed, result in results.items():
        table.add_row(str(seed), *(f"{result[name]:.3f}" for name in COLUMNS))
    means = (statistics.mean(result[name] for result in results.values()) for name in COLUMNS)
    table.add_row("mean", *(f"{mean:.3f}" for mean in means))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the noise and the trainings")
    parser.add_argument("--noise", type=float, default=0.05, help="share of the labels that are flipped")
    parser.add_argument("--share", type=float, default=0.07, help="share of the rows that are suspected")
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    prepare_process()
    results: dict[int, dict[str, Any]] = {}
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            config = FineTuneConfig(epochs=arguments.epochs, seed=seed)
            results[seed] = measure(config, seed, arguments, Path(folder))
    Console(width=160).print(table_of(results))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({**vars(arguments), "results": results}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
