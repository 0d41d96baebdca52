"""`bertjax compare`: JAX against PyTorch on one job, over several seeds."""

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from bertjax.cli.finetune import INCOMPLETE, JobFlags
from bertjax.cli.flags import parse


@dataclass(frozen=True)
class Arguments(JobFlags):
    """Train the same job in several frameworks, over several seeds, and compare scores, losses, speed and memory.

    All start from the same weights, head included. jax and torch see the same examples in every update, with the same
    loss and optimizer; trainer is transformers' own Trainer as it comes, trainer-grouped the same with batches of
    similar length; onnx answers with the weights that jax has trained.
    """

    seed: Annotated[int, tyro.conf.Suppress] = 0

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of the head's initialisation, the order of examples, and dropout; every framework runs each of them."""

    frameworks: tuple[str, ...] = ("jax", "torch")
    """Frameworks: jax, torch, trainer, trainer-grouped, onnx. The first is compared with each other one."""

    dropout: Literal["on", "off"] = "on"
    """Without dropout, jax and torch compute the same numbers, and the distance of their losses is shown."""

    out: Path | None = None
    """Folder of the comparison; default: a new one under runs/."""

    resume: bool = False
    """Keep the runs in --out, and run what is missing."""

    overwrite: bool = False
    """Replace the comparison in --out."""

    keep_models: bool = False
    """Leave each trained model in the folder of its run."""


def main(arguments: Sequence[str]) -> int:
    """Runs the comparison and prints its table."""
    parsed = parse(Arguments, arguments, "bertjax compare")
    from rich.console import Console

    from bertjax.baselines.compare.comparison import compare
    from bertjax.baselines.compare.comparison_report import console_table
    from bertjax.training.run.run_folder import new_folder

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: ends the process of a run, too
    config = parsed.config
    if parsed.dropout == "off":
        config = replace(config, dropout_rate=0.0)
    out = parsed.out or new_folder("compare")
    summary = compare(
        config,
        parsed.frameworks,
        parsed.seeds,
        out,
        resume=parsed.resume,
        overwrite=parsed.overwrite,
        keep_models=parsed.keep_models,
    )
    Console(width=None if sys.stdout.isatty() else 140).print(console_table(summary))
    print(f"{len(summary.sides)} frameworks; the report is {out / 'report.html'}")
    for failure in summary.failures:
        print(
            f"bertjax: {failure.framework}, seed {failure.seed} failed: {failure.error}; --resume --out {out} with the "
            f"same flags runs it again",
            file=sys.stderr,
        )
    return INCOMPLETE if summary.failures else 0
