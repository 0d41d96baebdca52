"""What an experiment file calls: its config over some seeds, and the published score beside the result."""

import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bertjax.cli.environment import prepare_process
from bertjax.cli.flags import parse
from bertjax.cli.main import run
from bertjax.training.config import FineTuneConfig


@dataclass(frozen=True)
class Anchor:
    """A score that somebody else published.

    Attributes:
      source: who reached it, with what.
      metrics: flat keys of `metrics.json` -> the published value.
    """

    source: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Arguments:
    """Run an experiment over some seeds."""

    out: Path
    """Folder of the runs; each seed has its own inside."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""

    epochs: int | None = None
    """Passes over the training rows; default: the experiment's own."""

    overwrite: bool = False
    """Replace runs that are there."""


def main(name: str, config: FineTuneConfig, anchor: Anchor) -> None:
    """Runs the experiment of a file with the flags of the command line, and exits."""
    prepare_process()

    def job() -> int:
        default = Arguments(out=Path("runs") / name)
        arguments = parse(Arguments, sys.argv[1:], f"python experiments/{name}.py", default)
        return _run_seeds(name, config, anchor, arguments)

    sys.exit(run(job))


def _run_seeds(name: str, config: FineTuneConfig, anchor: Anchor, arguments: Arguments) -> int:
    from rich.console import Console
    from rich.table import Table

    from bertjax.training.finetune import finetune
    from bertjax.training.progress import progress_for_stderr

    if arguments.epochs is not None:
        config = replace(config, epochs=arguments.epochs)
    results = [
        finetune(
            replace(config, seed=seed),
            arguments.out / f"seed-{seed}",
            overwrite=arguments.overwrite,
            progress=progress_for_stderr(),
        )
        for seed in arguments.seeds
    ]
    table = Table(title=f"{name}, published: {anchor.source}", title_justify="left")
    for column in ("metric", "published", "mean", "sd", *(f"seed {seed}" for seed in arguments.seeds)):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for metric, published in anchor.metrics.items():
        scores = [result.metrics[metric] for result in results]
        spread = f"{statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
        table.add_row(
            metric, f"{published:.4f}", f"{statistics.mean(scores):.4f}", spread, *(f"{score:.4f}" for score in scores)
        )
    Console().print(table)
    return 0
