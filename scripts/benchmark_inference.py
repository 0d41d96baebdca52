"""Prediction from texts to labels: `Predictor` against ONNX Runtime, PyTorch and transformers' pipeline.

Every contestant gets a list of texts and gives a list of labels, with all threads of the machine. The others read the
texts sorted by length, in batches that are as long as their longest text. They take turns in one process; the medians
are compared, on the wall's clock and in seconds of processor, which hang less on what else the machine does. The labels
must be the same; those that are not are counted.

On a CPU all of them compute in float32. On a GPU bertjax computes in bfloat16 against a loop over a compiled PyTorch
model in bfloat16. At the end, fresh processes show how long the first answer takes where the programs are compiled.

    python scripts/benchmark_inference.py --model RUN/model --json inference.json
    python scripts/benchmark_inference.py --corpora trec --rounds 9 --contestants bertjax torch
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from bertjax.cli.process.process_setup import keep_compiled_programs, prepare_process

LONGEST = 512  # tokens; what is longer is cut
CORPORA = {"trec": 1500, "25 words": 1500, "384 words": 150}  # and their texts
CPU_CONTESTANTS = ("bertjax", "onnxruntime", "torch", "pipeline")
GPU_CONTESTANTS = ("bertjax", "torch")

Answer = Callable[[Sequence[str]], list[str]]

FIRST_ANSWER = """
import sys, time
from bertjax.cli.process.process_setup import keep_compiled_programs
keep_compiled_programs()
from bertjax import Predictor
started = time.perf_counter()
Predictor.load(sys.argv[1])(["what is a film ?"])
print(time.perf_counter() - started)
"""


class Turn(NamedTuple):
    """What one call cost."""

    wall: float
    processor: float


def corpus(name: str, count: int) -> list[str]:
    """Questions of TREC, or texts of so many of its words on average."""
    from bertjax.data.read.sources import read_table

    trec = read_table("trec").frame["text"].tolist()
    rng = np.random.default_rng(0)
    if name == "trec":
        return [trec[i] for i in rng.permutation(len(trec))[:count]]
    words = " ".join(trec).split()
    counts = np.maximum(rng.gamma(4, int(name.split(maxsplit=1)[0]) / 4, count).astype(int), 1)
    return [" ".join(rng.choice(words, size)) for size in counts]


def sorted_batches(lengths: Sequence[int], batch_size: int) -> Iterator[np.ndarray]:
    """Indices of batches of texts, the longest first."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def sorted_loop(
    tokenizer: Any, labels: Sequence[str], batch_size: int, run: Callable[[dict[str, np.ndarray]], np.ndarray]
) -> Answer:
    """A loop over batches of texts that are sorted by their length in tokens."""

    def answer(texts: Sequence[str]) -> list[str]:
        encoded = tokenizer(list(texts), truncation=True, max_length=LONGEST)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        found = np.empty(len(texts), np.int64)
        for indices in sorted_batches(lengths, batch_size):
            part = {name: [encoded[name][i] for i in indices] for name in encoded}
            found[indices] = run(dict(tokenizer.pad(part, return_tensors="np"))).argmax(axis=-1)
        return [labels[int(i)] for i in found]

    return answer


def bertjax_answer(folder: str, on_gpu: bool) -> Answer:
    from bertjax import Execution, Predictor
    from bertjax.tasks.postprocess import AnswerOptions

    execution = Execution(precision="bfloat16") if on_gpu else None
    predictor = Predictor.load(folder, max_length=LONGEST, execution=execution)
    return lambda texts: [answer["label"] for answer in predictor(texts, AnswerOptions())]


def onnxruntime_answer(folder: str, tokenizer: Any, labels: Sequence[str], batch_size: int) -> Answer:
    from bertjax.baselines.runners.run_onnx import make_session
    from bertjax.model_folder.load_checkpoint import from_pretrained

    session = make_session(*from_pretrained(folder))

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(session.run(None, {name: values.astype(np.int64) for name, values in inputs.items()})[0])

    return sorted_loop(tokenizer, labels, batch_size, run)


