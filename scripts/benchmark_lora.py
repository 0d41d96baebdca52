"""Memory and time of training with low-rank adapters, beside full fine-tuning of the same network on the same batch.

Each measurement is a process of its own, that makes the network, compiles the step and trains on random tokens. Two
figures of memory: what XLA's programs hold (parameters, optimizer state, gradients and all that the backward pass
keeps), and the most that the process ever held (`VmHWM` of Linux), libraries and compiler included.

    python scripts/benchmark_lora.py --json lora.json
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measuring.fresh_process import fresh

from bertjax import BertConfig, from_pretrained, make_model, make_optimizer, make_train_step, padded_batch
from bertjax.losses import cross_entropy
from bertjax.training.optim.fresh_adapters import with_adapters
from bertjax.training.settings.options import Lora, Optimizer

LABELS = tuple("abcdef")
MIB = 2**20


def network(name: str) -> tuple[Any, Any]:
    """A classifier on the weights of a model, or of BERT-base's shape with random ones."""
    if name == "bert-base":
        model = make_model(BertConfig(), "classification", LABELS)
        return model, jax.jit(model.init)(jax.random.key(0))
    return from_pretrained(name, task="classification", labels=LABELS, new_head=True)


def train(name: str, rank: int, rows: int, length: int, steps: int) -> dict[str, float]:
    """Trains, and says what that took."""
    model, params = with_adapters(*network(name), Lora(rank=rank), seed=0)
    step = make_train_step(model, make_optimizer(Optimizer(), steps + 1, model), cross_entropy)
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, model.config.vocab_size, (rows, length))
    batch = padded_batch(np.ones_like(tokens), tokens, labels=rng.integers(0, len(LABELS), rows))
    batch = jax.tree.map(jax.numpy.asarray, batch)
    state = jax.tree.map(jax.numpy.array, step.init(params, jax.random.key(0)))
    del params
    # As a run compiles it on a CPU: two programs, of which the second updates the state in place.
    # All of the state is counted, though the first one does not read the moments.
    gradient = jax.jit(step.gradient, keep_unused=True).lower(state, batch).compile()
    grads, losses = jax.eval_shape(step.gradient, state, batch)
    update = jax.jit(step.update, donate_argnums=0).lower(state, grads, losses["loss"], losses["squares"]).compile()
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        grads, losses = gradient(state, batch)
        state, _ = update(state, grads, losses["loss"], losses["squares"])
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - started)
    held = []
    for program in (gradient, update):
        memory: Any = program.memory_analysis()
        held.append(memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes)
        held[-1] -= memory.alias_size_in_bytes
    return {
        "programs_mib": max(held) / MIB,
        "process_mib": _peak_of_this_process() / MIB,
        "seconds": statistics.median(seconds),
        "trained": sum(leaf.size for leaf in jax.tree.leaves(step.trainable(state.params))),
        "loss": float(losses["loss"]),
    }


def _peak_of_this_process() -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["minilm-l6", "bert-base"], help="bert-base has random weights")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--length", type=int, default=64, help="tokens of a text")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    found = []
    print("model        batch   of       programs MiB   process MiB   s/step   parameters trained")
    for name in arguments.models:
        for rows in arguments.batch_sizes:
            kinds = {}
            for kind, rank in (("full", 0), ("lora", arguments.rank)):
                kinds[kind] = fresh({}, train, name, rank, rows, arguments.length, arguments.steps)
                print(_line(name, f"{rows} x {arguments.length}", kind, kinds[kind]), flush=True)
            ratios = {
                key: kinds["lora"][key] / kinds["full"][key] for key in ("programs_mib", "process_mib", "seconds")
            }
            shown = ", ".join(f"{key.removesuffix('_mib')} {ratio:.2f}" for key, ratio in ratios.items())
            print(f"{name}, {rows} x {arguments.length}, lora / full: {shown}", flush=True)
            found.append({"model": name, "rows": rows, "length": arguments.length, **kinds, "ratios": ratios})
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=2))


def _line(name: str, shape: str, kind: str, result: dict[str, float]) -> str:
    return (
        f"{name:<12} {shape:<8}{kind:<8}{result['programs_mib']:12.0f} {result['process_mib']:13.0f} "
        f"{result['seconds']:8.3f} {result['trained']:20,.0f}"
    )


if __name__ == "__main__":
    main()
