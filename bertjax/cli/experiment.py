"""What an experiment file calls: its config over some seeds, and the published score beside the result."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bertjax.cli.flags import parse
from bertjax.cli.main import run
from bertjax.cli.process_setup import prepare_process
from bertjax.training.settings.finetune_config import FineTuneConfig


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

    resume: bool = False
    """Keep the runs that are there, continue the one that was stopped, and run what is missing."""

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

    from bertjax.evaluation.aggregate import aggregate_table
    from bertjax.training.loop.progress import progress_for_stderr
    from bertjax.training.multi.multi_seed import finetune_seeds

    if arguments.epochs is not None:
        config = replace(config, epochs=arguments.epochs)
    result = finetune_seeds(
        config,
        arguments.seeds,
        arguments.out,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        new_progress=progress_for_stderr,
    )
    Console().print(
        aggregate_table(f"{name}, published: {anchor.source}", result.scores, {"published": anchor.metrics})
    )
    return 0
