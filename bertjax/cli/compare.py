"""`bertjax compare`: JAX against PyTorch on one job, over several seeds."""

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bertjax.cli.exit_codes import ExitCode
from bertjax.cli.job_flags import if_exists, parse_job


@dataclass(frozen=True)
class CompareFlags:
    """Train the same job in several frameworks, over several seeds, and compare scores, losses, speed and memory.

    All start from the same weights, head included. jax and torch see the same examples in every update, with the same
    loss and optimizer; trainer is transformers' own Trainer as it comes, trainer-grouped the same with batches of
    similar length; onnx answers with the weights that jax has trained.
    """

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
    hidden = {"seed": {"text": None}}
    config, flags = parse_job(CompareFlags, arguments, "bertjax compare", hidden)
    from rich.console import Console

    from bertjax.baselines.compare.comparison import compare
    from bertjax.baselines.compare.comparison_report import console_table, speed_sentence
    from bertjax.training.run.run_folder import new_folder

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: ends the process of a run, too
    if flags.dropout == "off":
        config = replace(config, dropout_rate=0.0)
    out = flags.out or new_folder("compare")
    summary = compare(
        config,
        flags.frameworks,
        flags.seeds,
        out,
        if_exists=if_exists(flags.resume, flags.overwrite),
        keep_models=flags.keep_models,
    )
    Console(width=None if sys.stdout.isatty() else 140).print(console_table(summary))
    for sentence in filter(None, map(speed_sentence, summary.pairs)):
        print(sentence)
    print(f"{len(summary.sides)} frameworks; the report is {out / 'report.html'}")
    for failure in summary.failures:
        print(
            f"bertjax: {failure.framework}, seed {failure.seed} failed: {failure.error}; --resume --out {out} with the "
            f"same flags runs it again",
            file=sys.stderr,
        )
    return ExitCode.FAILED if summary.failures else ExitCode.OK