def torch_answer(folder: str, tokenizer: Any, labels: Sequence[str], batch_size: int, on_gpu: bool) -> Answer:
    """Without a gradient, with PyTorch's fused attention; compiled, in bfloat16, on a GPU."""
    import torch
    from transformers import AutoModelForSequenceClassification

    device, dtype = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    loaded = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="sdpa", dtype=dtype)
    module = loaded.to(device).eval()
    network = torch.compile(module, dynamic=True) if on_gpu else module

    def run(inputs: dict[str, np.ndarray]) -> Any:
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(values).to(device) for name, values in inputs.items()}
            return network(**tensors).logits.float().cpu().numpy()

    return sorted_loop(tokenizer, labels, batch_size, run)


def pipeline_answer(folder: str, tokenizer: Any, batch_size: int) -> Answer:
    from transformers import pipeline

    classify = pipeline("text-classification", folder, tokenizer=tokenizer, device="cpu", batch_size=batch_size)

    def answer(texts: Sequence[str]) -> list[str]:
        order = np.argsort([-len(text) for text in texts], kind="stable")
        answers = classify([texts[int(i)] for i in order], truncation=True, max_length=LONGEST)
        found: list[str] = [""] * len(texts)
        for i, one in zip(order, answers, strict=True):
            found[i] = one["label"]
        return found

    return answer


def make_contestants(names: Sequence[str], folder: str, batch_size: int, on_gpu: bool) -> dict[str, Answer]:
    from transformers import AutoTokenizer

    from bertjax.model_folder.load_checkpoint import from_pretrained

    tokenizer = AutoTokenizer.from_pretrained(folder)
    labels = from_pretrained(folder)[0].labels
    makers: dict[str, Callable[[], Answer]] = {
        "bertjax": lambda: bertjax_answer(folder, on_gpu),
        "onnxruntime": lambda: onnxruntime_answer(folder, tokenizer, labels, batch_size),
        "torch": lambda: torch_answer(folder, tokenizer, labels, batch_size, on_gpu),
        "pipeline": lambda: pipeline_answer(folder, tokenizer, batch_size),
    }
    return {name: makers[name]() for name in names}


def timed(answer: Answer, texts: Sequence[str]) -> tuple[list[str], Turn]:
    def processor() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    wall, busy = time.perf_counter(), processor()
    labels = answer(texts)
    return labels, Turn(time.perf_counter() - wall, processor() - busy)


def arithmetic(folder: str, texts: Sequence[str]) -> dict[str, float]:
    """Operations on the real tokens of some texts, and the share that these are of all that are computed."""
    import jax

    from bertjax import Predictor
    from bertjax.prediction.batcher import bucketed_batches
    from bertjax.training.step.mfu import training_flops

    predictor = Predictor.load(folder, max_length=LONGEST)
    examples = predictor.prepare(texts).examples
    tokens, pairs = int(examples.offsets[-1]), int(np.square(examples.lengths).sum())
    computed = sum(packed.batch.token_ids.size for packed in bucketed_batches(examples, jax.device_count()))
    return {
        "tokens": tokens,
        "real_token_share": tokens / computed,
        "operations": training_flops(predictor.model.config, tokens, pairs) / 3,  # the backward pass takes two thirds
    }


