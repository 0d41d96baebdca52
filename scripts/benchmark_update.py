"""The update of AdamW on this machine: Optax's chain beside the fused one, and the two ways to leave out a step.

The parameters are those of MiniLM (22.7 million) with gradients of noise. The updates take turns, so that what slows
the machine down slows all of them down. For figures of a run, start it with huge pages, as the command line does:

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.trim_threshold=8589934592\
:glibc.malloc.mmap_threshold=33554432 python scripts/benchmark_update.py --json update.json
"""

import argparse
import datetime
import itertools
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bertjax import make_optimizer, make_train_step
from bertjax.config import BertConfig
from bertjax.losses import cross_entropy
from bertjax.tasks import make_model, parameter_shapes
from bertjax.training.optim.optimizer import optax_chain
from bertjax.training.optim.schedules import learning_rate_schedule
from bertjax.training.settings.options import Optimizer
from bertjax.training.step import train_step
from bertjax.training.step.train_step import chosen, looped, seed_key

MINILM = BertConfig(hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536)
TOTAL_STEPS = 10_000
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="updates of each kind, after 3 that do not count")
    parser.add_argument("--optimizer", default="adamw", help="any of bertjax's; only adamw has a fused update")
    parser.add_argument("--json", type=Path, help="write the table there too")
    args = parser.parse_args()
    settings = Optimizer(args.optimizer).resolved()
    model = make_model(MINILM, "classification", ("a", "b"))
    rng = np.random.default_rng(0)
    noise = partial(_noise, rng, parameter_shapes(model))
    grads, loss = noise(1e-3), jnp.float32(1)

    def compiled(optimizer: optax.GradientTransformation, unless: Any) -> tuple[Any, Any]:
        train_step.unless = unless
        step = make_train_step(model, optimizer, cross_entropy)
        state = step.init(noise(0.02), seed_key(0))
        return jax.jit(step.update, donate_argnums=0).lower(state, grads, loss).compile(), state

    chain = optax_chain(settings, learning_rate_schedule(settings, TOTAL_STEPS), model)
    optimizers = {"Optax's chain": chain, "ours": make_optimizer(settings, TOTAL_STEPS, model)}
    kinds = {
        f"{name}, {how.__name__}": compiled(optimizer, how)
        for (name, optimizer), how in itertools.product(optimizers.items(), (looped, chosen))
    }
    states = {name: state for name, (_, state) in kinds.items()}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(args.rounds + 3):
        for name, (update, _) in kinds.items():
            started = time.perf_counter()
            states[name], _ = jax.block_until_ready(update(states[name], grads, loss))
            seconds[name].append(time.perf_counter() - started)
    rows = {
        name: {
            "ms": round(1e3 * statistics.median(seconds[name][3:]), 1),
            "least_ms": round(1e3 * min(seconds[name][3:]), 1),
            "temporary_mib": round(update.memory_analysis().temp_size_in_bytes / MIB, 1),
        }
        for name, (update, _) in kinds.items()
    }
    print(f"{'':24}{'ms':>8}{'least ms':>10}{'temporary MiB':>15}")
    for name, row in rows.items():
        print(f"{name:24}{row['ms']:8.1f}{row['least_ms']:10.1f}{row['temporary_mib']:15.1f}")
    if args.json:
        device = jax.devices()[0]
        facts = {"device": device.device_kind, "jax": jax.__version__, "date": datetime.date.today().isoformat()}
        args.json.write_text(json.dumps({**facts, "optimizer": args.optimizer, "updates": rows}, indent=2) + "\n")


def _noise(rng: np.random.Generator, shapes: Any, scale: float) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(scale * rng.standard_normal(leaf.shape, dtype=np.float32)), shapes)


if __name__ == "__main__":
    main()
