"""Speed of a ModernBERT on texts of up to 1,024 tokens: bertjax, which packs them, beside PyTorch with fused attention,
which pads them. Training and prediction, every side taking turns in one process.

Weights are random, for speed does not depend on them: by default six layers of width 384 with ModernBERT's windows of
128 tokens, its vocabulary, and one layer in three that looks at every token. Texts are sentences of film reviews joined
to lengths as those of whole reviews: log-normal with a median of 225 tokens, one in ten above 550, cut at 1,024.

PyTorch pads a batch to its longest text, as transformers' Trainer and pipeline do, or to 1,024; in prediction its texts
are also grouped by length, which needs an epoch to be seen in training. A batch of 8 texts is the Trainer's default. In
prediction all sides have the same texts in a turn; in training each has its own order.

    python scripts/benchmark_modernbert.py --json modernbert.json
    python scripts/benchmark_modernbert.py --smoke
"""

import argparse
import datetime
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
import transformers
from measuring.bertjax_side import BertjaxSide, one_device, random_model
from measuring.text_data import TextData, text_data
from measuring.torch_side import PacedTrainer, Rows, torch_loop
from measuring.turns import Counts, Steps, speed_ratios, take_turns
from rich.console import Console
from rich.table import Table

from bertjax import BertConfig
from bertjax.baselines.torch.torch_model import make_module
from bertjax.batch import CLASS_INDEX
from bertjax.cli.process.process_setup import keep_compiled_programs, restart_with_huge_pages
from bertjax.data.encode.examples import Examples
from bertjax.prediction.batcher import bucket_layouts, bucketed_batches
from bertjax.prediction.forward import Forward, predict
from bertjax.storage.atomic_write import write_json
from bertjax.tasks import Model, Params

LONGEST, MEDIAN, SPREAD = 1024, 225, 0.7  # tokens, tokens, and the standard deviation of a length's logarithm
SHORTEST = 8
PERCENTILES = (5, 25, 50, 75, 90, 95, 100)
SHAPE = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 576}
SMALLEST = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48,
            "vocab_size": 2000, "pad_token_id": 0}  # fmt: skip
STEPS = {"prediction": 4, "training": 2}  # of a turn


def long_texts(count: int, vocab_size: int) -> TextData:
    """Texts of the lengths above, of the sentences of a data set one after the other."""
    rng, sentences = np.random.default_rng(0), text_data("snippets-movies", 2000, vocab_size)
    lengths = np.clip(rng.lognormal(np.log(MEDIAN), SPREAD, count), SHORTEST, LONGEST).astype(int)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.resize(sentences.examples.token_ids, offsets[-1])
    labels = rng.integers(0, 6, count).astype(np.int32)
    examples = Examples(tokens, np.zeros_like(tokens), offsets, labels, 0, labels_of=CLASS_INDEX.labels_of)
    return TextData(f"{count} texts of joined {sentences.about}", examples)


def bertjax_predictions(model: Model, params: Params, examples: Examples, batch_size: int) -> Steps:
    """As `Predictor` does it: the texts of a turn packed together, in the shapes of a service."""
    devices = one_device()
    forward, placed = Forward(devices, model), devices.place(params)
    for layout in bucket_layouts(LONGEST, devices.count):
        if layout.rows <= batch_size:
            forward.compile(placed, layout, examples.kind)
    endless = cycle(range(examples.num_examples))

    def run(steps: int) -> Counts:
        given = examples.at(np.fromiter(islice(endless, steps * batch_size), np.int64))
        computed = forward.computed_tokens
        predict(partial(forward, placed), devices.count, model.task, given, bucketed_batches)
        return Counts(given.num_examples, int(given.offsets[-1]), forward.computed_tokens - computed)

    return run


def torch_predictions(
    model: Model, params: Params, rows: Rows, batch_size: int, by_length: bool = False, length: int | None = None
) -> Steps:
    """A loop over padded batches, without gradients; the texts of a turn in their order, or the longest first."""
    module: Any = make_module(model, params).eval()
    assert module.config._attn_implementation == "sdpa", "transformers' own choice"
    endless = cycle(range(len(rows.labels)))

    def run(steps: int) -> Counts:
        indices = list(islice(endless, steps * batch_size))
        if by_length:
            indices.sort(key=lambda i: -len(rows.token_ids[i]))
        done = np.zeros(3, np.int64)
        for start in range(0, len(indices), batch_size):
            tensors, counts = rows.padded(indices[start : start + batch_size], length)
            del tensors["labels"]
            with torch.inference_mode():
                module(**tensors).logits.numpy()
            done += counts
        return Counts(*map(int, done))

    return run