def measure(contestants: dict[str, Answer], texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Medians of each contestant, and how often its labels differ from ours."""
    expected = contestants["bertjax"](texts)
    turns: dict[str, list[Turn]] = {name: [] for name in contestants}
    differing = {}
    for turn in range(rounds + 1):
        for name, answer in contestants.items():
            labels, cost = timed(answer, texts)
            differing[name] = sum(a != b for a, b in zip(labels, expected, strict=True))
            if turn:  # the first one compiles, and warms caches and threads
                turns[name].append(cost)
    return {
        name: {
            "wall": statistics.median(cost.wall for cost in costs),
            "processor": statistics.median(cost.processor for cost in costs),
            "wall_ratio": statistics.median(
                cost.wall / own.wall for cost, own in zip(costs, turns["bertjax"], strict=True)
            ),
            "processor_ratio": statistics.median(
                cost.processor / own.processor for cost, own in zip(costs, turns["bertjax"], strict=True)
            ),
            "differing_labels": differing[name],
            "turns": costs,
        }
        for name, costs in turns.items()
    }


def first_answer(folder: str, rounds: int) -> dict[str, float]:
    """Median seconds of a fresh process whose programs are compiled: from `Predictor.load`, and from its start."""
    loading, starting = [], []
    for turn in range(rounds + 1):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", FIRST_ANSWER, folder], stdout=subprocess.PIPE, text=True, check=True
        )
        if turn:  # the first one compiles
            starting.append(time.perf_counter() - started)
            loading.append(float(done.stdout))
    return {"from_load": statistics.median(loading), "from_start": statistics.median(starting)}


def table_of(results: dict[str, Any], peak: float) -> Table:
    """One line for a contestant on a corpus."""
    table = Table(title=f"texts to labels; the machine's matmul peak is {peak / 1e9:.0f} GFLOP/s")
    for column in ("corpus", "real tokens", "contestant", "texts/s", "wall s", "processor s", "GFLOP/s"):
        table.add_column(column, justify="left" if column in ("corpus", "contestant") else "right")
    for column in ("bertjax is faster, wall", "processor", "other labels"):
        table.add_column(column, justify="right")
    for name, result in results.items():
        for contestant, found in result["contestants"].items():
            ours = contestant == "bertjax"
            table.add_row(
                f"{name} ({result['texts']})" if ours else "",
                f"{100 * result['real_token_share']:.1f}%" if ours else "",
                contestant,
                f"{result['texts'] / found['wall']:.0f}",
                f"{found['wall']:.2f}",
                f"{found['processor']:.2f}",
                f"{result['operations'] / found['wall'] / 1e9:.0f}",
                f"{found['wall_ratio']:.2f}x",
                f"{found['processor_ratio']:.2f}x",
                str(found["differing_labels"]),
            )
    return table


def quick_model(scratch: Path) -> str:
    """MiniLM-L6, fine-tuned on TREC for one epoch."""
    command = [sys.executable, "-m", "bertjax", "finetune", "--epochs", "1", "--out", str(scratch / "run")]
    variables = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db"}
    subprocess.run(command, env=variables, cwd=scratch, stdout=subprocess.DEVNULL, check=True)
    return str(scratch / "run" / "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a classifier; default: MiniLM-L6, fine-tuned on TREC now")
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=list(CORPORA))
    parser.add_argument("--contestants", nargs="+", choices=CPU_CONTESTANTS, help="beside bertjax; default: all")
    parser.add_argument("--share", type=float, default=1.0, help="of the texts of each corpus, for a quick look")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant")
    parser.add_argument("--batch-size", type=int, default=32, help="texts of a batch of the others")
    parser.add_argument("--starts", type=int, default=3, help="fresh processes that answer one text")
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    prepare_process()
    keep_compiled_programs()
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(arguments.model or quick_model(Path(scratch))).resolve())
        result = run(folder, arguments)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def run(folder: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures everything, and prints it."""
    import jax

    from bertjax import Execution
    from bertjax.training.step.mfu import matmul_peak

    on_gpu = jax.default_backend() == "gpu"
    names = arguments.contestants or (GPU_CONTESTANTS if on_gpu else CPU_CONTESTANTS)
    contestants = make_contestants(
        ["bertjax", *(name for name in names if name != "bertjax")], folder, arguments.batch_size, on_gpu
    )
    execution = Execution(precision="bfloat16") if on_gpu else Execution()
    peak = matmul_peak(tuple(jax.devices()), execution)
    results: dict[str, Any] = {}
    for name in arguments.corpora:
        texts = corpus(name, max(1, round(arguments.share * CORPORA[name])))
        found = measure(contestants, texts, arguments.rounds)
        results[name] = {"texts": len(texts), **arithmetic(folder, texts), "contestants": found}
        print(f"{name}:", *(f"{other} {one['wall']:.2f} s" for other, one in found.items()), flush=True)
    Console(width=150).print(table_of(results, peak))
    start = first_answer(folder, arguments.starts)
    print(
        f"first answer, programs compiled: {start['from_load']:.1f} s after Predictor.load, "
        f"{start['from_start']:.1f} s after the start of the process"
    )
    return {"matmul_peak": peak, "corpora": results, "first_answer": start}


if __name__ == "__main__":
    main()
