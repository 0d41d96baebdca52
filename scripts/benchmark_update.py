"""The update of AdamW on this machine: Optax's chain beside the fused one.

The parameters are those of MiniLM (22.7 million) with gradients of noise. The updates take turns, so that what slows
the machine down slows both of them down. The fused one is given the sums of squares that the gradient's program has
taken; the row "squares" is what these cost alone. For figures of a run, start it with huge pages, as the command line
does:

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.trim_threshold=8589934592\
:glibc.malloc.mmap_threshold=33554432 python scripts/benchmark_update.py --json update.json
"""

import argparse
import datetime
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
from bertjax.training.optim.fused_adamw import squares_of
from bertjax.training.optim.optimizer import optax_chain
from bertjax.training.optim.schedules import learning_rate_schedule
from bertjax.training.settings.options import Optimizer
from bertjax.training.step.train_step import seed_key

MINILM = BertConfig(hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536)
TOTAL_STEPS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="updates of each kind, after 3 that do not count")
    parser.add_argument("--optimizer", default="adamw", help="any of bertjax's; only adamw has a fused update")
    parser.add_argument("--json", type=Path, help="write the table there too")
    args = parser.parse_args()
    settings = Optimizer(args.optimizer).resolved()
    model = make_model(MINILM, "classification", ("a", "b"))
    noise = partial(_noise, np.random.default_rng(0), parameter_shapes(model))
    grads, loss = noise(1e-3), jnp.float32(1)
    sums = jax.jit(squares_of).lower(grads).compile()

    def compiled(optimizer: optax.GradientTransformation, *known: Any) -> tuple[Any, Any]:
        step = make_train_step(model, optimizer, cross_entropy)
        state, given = step.init(noise(0.02), seed_key(0)), (grads, loss, *known)
        update = jax.jit(step.update, donate_argnums=0).lower(state, *given).compile()
        return (lambda state: update(state, *given)[0]), state

    chain = optax_chain(settings, learning_rate_schedule(settings, TOTAL_STEPS), model)
    kinds = {
        "Optax's chain": compiled(chain),
        "ours": compiled(make_optimizer(settings, TOTAL_STEPS, model), sums(grads)),
        "squares": (lambda _: sums(grads), None),
    }
    states = {name: state for name, (_, state) in kinds.items()}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(args.rounds + 3):
        for name, (function, _) in kinds.items():
            started = time.perf_counter()
            states[name] = jax.block_until_ready(function(states[name]))
            seconds[name].append(time.perf_counter() - started)
    rows = {
        name: {"ms": round(1e3 * statistics.median(times[3:]), 1), "least_ms": round(1e3 * min(times[3:]), 1)}
        for name, times in seconds.items()
    }
    ratio = statistics.median(a / b for a, b in zip(*(seconds[name][3:] for name in list(kinds)[:2]), strict=True))
    print(f"{'':16}{'ms':>8}{'least ms':>10}")
    for name, row in rows.items():
        print(f"{name:16}{row['ms']:8.1f}{row['least_ms']:10.1f}")
    print(f"Optax's chain takes {ratio:.2f} times as long as ours (median of the rounds)")
    if args.json:
        device = jax.devices()[0]
        facts = {"device": device.device_kind, "jax": jax.__version__, "date": datetime.date.today().isoformat()}
        table = {**facts, "optimizer": args.optimizer, "updates": rows, "ratio": round(ratio, 2)}
        args.json.write_text(json.dumps(table, indent=2) + "\n")


def _noise(rng: np.random.Generator, shapes: Any, scale: float) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(scale * rng.standard_normal(leaf.shape, dtype=np.float32)), shapes)


if __name__ == "__main__":
    main()
