"""Training speed of MiniLM on this machine against PyTorch at its best, taking turns in one process: transformers'
Trainer at its defaults, the Trainer grouping texts by length, and the plain loop of `bertjax compare`.

Every side has transformers' or bertjax's own network with the same weights, the same rows, batch size and dropout, and
AdamW with clipping; PyTorch's has fused attention and fused AdamW, and the Trainer writes no logs, which would slow it
down. PyTorch pads each batch to its longest text, bertjax packs. The projects table is at BERTJAX_DATA.

    python scripts/benchmark_finetune.py --data trec --rounds 7 --steps 10 --json finetune.json
"""

import argparse
import datetime
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import torch
import transformers
from measuring.bertjax_side import BertjaxSide
from measuring.torch_side import PacedTrainer, Rows
from measuring.turns import Counts, Steps, speed_ratios, take_turns

from bertjax import FineTuneConfig, Table
from bertjax.baselines.runners.run_torch import make_update
from bertjax.cli.process.process_setup import restart_with_huge_pages
from bertjax.data.read.catalog_tables import read_catalog
from bertjax.errors import ConfigError, UserError
from bertjax.storage.atomic_write import write_json
from bertjax.training.run.prepare import prepare

DATA = ("trec", "projects", "384-words")
LONG_TEXTS, LONG_WORDS, LONGEST = 600, 384, 512


@contextmanager
def job_on(data: str) -> Iterator[FineTuneConfig]:
    """The default job on a table."""
    if data == "trec":
        yield FineTuneConfig()
    elif data == "projects":
        if "BERTJAX_DATA" not in os.environ:
            raise ConfigError(
                "the projects table is in the folder that BERTJAX_DATA names; set it, or leave projects out"
            )
        folder = Path(os.environ["BERTJAX_DATA"]) / "projects"
        test = str(folder / "holdout.csv")
        table = Table(str(folder / "dataset.csv"), test=test, text=("title", "description"), label="tag")
        yield FineTuneConfig(data=table)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            long_texts().to_csv(Path(scratch) / "long.csv", index=False)
            table = Table(f"{scratch}/long.csv", text=("text",), label="label")
            yield FineTuneConfig(data=table, max_length=LONGEST)


def long_texts() -> pd.DataFrame:
    """Texts of random words of TREC, with lengths around 384 words and random labels."""
    rng, words = np.random.default_rng(0), " ".join(read_catalog("trec")["text"]).split()
    counts = np.maximum(rng.gamma(4, LONG_WORDS / 4, LONG_TEXTS).astype(int), 1)
    texts = [" ".join(rng.choice(words, count)) for count in counts]
    return pd.DataFrame({"text": texts, "label": [f"class {i % 6}" for i in range(LONG_TEXTS)]})


def loop_of_compare(config: FineTuneConfig) -> Steps:
    """The PyTorch loop of the baselines."""
    prepared = prepare(replace(config, packing="off"), num_devices=1)
    _, update = make_update(config, prepared)
    batches = enumerate(prepared.train.batches())

    def run(steps: int) -> Counts:
        examples = real = computed = 0
        for _ in range(steps):
            number, packed_batch = next(batches)
            _, computed_tokens = update(number, packed_batch)
            examples += packed_batch.num_examples
            real += packed_batch.num_tokens
            computed += computed_tokens
        return Counts(examples, real, computed)

    return run


def measure(config: FineTuneConfig, rounds: int, steps: int, warm: int) -> dict[str, Any]:
    """The speeds of all sides, and how many times as fast bertjax is."""
    config = config.resolved()
    prepared = prepare(config, num_devices=1)
    model, params, size = prepared.model, prepared.params, config.batch_size
    rows = Rows.of(prepared.train.examples)
    with (
        closing(BertjaxSide.on_texts(model, params, prepared.train)) as ours,
        closing(PacedTrainer(model, params, rows, size, grouped=False)) as trainer,
        closing(PacedTrainer(model, params, rows, size, grouped=True)) as grouped,
    ):
        ours.step.wait()
        sides = {
            "bertjax": ours.run,
            "Trainer, its defaults": trainer.run,
            "Trainer, by length": grouped.run,
            "torch loop": loop_of_compare(config),
        }
        results = take_turns(sides, rounds, steps, warm)
    for side, ratio in speed_ratios(results, "bertjax").items():
        results[side]["bertjax is faster by"] = ratio
    return {
        "rows": len(rows.labels),
        "layouts": [layout._asdict() for layout in prepared.train.plan.layouts],
        "sides": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA), help="what to train on")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=15, help="steps a turn")
    parser.add_argument("--warm", type=int, default=3, help="steps of each side before the first turn")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--json", type=Path, help="file for the results; other data in it stay")
    arguments = parser.parse_args()
    turns = arguments.rounds, arguments.steps, arguments.warm
    restart_with_huge_pages()
    transformers.utils.logging.set_verbosity_error()
    results = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
    for data in arguments.data:
        try:
            with job_on(data) as config:
                result = measure(replace(config, batch_size=arguments.batch_size), *turns)
        except UserError as error:
            sys.exit(f"{parser.prog}: {error}")
        print(f"{data}: {result['rows']} rows, batches of {arguments.batch_size}")
        for side, of in result["sides"].items():
            ratio = f", bertjax / this {of['bertjax is faster by']:.2f}" if "bertjax is faster by" in of else ""
            share = 100 * of["real_token_share"]
            speed = f"{of['examples_per_second']:6.1f} examples/s"
            print(f"  {side:<22} {speed}, {share:.1f}% real tokens{ratio}", flush=True)
        versions = {module.__name__: module.__version__ for module in (jax, torch, transformers)}
        device = f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores"
        facts = {
            "device": device,
            "batch_size": arguments.batch_size,
            "date": datetime.date.today().isoformat(),
            "versions": versions,
        }
        if arguments.json:
            results[data] = facts | result
            write_json(arguments.json, results)


if __name__ == "__main__":
    main()
