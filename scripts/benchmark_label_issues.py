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
from bertjax.cross_validation.clean_table import suspects, write_without_suspects
from bertjax.cross_validation.training_issues import find_training_issues
from bertjax.data.split.read_splits import read_splits
from bertjax.data.table import Table
from bertjax.tasks import find_format
from bertjax.tracking.tracker import NullTracker
from bertjax.training.run.finetuning import finetune

NOISY, TRUE = "accuracy, noisy", "without the flips"
FOUND = ("recall in the top share", "recall of all issues", "precision of all issues")
CLEANED = {"without the top share": True, "without all issues": False}
COLUMNS = (*FOUND, NOISY, *CLEANED, TRUE)


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
    """One seed: noise, folds, and the four trainings."""
    train, test, flipped = write_tables(folder, arguments.noise, seed)
    table = Table(train=str(train), folds=arguments.folds)
    found = find_training_issues(replace(config, data=table), folder / "folds", tracker=NullTracker())
    top, issues = (set(suspects(found.issues, share).tolist()) for share in (arguments.share, None))
    shares = (
        len(top & flipped) / len(flipped),
        len(issues & flipped) / len(flipped),
        len(issues & flipped) / len(issues),
    )
    result = dict(zip(FOUND, shares, strict=True))
    print(json.dumps({"seed": seed, **result}), flush=True)
    result[NOISY] = accuracy(config, train, test, folder / "noisy")
    for name, is_share in CLEANED.items():
        clean = folder / f"{name}.jsonl"
        write_without_suspects(clean, found, arguments.share if is_share else None)
        result[name] = accuracy(config, clean, test, folder / name)
    ideal = folder / "ideal.jsonl"  # what nobody knows: the best that cleaning could reach
    lines = train.read_text(encoding="utf-8").splitlines(keepends=True)
    ideal.write_text("".join(line for i, line in enumerate(lines) if i not in flipped), encoding="utf-8")
    result[TRUE] = accuracy(config, ideal, test, folder / TRUE)
    print(json.dumps({"seed": seed, **result}), flush=True)
    return result


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
        if arguments.json:
            content = json.dumps({**vars(arguments), "results": results}, indent=2)
            Path(arguments.json).write_text(content, encoding="utf-8")
    Console(width=160).print(table_of(results))


if __name__ == "__main__":
    main()
