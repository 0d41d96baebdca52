"""Peak memory of a whole fine-tuning on a CPU: bertjax's default job beside a plain PyTorch loop that does the same,
and what it costs to accumulate gradients.

Each measurement is a process of its own: read the table, train, evaluate, save, and leave a run in MLflow. What counts
is the most memory that the process ever held (`VmHWM` of Linux), libraries, compiler and all. The same rows, model,
batch size, number of steps and optimizer; PyTorch pads each batch to its longest text, bertjax packs.

    python scripts/benchmark_memory.py
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from bertjax import FineTuneConfig, Table, catalog
from bertjax.cli.process.process_setup import restart_with_huge_pages
from bertjax.data.read.catalog_tables import read_catalog

TEXT, LABEL, MODEL = "text", "label", "minilm-l6"
TEST_ROWS = 128
MIB = 2**20


def bertjax_job(folder: Path, batch_size: int, accumulate: int) -> None:
    """What `bertjax finetune` does."""
    from bertjax import finetune

    config = FineTuneConfig(
        model=MODEL,
        data=Table(str(folder / "train.csv"), test=str(folder / "test.csv"), text=(TEXT,), label=LABEL),
        epochs=1,
        batch_size=batch_size,
        accumulate=accumulate,
    )
    finetune(config, folder / "run")


def torch_job(folder: Path, batch_size: int, accumulate: int) -> None:
    """The loop that one would write with transformers and MLflow."""
    import mlflow
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification, get_linear_schedule_with_warmup

    train, test = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "test.csv")
    names = sorted(train[LABEL].unique())
    weights = catalog.fetch(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = BertForSequenceClassification.from_pretrained(weights, num_labels=len(names)).train()
    settings: Any = FineTuneConfig().resolved().optimizer
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, eps=settings.eps, fused=True)
    steps = -(-len(train) // batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, round(settings.warmup * steps), steps)

    def batch_of(rows: pd.DataFrame) -> dict[str, Any]:
        tokens = tokenizer(list(rows[TEXT]), padding=True, truncation=True, max_length=128, return_tensors="pt")
        return {**tokens, "labels": torch.tensor([names.index(label) for label in rows[LABEL]])}

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    with mlflow.start_run():
        for step in range(steps):
            rows = train.iloc[step * batch_size : (step + 1) * batch_size]
            for part in range(accumulate):
                own = rows.iloc[part::accumulate]
                loss = model(**batch_of(own)).loss * len(own) / len(rows)
                loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            mlflow.log_metrics({"train/loss": loss.item()}, step=step)
        model.eval()
        right = 0
        with torch.inference_mode():
            for start in range(0, len(test), batch_size):
                batch = batch_of(test.iloc[start : start + batch_size])
                right += int((model(**batch).logits.argmax(-1) == batch["labels"]).sum())
        mlflow.log_metric("test/accuracy", right / len(test))
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        torch.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, folder / "state.pt")
        mlflow.log_artifacts(str(folder / "model"), "model")


JOBS: dict[str, Callable[[Path, int, int], None]] = {"bertjax": bertjax_job, "torch": torch_job}


def peak_of_this_process() -> int:
    """The most memory it ever held, in bytes; nothing of the process that started it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def measure(job: str, rows: pd.DataFrame, batch_size: int, accumulate: int, steps: int) -> float:
    """Peak memory of a job in a process of its own, in MiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows.iloc[:TEST_ROWS].to_csv(folder / "test.csv", index=False)
        wanted = steps * batch_size
        repeated = pd.concat([rows.iloc[TEST_ROWS:]] * (wanted // (len(rows) - TEST_ROWS) + 1)).iloc[:wanted].copy()
        repeated[TEXT] = [f"{text} {i}" for i, text in enumerate(repeated[TEXT])]  # distinct, or bertjax drops them
        repeated.to_csv(folder / "train.csv", index=False)
        arguments = ["--job", job, "--folder", name, "--batch-size", str(batch_size), "--accumulate", str(accumulate)]
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), *arguments],
            env={name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return float(done.stdout.splitlines()[-1]) / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind")
    parser.add_argument("--steps", type=int, default=16, help="updates of a job")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--parts", type=int, default=8, help="accumulated, each of them a batch")
    parser.add_argument("--accumulate", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    if arguments.job:
        if arguments.job == "bertjax":
            restart_with_huge_pages()  # as the command does
        JOBS[arguments.job](arguments.folder, arguments.batch_size, arguments.accumulate)
        print(peak_of_this_process())
        return

    rows = read_catalog("trec")[[TEXT, LABEL]]
    size, parts = arguments.batch_size, arguments.parts
    kinds = {
        "torch": ("torch", size, 1),
        "bertjax": ("bertjax", size, 1),
        "accumulated": ("bertjax", size * parts, parts),
        "at once": ("bertjax", size * parts, 1),
    }
    peaks: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for kind, (job, batch_size, accumulate) in kinds.items():
            peaks[kind].append(measure(job, rows, batch_size, accumulate, arguments.steps))
            print(f"{kind:<12} batches of {batch_size:4}, {peaks[kind][-1]:6.0f} MiB", flush=True)
    medians = {kind: statistics.median(values) for kind, values in peaks.items()}
    ratios = {
        "bertjax / torch": medians["bertjax"] / medians["torch"],
        f"{parts} batches accumulated / one": medians["accumulated"] / medians["bertjax"],
        f"{parts} batches at once / one": medians["at once"] / medians["bertjax"],
    }
    for name, ratio in ratios.items():
        print(f"{name:<28} {ratio:.2f}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"mib": peaks, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
