"""int8 weights beside float32: accuracy on labelled rows, memory of the compiled network, and time, in turns.

Both networks answer the same rows, so that they can be paired: rows whose label changes, and McNemar's p for those that
only one of them has right. Memory is what XLA's program holds, weights (as arguments) and temporaries; the numbers of a
process would drown in its libraries. Times are medians of turns in one process, by ratio.

    python scripts/benchmark_int8.py --model RUN/model --data test.csv --json int8.json
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.stats import binomtest

from bertjax import Execution, Predictor, padded_batch
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.prediction.forward import xla_options

EXECUTIONS = {"float32": Execution(), "int8": Execution(weights="int8")}
WORDS = ("what", "is", "the", "name", "of", "a", "film", "that", "was", "made", "in", "first", "half", "year", "?")
BATCHES = {"one short text": (1, 16), "32 texts": (32, 48), "a full batch": (32, 128)}  # rows, tokens
MB = 1e6


def accuracy(folder: str, data: str) -> dict[str, Any]:
    """Metrics of both, and how their answers to the same rows differ."""
    results = [evaluate(folder, data, execution=execution) for execution in EXECUTIONS.values()]
    exact, int8 = ([answer["label"] for answer in result.predictions()] for result in results)
    truth = [answer["true"] for answer in results[0].predictions()]
    lost = sum(a == t != b for a, b, t in zip(exact, int8, truth, strict=True))
    won = sum(b == t != a for a, b, t in zip(exact, int8, truth, strict=True))
    reports = {weights: result.report.flat("test") for weights, result in zip(EXECUTIONS, results, strict=True)}
    return {
        "rows": len(truth),
        "accuracy": {weights: float(report["test/accuracy"]) for weights, report in reports.items()},
        "f1_macro": {weights: float(report["test/f1_macro"]) for weights, report in reports.items()},
        "largest change of a logit": float(np.abs(results[0].judged.scores - results[1].judged.scores).max()),
        "changed": sum(a != b for a, b in zip(exact, int8, strict=True)),
        "only float32 right": lost,
        "only int8 right": won,
        "mcnemar p": float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0,
    }


def memory(folder: str) -> dict[str, Any]:
    """Megabytes of the weights, and of weights and temporaries of a batch."""
    found: dict[str, Any] = {}
    for weights, execution in EXECUTIONS.items():
        model, params = from_pretrained(folder, execution=execution)
        found[weights] = {"weights": sum(leaf.nbytes for leaf in jax.tree.leaves(params)) / MB}
        options: Any = xla_options(model.config.execution, jax.default_backend())
        for name, (rows, length) in BATCHES.items():
            batch = padded_batch(np.ones((rows, length), np.int32), np.ones((rows, length), np.int32))
            program = jax.jit(lambda params, batch, apply=model.apply: apply(params, None, batch).logits)
            held: Any = program.lower(params, batch).compile(options or None).memory_analysis()
            found[weights][name] = (held.argument_size_in_bytes + held.temp_size_in_bytes) / MB
    found["file"] = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors")) / MB
    return found


def times(folder: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of each, and the speed of int8 as a share of float32's."""
    predictors = [Predictor.load(folder, execution=execution) for execution in EXECUTIONS.values()]
    rng = np.random.default_rng(0)
    corpora = {
        "one short text": ["what is a film ?"],
        "32 texts": [" ".join(rng.choice(WORDS, size)) for size in rng.integers(5, 40, 32)],
        "1000 texts": [" ".join(rng.choice(WORDS, size)) for size in rng.integers(5, 40, 1000)],
    }
    found = {}
    for name, texts in corpora.items():
        turns: list[list[float]] = [[], []]
        for turn in range(1 + rounds * (10 if len(texts) == 1 else 1)):
            for predictor, seconds in zip(predictors, turns, strict=True):
                started = time.perf_counter()
                predictor(texts)
                if turn:  # the first one compiles
                    seconds.append(time.perf_counter() - started)
        speeds = [exact / int8 for exact, int8 in zip(*turns, strict=True)]
        medians = {w: 1000 * statistics.median(seconds) for w, seconds in zip(EXECUTIONS, turns, strict=True)}
        found[name] = {**medians, "speed": statistics.median(speeds)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a classifier")
    parser.add_argument("--data", required=True, help="labelled rows")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    result = {"accuracy": accuracy(arguments.model, arguments.data), "memory": memory(arguments.model)}
    result["times"] = times(arguments.model, arguments.rounds)
    print(json.dumps(result, indent=2))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
