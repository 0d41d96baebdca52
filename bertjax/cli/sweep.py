"""`bertjax sweep`: a search over configs, resumable."""

import logging
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain, say
from bertjax.cli.process.stop_signals import TERMINATED, sigterm_as_ctrl_c
from bertjax.errors import ConfigError
from bertjax.settings import Count, Seed

if TYPE_CHECKING:
    from bertjax.sweeps.results.sweep_results import Results
    from bertjax.sweeps.sweep_config import Sweep


_CHANGES = ("samples", "concurrency", "repeat_points", "seeds", "stack_seeds")  # settings of a sweep that flags change


@dataclass(frozen=True)
class Arguments:
    """Search over configs: many fine-tuning runs, in parallel where the machine allows, of which the best is kept.

    A sweep is a Python file with a CONFIG, a `bertjax.Sweep`. Killed at any moment, it continues with --resume.
    """

    config: Path | None = None
    """A Python file with the sweep in CONFIG."""

    out: Path | None = None
    """Folder of the sweep; default: a new one under runs/."""

    resume: Path | None = None
    """Folder of a sweep to continue; trials that have ended stay as they are."""

    allow_changed: bool = False
    """Resume though versions or devices are no longer those of the trials that are there; other rows or weights are
    never compared."""

    show: Path | None = None
    """Folder of a sweep to look at, also while it runs; nothing is started."""

    address: str | None = None
    """Ray cluster, HOST:PORT, or `auto` on one of its nodes; default: RAY_ADDRESS, or Ray on this machine."""

    samples: Count | None = None
    """How often the ranges are drawn, for each point of the grids; default: as the sweep says."""

    repeat_points: bool | None = None
    """Whether a point of a space with a finite number of them may be drawn again; default: as the sweep says."""

    concurrency: Count | None = None
    """Trials at a time; default: as the sweep says."""

    seeds: tuple[Seed, ...] | None = None
    """Seeds that the best config is trained with when the search is done; default: as the sweep says."""

    stack_seeds: bool | None = None
    """Whether they are trained side by side in one program; default: as the sweep says."""


def main(arguments: Sequence[str]) -> int:
    """Runs, continues or shows a sweep."""
    parsed = parse(Arguments, arguments, "bertjax sweep")
    sources = [name for name in ("config", "resume", "show") if getattr(parsed, name) is not None]
    if not sources or (len(sources) > 1 and "show" in sources):
        raise ConfigError("give --config FILE to start a sweep, --resume DIR to continue one, or --show DIR")
    from bertjax.stage_progress import stages_for_stderr
    from bertjax.storage.folder_lock import is_in_use
    from bertjax.sweeps.driver import SweepStopped, run_sweep
    from bertjax.sweeps.ledger import Ledger
    from bertjax.sweeps.results.sweep_results import read_results
    from bertjax.training.run.run_folder import new_folder

    if parsed.show is not None:
        results = read_results(parsed.show.absolute())
        _show(results)
        if any(result.trial.status == "running" for result in results.trials) and not is_in_use(results.folder):
            say(f"the sweep was stopped and nothing runs; --resume {parsed.show} continues it")
        return 0
    if parsed.resume is not None and parsed.out not in (None, parsed.resume):
        raise ConfigError("--resume names the folder; leave --out out")
    sweep = _read(parsed.config) if parsed.config is not None else Ledger(parsed.resume or Path()).sweep()
    changes = {name: value for name in _CHANGES if (value := getattr(parsed, name)) is not None}
    out = parsed.resume or parsed.out or new_folder(parsed.config.stem if parsed.config else "sweep")
    print(f"the sweep is in {out}; --resume {out} continues it, --show {out} shows it", file=sys.stderr)
    # bertjax says in a line how a trial ended; Ray would print the traceback, too.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with sigterm_as_ctrl_c() as sigterm:
        try:
            results = run_sweep(
                replace(sweep, **changes),
                out,
                if_exists="error" if parsed.resume is None else "resume_changed" if parsed.allow_changed else "resume",
                address=parsed.address,
                progress=stages_for_stderr(),
            )
        except SweepStopped as stop:
            complain(str(stop))
            return TERMINATED if sigterm.received else ExitCode.INTERRUPTED
    _show(results)
    failed = [result.trial for result in results.trials if result.trial.status == "failed"]
    if failed:
        complain(f"{len(failed)} of {len(results.trials)} trials failed; the first: {failed[0].cause}")
    return 0


def _show(results: "Results") -> None:
    from bertjax.metrics.aggregate import aggregate_table
    from bertjax.report_pages.text_table import print_table
    from bertjax.sweeps.driver import REPORT
    from bertjax.sweeps.results.sweep_report import console_table

    print_table(console_table(results), width_of_a_log=160)
    if results.seeds:
        seeds_table = aggregate_table(f"the best config with {len(results.seeds)} seeds", results.seeds)
        print_table(seeds_table, width_of_a_log=160)
    if results.best is not None:
        say(f"the best run is in {results.run_folder(results.best)}, the report in {results.folder / REPORT}")


def _read(path: Path) -> "Sweep":
    """The `CONFIG` of a Python file.

    Raises:
      ConfigError: the file does not exist, fails, or has no sweep.
    """
    from bertjax.sweeps.sweep_config import Sweep

    if not path.is_file():
        raise ConfigError(f"--config {path} does not exist; give a Python file with a CONFIG")
    try:
        sweep = runpy.run_path(str(path)).get("CONFIG")
    except (SyntaxError, NameError, ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"--config {path} cannot be run: {error}") from None
    if not isinstance(sweep, Sweep):
        raise ConfigError(f"--config {path}: CONFIG must be a bertjax.Sweep, it is {type(sweep).__name__}")
    return sweep
