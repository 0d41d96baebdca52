"""The entry point of an experiment file: its config over some seeds, with the published score beside the result."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bertjax.cli.flags.job_flags import if_exists
from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.main import main, run
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain
from bertjax.cli.process.process_setup import prepare_process
from bertjax.settings import Count, Seed
from bertjax.training.settings.finetune_config import FineTuneConfig


@dataclass(frozen=True)
class PublishedScore:
    """A score from the literature, to compare an experiment with.

    Attributes:
      source: authors or system, and the model.
      metrics: flat keys of `metrics.json` -> the published value.
    """

    source: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Arguments:
    """Run an experiment over some seeds."""

    out: Path | None = None
    """Folder of the runs, with a folder a seed; default: the experiment's name, under runs/."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Training seeds."""

    epochs: Count | None = None
    """Passes over the training rows; default: the experiment's own."""

    resume: bool = False
    """Keep the runs that are there, continue the one that was stopped, and run what is missing."""

    overwrite: bool = False
    """Replace runs that are there."""

    allow_changed: bool = False
    """Resume though settings, rows or weights have changed: every seed becomes what it would be now."""


def run_experiment(name: str, config: FineTuneConfig, published: PublishedScore, before: Sequence[str] = ()) -> None:
    """Runs an experiment with the flags of the process's command line, prints a table, and ends the process.

    Args:
      name: of the experiment, its file and its default folder under `runs/`.
      config: the settings; flags may change the epochs, and give the seeds.
      published: the score that the table shows beside the result.
      before: a command line of `bertjax` that makes a table of the config, without the program; default: none.

    Raises:
      SystemExit: always, with the exit status.
    """
    prepare_process()

    def job() -> int:
        arguments = parse(Arguments, sys.argv[1:], f"python experiments/{name}.py")
        if before and (status := main(before)):
            return status
        return _run_seeds(name, config, published, arguments)

    sys.exit(run(job))


def _run_seeds(name: str, config: FineTuneConfig, published: PublishedScore, arguments: Arguments) -> int:
    from bertjax.metrics.aggregate import aggregate_table
    from bertjax.report_pages.text_table import print_table
    from bertjax.training.loop.progress import progress_for_stderr
    from bertjax.training.multi.multi_seed import finetune_seeds

    if arguments.epochs is not None:
        config = replace(config, epochs=arguments.epochs)
    result = finetune_seeds(
        config,
        arguments.seeds,
        arguments.out or Path("runs") / name,
        if_exists=if_exists(arguments.resume, arguments.overwrite, arguments.allow_changed),
        new_progress=progress_for_stderr,
    )
    title = f"{name}, published: {published.source}"
    print_table(aggregate_table(title, result.scores, {"published": published.metrics}))
    for seed, error in result.failures.items():
        complain(f"seed {seed} failed: {error}")
    return ExitCode.FAILED if result.failures else ExitCode.OK