def prediction(model: Model, params: Params, data: TextData, size: int, turns: Sequence[int]) -> dict[str, Any]:
    rows = Rows.of(data.examples)
    loop = partial(torch_predictions, model, params, rows, size)
    sides = {
        "bertjax": bertjax_predictions(model, params, data.examples, size),
        "torch, to the longest": loop(),
        "torch, to 1,024": loop(length=LONGEST),
        "torch, by length": loop(by_length=True),
    }
    return take_turns(sides, *turns)


def training(model: Model, params: Params, data: TextData, size: int, turns: Sequence[int]) -> dict[str, Any]:
    rows, packed = Rows.of(data.examples), data.batches(size, model.config.hidden_size)
    with ExitStack() as opened:
        ours = opened.enter_context(closing(BertjaxSide.on_texts(model, params, packed)))
        trainer = opened.enter_context(closing(PacedTrainer(model, params, rows, size, grouped=False)))
        ours.step.wait()
        sides = {
            "bertjax": ours.run,
            "Trainer, to the longest": trainer.run,
            "torch, to 1,024": torch_loop(model, params, rows, size, grouped=False, length=LONGEST),
        }
        return take_turns(sides, *turns)


def table_of(results: dict[str, Any]) -> Table:
    """One line a side of a part."""
    table = Table(title=f"ModernBERT, texts of up to {LONGEST:,} tokens")
    for column in ("", "side", "examples/s", "real tokens", "bertjax is faster"):
        table.add_column(column, justify="left" if column in ("", "side") else "right")
    for part, sides in results.items():
        for side, of in sides.items():
            table.add_row(
                part if side == "bertjax" else "",
                side,
                f"{of['examples_per_second']:.2f}",
                f"{100 * of['real_token_share']:.1f}%",
                f"{of['bertjax_is_faster']:.2f}x" if "bertjax_is_faster" in of else "",
            )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--batch-size", type=int, default=8, help="texts of a step")
    parser.add_argument("--texts", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--smoke", action="store_true", help="a tiny network and few texts, to see that all runs")
    parser.add_argument("--json", type=Path, help="file for the results; other parts in it stay")
    arguments = parser.parse_args()
    restart_with_huge_pages()
    keep_compiled_programs()
    transformers.utils.logging.set_verbosity_error()
    model, params = random_model(
        BertConfig.from_hugging_face({"model_type": "modernbert", **(SMALLEST if arguments.smoke else SHAPE)})
    )
    data = long_texts(16 if arguments.smoke else arguments.texts, model.config.vocab_size)
    lengths = np.percentile(data.examples.lengths, PERCENTILES).round().astype(int).tolist()
    print(f"{data.about}; tokens at the percentiles {', '.join(map(str, PERCENTILES))}: {lengths}")
    facts = {
        "machine": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
        "date": datetime.date.today().isoformat(),
        "versions": {module.__name__: module.__version__ for module in (jax, torch, transformers)},
        "status": "smoke" if arguments.smoke else "done",
        "texts": data.about,
        "lengths": dict(zip(PERCENTILES, lengths, strict=True)),
        "batch_size": arguments.batch_size,
        "network": model.config.to_hugging_face(),
    }
    results = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
    for part in arguments.parts:
        turns = (1, 1, 1) if arguments.smoke else (arguments.rounds, STEPS[part], STEPS[part])
        measure = prediction if part == "prediction" else training
        sides = measure(model, params, data, arguments.batch_size, turns)
        for side, ratio in speed_ratios(sides, "bertjax").items():
            sides[side]["bertjax_is_faster"] = ratio
        results[part] = facts | {"sides": sides}
        if arguments.json:
            write_json(arguments.json, results)
    Console(width=100).print(table_of({part: results[part]["sides"] for part in arguments.parts}))


if __name__ == "__main__":
    main()
