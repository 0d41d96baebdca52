"""Self-attention of BERT-base on a GPU, forward and backward: the fused kernel beside XLA's and cuDNN's.

A row holds several examples of one length, as packing makes them. What is timed is the module with its projections, the
same on all sides. The sides take turns; cuDNN's has no dropout of weights. Each side's gradients are held against those
of XLA in float32: a kernel that computes other numbers ends the command with an error.

    python scripts/benchmark_attention.py --json attention.json
"""

import argparse
import datetime
import importlib.metadata
import itertools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from bertjax.config import BertConfig, Execution
from bertjax.model.attention.self_attention import AttentionContext, SelfAttention, attention_mask, on_gpu
from bertjax.model.dropout import TokenPlaces
from bertjax.model.precision import matmul_precision, policy_of, to_compute

BASE = BertConfig()
TOKENS = 16_384  # of a batch
SHAPES = ((128, 1), (512, 1), (512, 8), (2048, 16))  # positions of a row, and examples in it
RATES = (0.0, 0.1)
CALLS = 10  # between two looks at the clock
TOLERANCE = 0.05  # of a gradient's length: bfloat16 rounds to 8 bits
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="turns of each side, after 3 that do not count")
    parser.add_argument("--json", type=Path, help="write the table there too")
    args = parser.parse_args()
    if not on_gpu():
        print("not measured: no GPU")
        return
    results = []
    for shape, rate in itertools.product(SHAPES, RATES):
        results.append(measured(*shape, rate, args.rounds))
        show(results[-1])
    if args.json:
        versions = {name: importlib.metadata.version(name) for name in ("bertjax", "jax", "jaxlib")}
        facts = {"card": jax.devices()[0].device_kind, "date": datetime.date.today().isoformat(), **versions}
        args.json.write_text(json.dumps({**facts, "results": results}, indent=2) + "\n", encoding="utf-8")
    if failed := {side: why for result in results for side, why in result["failed"].items()}:
        raise SystemExit(f"not every side runs here: {failed}")
    if wrong := [result for result in results if max(result["error"].values()) > TOLERANCE]:
        raise SystemExit(f"gradients differ from those of XLA in float32 by more than {TOLERANCE:.0%}: {wrong}")


def measured(
    length: int, examples: int, rate: float, rounds: int, architecture: BertConfig = BASE, tokens: int = TOKENS
) -> dict[str, Any]:
    """Each side's milliseconds, temporary memory and error for a shape and a rate of dropout.

    A side that cannot run, such as a GPU's kernel elsewhere, is among `failed`, with the first line of its error.
    """
    sides = {"xla": "bfloat16", "pallas": "bfloat16"} | ({"cudnn": "bfloat16"} if rate == 0 else {})
    _, exact = compiled("xla", "float32", length, examples, rate, architecture, tokens)
    expected = exact()
    programs, failed = {}, {}
    for side, precision in sides.items():
        try:
            memory, run = compiled(side, precision, length, examples, rate, architecture, tokens)
            programs[side] = memory, run, distance(run(), expected)
        except Exception as error:
            failed[side] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    milliseconds: dict[str, list[float]] = {side: [] for side in programs}
    for _ in range(rounds + 3):
        for side, (_, run, _) in programs.items():
            started = time.perf_counter()
            jax.block_until_ready([run() for _ in range(CALLS)])
            milliseconds[side].append(1e3 * (time.perf_counter() - started) / CALLS)
    result: dict[str, Any] = {"length": length, "examples": examples, "dropout": rate, "failed": failed}
    result["ms"] = {side: round(statistics.median(times[3:]), 3) for side, times in milliseconds.items()}
    result["temporary_mib"] = {side: round(memory / MIB, 1) for side, (memory, _, _) in programs.items()}
    result["error"] = {side: round(error, 5) for side, (_, _, error) in programs.items()}
    return result


def show(result: dict[str, Any]) -> None:
    """Prints a line a side."""
    about = f"{result['length']:5} positions, {result['examples']:2} examples a row, dropout {result['dropout']:.1f}"
    for side in result["ms"]:
        figures = f"{result['ms'][side]:8.3f} ms {result['temporary_mib'][side]:9.1f} MiB"
        print(f"{about}, {side:6}: {figures}, error {result['error'][side]:.5f}", flush=True)
    for side, why in result["failed"].items():
        print(f"{about}, {side:6}: {why}", flush=True)


def compiled(
    attention: Any, precision: Any, length: int, examples: int, rate: float, architecture: BertConfig, tokens: int
) -> tuple[int, Callable[[], tuple[Any, Any]]]:
    """The bytes that a gradient of the module takes for itself, and how to compute it; the same inputs on all sides."""
    execution = Execution(precision=precision, attention=attention)
    # Weights of this size keep attention far from uniform.
    plain = replace(architecture, initializer_range=0.05, attention_dropout_rate=rate)
    rows, of_example = tokens // length, length // examples
    segments = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32) // of_example + 1, (rows, length))
    numbers = segments + examples * jnp.arange(rows, dtype=jnp.int32)[:, None]
    places = TokenPlaces(numbers, jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32) % of_example, segments.shape))

    def attention_of(config: BertConfig) -> hk.Transformed:
        def attend(x: jax.Array) -> jax.Array:
            mask = attention_mask(segments, segments)
            context = AttentionContext(mask, places, places, segment_ids=segments)
            return SelfAttention(config)(x, x, context, deterministic=rate == 0)[0]

        return hk.transform(attend)

    policy = policy_of(execution)
    rng = np.random.default_rng(0)
    shape = (rows, length, plain.hidden_size)
    x, gradient = (jnp.asarray(rng.standard_normal(shape, np.float32)) for _ in range(2))
    # Drawn in float32: another dtype draws other numbers.
    params = to_compute(policy, attention_of(plain).init(jax.random.PRNGKey(0), x))
    attend = attention_of(replace(plain, execution=execution))
    x, gradient = policy.cast_to_compute((x, gradient))

    def backward(params: Any, x: jax.Array, gradient: jax.Array) -> Any:
        return jax.vjp(lambda *of: attend.apply(of[0], jax.random.PRNGKey(1), of[1]), params, x)[1](gradient)

    with matmul_precision(execution):
        program = jax.jit(backward).lower(params, x, gradient).compile()
    memory: Any = program.memory_analysis()
    return memory.temp_size_in_bytes, lambda: program(params, x, gradient)


def distance(computed: Any, expected: Any) -> float:
    """The length of the difference of two trees, as a share of the second's."""
    one, other = (
        np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])
        for tree in jax.device_get((computed, expected))
    )
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


if __name__ == "__main__":
    main()
