"""The share of `bertjax evaluate` that is spent outside the model: intervals and whatever else the flags ask for.

The rows are random texts with random labels. The time of the model is that of its scores of all rows, compilation
included; outside is all else but the loading of the model: reading, metrics, findings, files.

    python scripts/benchmark_evaluate.py                                  # 10,000 rows, MiniLM-L6, intervals and slices
    python scripts/benchmark_evaluate.py --model runs/a/model --flags "--intervals --draws 1000"
    python scripts/benchmark_evaluate.py --numbers-alone                  # the metrics of random scores, no model
"""

import argparse
import json
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--words", type=int, default=12, help="of a text, on average")
    parser.add_argument("--model", help="a model folder of classes; default: MiniLM-L6 with an untrained head")
    parser.add_argument(
        "--flags", default="--intervals --slice-columns label", help="of bertjax evaluate; automatic slices are on"
    )
    parser.add_argument("--numbers-alone", action="store_true", help="measure metrics and intervals of random scores")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()
    if arguments.numbers_alone:
        results = [numbers_alone(arguments.rows, classes) for classes in (2, CLASSES, 50)]
    else:
        results = [evaluation(arguments.rows, arguments.words, arguments.model, shlex.split(arguments.flags))]
    for result in results:
        print(
            "; ".join(
                f"{key} {value:,.3f}" if isinstance(value, float) else f"{key} {value:,}"
                for key, value in result.items()
            )
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def numbers_alone(rows: int, classes: int) -> dict[str, float]:
    """Seconds of a report and of 1,000 draws of all its metrics."""
    from bertjax.metrics.bootstrap import bootstrap_intervals
    from bertjax.metrics.classification_report import classification_report

    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, rows)
    logits = (rng.normal(size=(rows, classes)) + 2 * np.eye(classes)[labels]).astype(np.float32)
    names, predictions = list(map(str, range(classes))), logits.argmax(axis=1)
    classification_report(labels[:100], predictions[:100], names, logits[:100])  # imports
    plain, _ = timed(lambda: classification_report(labels, predictions, names))
    seconds, report = timed(lambda: classification_report(labels, predictions, names, logits))
    assert report.weighted is not None
    weighted = report.weighted
    intervals, _ = timed(lambda: bootstrap_intervals(weighted, rows, 1000, 0.95, 0))
    return {"rows": rows, "classes": classes, "labels_alone_s": plain, "report_s": seconds, "intervals_s": intervals}


def evaluation(rows: int, words: int, model: str | None, flags: list[str]) -> dict[str, float]:
    """Seconds of the parts of an evaluation, and the share outside the model."""
    from bertjax.cli.main import main as bertjax
    from bertjax.evaluation import evaluate_table

    spent = {"model": 0.0}
    scores_of = evaluate_table.predict
    read, load = evaluate_table.read_labelled_tables, evaluate_table.load_model

    def measured(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*positional: Any, **named: Any) -> Any:
            seconds, value = timed(lambda: function(*positional, **named))
            spent[name] = spent.get(name, 0.0) + seconds
            return value

        return run

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        name = model or untrained(folder)
        write_rows(folder / "rows.jsonl", rows, words, name)
        evaluate_table.predict = measured("model", scores_of)
        evaluate_table.read_labelled_tables = measured("read", read)
        evaluate_table.load_model = measured("load", load)
        columns = ["--text-columns", "text", "--label-column", "label"]
        words_of_command = ["evaluate", "--model", name, "--data", str(folder / "rows.jsonl"), *columns, *flags]
        total, status = timed(lambda: bertjax([*words_of_command, "--out", str(folder / "judged")]))
    if status != 0:
        raise SystemExit(f"bertjax evaluate ended with status {status}")
    outside = total - spent["model"] - spent["load"]
    return {
        "rows": rows, "total_s": total, "load_s": spent["load"], "model_s": spent["model"], "outside_s": outside,
        "share_outside": outside / (outside + spent["model"]), "of_it_reading_s": spent["read"],
    }  # fmt: skip


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and its value."""
    started = time.perf_counter()
    value = function()
    return time.perf_counter() - started, value


def untrained(folder: Path) -> str:
    """MiniLM-L6 with a new head of six classes."""
    from bertjax import catalog, save_pretrained
    from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
    from bertjax.model_folder.load_checkpoint import from_pretrained

    source = catalog.fetch("minilm-l6")
    names = tuple(f"class {i}" for i in range(CLASSES))
    model, params = from_pretrained(source, "classification", names)
    save_pretrained(folder / "model", model, params, load_tokenizer(source), max_length=128)
    return str(folder / "model")


def write_rows(path: Path, rows: int, words: int, model: str) -> None:
    """Random texts with the model's labels."""
    from bertjax.config import read_config_json
    from bertjax.model_folder.stored_settings import stored_labels

    rng, labels = random.Random(0), stored_labels(read_config_json(Path(model)))
    known = [
        "what",
        "is",
        "the",
        "capital",
        "of",
        "a",
        "country",
        "who",
        "wrote",
        "this",
        "book",
        "and",
        "when",
        "was",
        "it",
        "made",
        "how",
        "many",
        "people",
        "live",
    ]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            text = " ".join(rng.choices(known, k=rng.randint(1, 2 * words - 1)))
            file.write(json.dumps({"text": text, "label": rng.choice(labels)}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
