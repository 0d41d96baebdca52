"""What the data side costs: padding and compiled shapes, speed against the training step, waiting, and memory where the
rows do not fit.

    python scripts/benchmark_data.py --json data.json
    python scripts/benchmark_data.py --parts packing
    python scripts/benchmark_data.py --parts streaming --rows 50000 5000000

The machine may be busy with other things: tokenizing and training take turns, and so do the two sizes of a stream, so
the ratios are what counts.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from bertjax import FineTuneConfig, catalog
from bertjax.cli.process.process_setup import restart_with_huge_pages
from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.data.batching.packing import pack
from bertjax.data.batching.prefetch import prefetched
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.encode.tokenize import tokenize
from bertjax.data.read.sources import read_table

# Beside the checkout, where there is one.
PROJECTS = Path(os.environ.get("BERTJAX_DATA") or "none") / "projects" / "dataset.csv"
PARTS = ("packing", "speed", "streaming")
HIDDEN_SIZE = 384
LONG_TEXTS, LONG_WORDS = 3000, 384
WARM_ROWS = 2000


def corpora() -> Iterator[tuple[str, list[str], int]]:
    """Name, texts and longest example of each corpus."""
    trec = read_table("trec").frame["text"].tolist()
    yield "trec", trec, 128
    if PROJECTS.is_file():
        frame = read_table(str(PROJECTS)).frame
        pairs = zip(frame["title"], frame["description"], strict=True)
        yield "projects", [f"{title} {about}" for title, about in pairs], 128
    rng = np.random.default_rng(0)
    words = " ".join(trec).split()
    counts = np.maximum(rng.gamma(4, LONG_WORDS / 4, LONG_TEXTS).astype(int), 1)
    yield f"{LONG_WORDS} words", [" ".join(rng.choice(words, count)) for count in counts], 512


def packing() -> list[dict[str, Any]]:
    """Real tokens and shapes, at three batch sizes."""
    tokenizer = load_tokenizer(catalog.fetch("minilm-l6"))
    rows = []
    for name, texts, longest in corpora():
        lengths = tokenize(tokenizer, texts, None, np.zeros(len(texts), np.int32), longest).lengths
        for batch_size in (16, 32, 64):
            plan = plan_training(lengths, batch_size, 3, 0, HIDDEN_SIZE, 1, packed=True)
            computed = 0
            for batch in plan.order(lengths).batch_lengths(plan.epochs):
                used = len(pack(batch, plan.layouts[0].row_length))
                computed += next(layout.tokens for layout in plan.layouts if layout.rows >= used)
            share = plan.epochs * int(lengths.sum()) / computed
            shapes = [f"{layout.rows} x {layout.row_length}" for layout in plan.layouts]
            rows.append({"corpus": name, "batch_size": batch_size, "real_token_share": share, "shapes": shapes})
            print(f"{name:<10} {batch_size:>3}  {100 * share:.1f}% real tokens  {', '.join(shapes)}", flush=True)
    return rows


def speed(rounds: int, steps: int) -> dict[str, float]:
    """Tokenize and pack against training, taking turns; and how long a run waits for its batches."""
    import jax

    from bertjax.devices.data_parallel import AXIS, all_devices
    from bertjax.tasks import TASKS
    from bertjax.training.optim.optimizer import make_optimizer
    from bertjax.training.run.prepare import prepare
    from bertjax.training.step.compiled_step import CompiledTrainStep
    from bertjax.training.step.train_step import make_train_step

    config = FineTuneConfig()
    prepared = prepare(config, jax.local_device_count())
    plan = prepared.train.plan
    loss = TASKS[config.task].loss
    assert loss is not None
    optimizer = make_optimizer(config.optimizer, plan.total_steps, prepared.model)
    step = make_train_step(prepared.model, optimizer, loss, axis_name=AXIS)
    devices = all_devices(config.engine)
    state = devices.place(step.init(prepared.params, jax.random.PRNGKey(config.seed)))
    engine = CompiledTrainStep(devices, prepared.model, step, state, plan.empty_batches)
    engine.wait()
    texts = read_table("trec").frame["text"].tolist()
    tokenizer = load_tokenizer(catalog.fetch(config.model))
    labels = np.zeros(len(texts), np.int32)

    made, trained, waited, trained_seconds = [], [], 0.0, 0.0
    with closing(prefetched(prepared.train.batches())) as batches:
        for turn in range(rounds + 1):
            started = time.perf_counter()
            examples = tokenize(tokenizer, texts, None, labels, config.max_length)
            own = plan_training(examples.lengths, config.batch_size, 1, turn, HIDDEN_SIZE, 1, packed=True)
            count = sum(packed_batch.num_examples for packed_batch in StoredBatches(examples, own).batches())
            making = count / (time.perf_counter() - started)
            started, waiting, count = time.perf_counter(), 0.0, 0
            for _ in range(steps):
                mark = time.perf_counter()
                packed_batch = next(batches)
                waiting += time.perf_counter() - mark
                state, metrics = engine(state, packed_batch.batch)
                float(metrics["loss"])
                count += packed_batch.num_examples
            seconds = time.perf_counter() - started
            if turn:  # the first one warms caches and threads
                made.append(making)
                trained.append(count / seconds)
                waited, trained_seconds = waited + waiting, trained_seconds + seconds
    result = {
        "made_per_second": float(np.median(made)),
        "trained_per_second": float(np.median(trained)),
        "ratio": float(np.median(np.array(made) / np.array(trained))),
        "wait_share": waited / trained_seconds,
    }
    print(
        f"tokenize, plan and pack {result['made_per_second']:.0f} examples/s, "
        f"train {result['trained_per_second']:.0f}: "
        f"{result['ratio']:.0f} x; the device waits {100 * result['wait_share']:.2f}% of the time",
        flush=True,
    )
    return result


def write_rows(path: Path, count: int, seed: int) -> None:
    """Short labelled texts, none like another."""
    rng = np.random.default_rng(seed)
    texts = read_table("trec").frame["text"]
    words = np.array(sorted({word for text in texts for word in text.split() if word.isalpha()}))
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for start in range(0, count, 10_000):
            size = min(10_000, count - start)
            lengths = rng.integers(4, 15, size)
            picked = words[rng.integers(0, len(words), lengths.sum())]
            ends = np.cumsum(lengths)
            for i, (end, length) in enumerate(zip(ends, lengths, strict=True)):
                file.write(f"{start + i} {' '.join(picked[end - length : end])},{'ab'[i % 2]}\n")


def stream_child(source: str, warm: str, test: str) -> None:
    """Streams a file to the batches of one epoch; what `streaming` starts, so that memory is that of one stream."""
    from bertjax.data.streaming.ray_blocks import ray_session
    from bertjax.data.streaming.stream_splits import stream_splits
    from bertjax.data.table import Table
    from bertjax.data.task_formats.sequence_formats import CLASSIFICATION
    from bertjax.data.task_formats.task_format import Encoding

    folder = catalog.fetch("minilm-l6")
    tokenizer = load_tokenizer(folder)

    def batches(path: str) -> Iterator[int]:
        table = Table(path, test=test, leaks="report")
        train = stream_splits(table, CLASSIFICATION, Encoding(tokenizer, (), 128, table), folder).train.examples
        plan = plan_training(train.lengths, 32, 1, 0, HIDDEN_SIZE, 1, packed=True)
        return (packed_batch.num_examples for packed_batch in StoredBatches(train, plan).batches())

    with ray_session():
        sum(batches(warm))  # starts the workers
        started = time.perf_counter()
        few = sum(batches(warm))
        start_seconds = time.perf_counter() - started  # what any stream costs, however short
        started = time.perf_counter()
        count = sum(batches(source))
        seconds = time.perf_counter() - started
    result = {
        "rows": count,
        "seconds": seconds,
        "examples_per_second": count / seconds,
        "start_seconds": start_seconds,
        "further_examples_per_second": (count - few) / (seconds - start_seconds),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(result))


def streaming(sizes: list[int]) -> list[dict[str, float]]:
    """Each size in a process of its own: peak memory of the consumer, examples a second."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        warm, test, source = (Path(folder) / name for name in ("warm.csv", "test.csv", "rows.csv"))
        write_rows(warm, WARM_ROWS, seed=1)
        write_rows(test, 100, seed=2)
        for size in sizes:
            write_rows(source, size, seed=0)
            command = [sys.executable, __file__, "--child", str(source), str(warm), str(test)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            result = json.loads(done.stdout.splitlines()[-1])
            results.append(result)
            print(
                f"{result['rows']} rows: {result['examples_per_second']:.0f} examples/s; "
                f"{result['further_examples_per_second']:.0f} after a start of {result['start_seconds']:.1f} s; "
                f"peak {result['peak_bytes'] / 1e9:.2f} GB",
                flush=True,
            )
    for name in ("examples_per_second", "further_examples_per_second"):
        print(f"{name}, last / first: {results[-1][name] / results[0][name]:.2f}")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=5, help="turns of making batches and of training")
    parser.add_argument("--steps", type=int, default=15, help="training steps a turn")
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 5_000_000], help="sizes of the stream")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    if arguments.child:
        stream_child(*arguments.child)
        return
    restart_with_huge_pages()
    result: dict[str, Any] = {}
    if "packing" in arguments.parts:
        result["packing"] = packing()
    if "speed" in arguments.parts:
        result["speed"] = speed(arguments.rounds, arguments.steps)
    if "streaming" in arguments.parts:
        result["streaming"] = streaming(arguments.rows)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
