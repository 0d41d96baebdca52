"""The entry point of an experiment file: its flags, its config over some seeds, the published score beside it."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bertjax.cli.flags.job_flags import if_exists
from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.main import run, subcommand
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain
from bertjax.cli.process.process_setup import prepare_process
from bertjax.errors import AssetError, ConfigError, DataError
from bertjax.settings import Count, Seed
from bertjax.training.run.run_folder import IfExists
from bertjax.training.settings.finetune_config import FineTuneConfig

_DATA = "BERTJAX_DATA"
_FEW = 8  # training rows of each class, to try whether all of it runs


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
class HubTables:
    """Tables in a data set of the Hugging Face hub.

    Attributes:
      repository: its id.
      files: in it.
      revision: the branch that has them; default: the main one.
    """

    repository: str
    files: Sequence[str]
    revision: str | None = None


@dataclass(frozen=True)
class ExperimentFlags:
    """Run an experiment over some seeds."""

    out: Path | None = None
    """Folder of the runs; default: the experiment's name, under runs/."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Training seeds."""

    epochs: Count | None = None
    """Passes over the training rows; default: the experiment's own."""

    model: str | None = None
    """Another model than the experiment's: a folder, a hub id, a name of the catalog, or models:/NAME@ALIAS."""

    data: Path | None = None
    """Folder with the experiment's tables, where it does not take them from the catalog or the web."""

    variants: tuple[str, ...] = ()
    """Other settings that the experiment names; default: its own config."""

    smoke: bool = False
    """Try whether all of it runs, in less than a minute: a small network of random numbers, one epoch, one seed, no
    MLflow. The scores mean nothing."""

    resume: bool = False
    """Keep the runs that are there, continue the one that was stopped, and run what is missing."""

    overwrite: bool = False
    """Replace runs that are there."""

    allow_changed: bool = False
    """Resume though settings, rows or weights have changed: every seed becomes what it would be now."""

    @property
    def if_exists(self) -> IfExists:
        """What happens to runs that are there, as `bertjax.finetune` takes it."""
        return if_exists(self.resume, self.overwrite, self.allow_changed)

    def settings(self, config: FineTuneConfig) -> FineTuneConfig:
        """A config as the flags change it."""
        if self.smoke:
            from bertjax.cli.smoke_model import smoke_model

            model = self.model or str(smoke_model(config.model))
            few = _FEW if config.task == "classification" and config.data.label_probabilities is None else None
            data = replace(config.data, per_class=config.data.per_class or few)
            return replace(config, model=model, data=data, epochs=self.epochs or 1, tracking="none")
        return replace(config, model=self.model or config.model, epochs=self.epochs or config.epochs)

    def folder(self, name: str) -> Path:
        """Where an experiment's runs go."""
        return self.out or Path("runs") / (f"{name}-smoke" if self.smoke else name)

    def tables(self, name: str) -> Path:
        """Where tables go that an experiment writes: beside its runs."""
        out = self.folder(name)
        return out.with_name(f"{out.name}-tables")


def data_folder(name: str, otherwise: str) -> str:
    """Where an experiment's tables are: the folder `name` in that of `BERTJAX_DATA`, or an address on the web.

    Args:
      name: of the folder.
      otherwise: the address that is taken where there is no such folder.
    """
    folder = Path(os.environ[_DATA]) / name if os.environ.get(_DATA) else None
    return str(folder) if folder is not None and folder.is_dir() else otherwise


def tables_folder(
    name: str, folder: Path | None, files: Sequence[str], where: str, hub: HubTables | None = None
) -> Path:
    """The folder of an experiment's tables, which no package index has.

    Args:
      name: of the folder below that of `BERTJAX_DATA`.
      folder: the one that the user named; None for that of `BERTJAX_DATA`.
      files: that must be in it.
      where: one gets them, for the message.
      hub: where they are taken from if nobody named a folder and there is none; its files may be others.

    Raises:
      ConfigError: there is no such folder, or it lacks a file, and the hub does not have them.
    """
    found = folder or Path(os.environ.get(_DATA) or ".") / name
    missing = next((file for file in files if not (found / file).is_file()), None)
    if missing is None:
        return found
    why = f"{found / missing} is not there"
    if hub is not None and not found.is_dir() and folder is None:
        try:
            return _from_hub(hub)
        except AssetError as error:
            why = f"{why}, and {error}"
    raise ConfigError(f"{why}; {where}. --data names the folder, or {_DATA} the one above {name}")


def _from_hub(hub: HubTables) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    files = list(hub.files)
    try:
        folder = Path(
            snapshot_download(hub.repository, repo_type="dataset", revision=hub.revision, allow_patterns=files)
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise AssetError(f"the hub does not give {hub.repository}: {reason}") from None
    missing = next((file for file in files if not (folder / file).is_file()), None)
    if missing is not None:
        raise AssetError(f"the hub's {hub.repository} has no {missing}")
    return folder


def run_script(name: str, job: Callable[[ExperimentFlags], int | None]) -> None:
    """Calls a script's job with the flags of the process's command line, and ends the process as a command does: a
    user's mistake is one line and status 2.

    Args:
      name: of the experiment and its file.
      job: returns the exit status, None for success.

    Raises:
      SystemExit: always, with the exit status.
    """
    prepare_process()

    def status() -> int:
        flags = parse(ExperimentFlags, sys.argv[1:], f"python experiments/{name}.py")
        if flags.smoke:
            flags = replace(flags, seeds=flags.seeds[:1], overwrite=not flags.resume)
        try:
            return job(flags) or ExitCode.OK
        except DataError as error:
            if "://" not in str(error):
                raise
            raise DataError(f"{error}; {_DATA} may name a folder with copies, as experiments/README.md says") from None

    sys.exit(run(status))


def run_experiment(
    name: str,
    config: FineTuneConfig,
    published: PublishedScore,
    before: Sequence[str] = (),
    variants: Mapping[str, FineTuneConfig] = {},
) -> None:
    """Runs an experiment with the flags of the process's command line, prints a table, and ends the process.

    Args:
      name: of the experiment, its file and its default folder under `runs/`.
      config: the settings; flags may change the epochs and the model, and give the seeds.
      published: the score that the table shows beside the result.
      before: a command line of `bertjax` that makes a table of the config, without the program; default: none.
      variants: further settings by name, which `--variants` runs in their place, each in a folder of its name.

    Raises:
      SystemExit: always, with the exit status.
    """

    def job(flags: ExperimentFlags) -> int:
        unknown = [variant for variant in flags.variants if variant not in variants]
        if unknown:
            known = ", ".join(variants) or "none"
            raise ConfigError(f"--variants {unknown[0]} is no variant of {name}; it has {known}")
        if before and (status := subcommand(before[0], before[1:])):
            return status
        chosen = {variant: variants[variant] for variant in flags.variants} or {"": config}
        statuses = [_run_seeds(name, variant, settings, published, flags) for variant, settings in chosen.items()]
        return max(statuses)

    run_script(name, job)


def run_seeds(title: str, config: FineTuneConfig, published: PublishedScore, flags: ExperimentFlags, out: Path) -> int:
    """Runs a config with the seeds of the flags, and prints its scores beside the published ones.

    Returns:
      The exit status.
    """
    from bertjax.metrics.aggregate import aggregate_table
    from bertjax.report_pages.text_table import print_table
    from bertjax.training.loop.progress import progress_for_stderr
    from bertjax.training.multi.multi_seed import finetune_seeds

    result = finetune_seeds(
        flags.settings(config),
        flags.seeds,
        out,
        if_exists=flags.if_exists,
        new_progress=progress_for_stderr,
    )
    title = f"{title}, published: {published.source}"
    print_table(aggregate_table(title, result.scores, {"published": published.metrics}))
    for seed, error in result.failures.items():
        complain(f"seed {seed} failed: {error}")
    return ExitCode.FAILED if result.failures else ExitCode.OK


def _run_seeds(
    name: str, variant: str, config: FineTuneConfig, published: PublishedScore, flags: ExperimentFlags
) -> int:
    title = f"{name}, {variant}" if variant else name
    return run_seeds(title, config, published, flags, flags.folder(name) / variant)
