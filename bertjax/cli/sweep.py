"""`bertjax sweep`: a search over configs, resumable."""

import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bertjax.cli.exit_codes import ExitCode
from bertjax.cli.flags import parse
from bertjax.errors import ConfigError

if TYPE_CHECKING:
    from bertjax.sweeps.results.sweep_results import Results
    from bertjax.sweeps.sweep_config import Sweep


_CHANGES = ("samples", "concurrency", "seeds", "stack_seeds")  # what flags may change of a sweep


@dataclass(frozen=True)
class Arguments:
    """Search over configs: many fine-tuning runs, side by side where the machine allows, the best of them kept.

    A sweep is a Python file with a CONFIG, a `bertjax.Sweep`. Killed at any moment, it goes on with --resume.
    """

    config: Path | None = None
    """A Python file with the sweep in CONFIG."""

    out: Path | None = None
    """Folder of the sweep; default: a new one under runs/."""

    resume: Path | None = None
    """Folder of a sweep to continue; trials that have ended stay as they are."""

    show: Path | None = None
    """Folder of a sweep to look at, also while it runs; nothing is started."""

    address: str | None = None
    """Of a Ray cluster, HOST:PORT, or `auto` on one of its nodes; default: RAY_ADDRESS, or Ray on this machine."""

    samples: int | None = None
    """How often the ranges are drawn, for each point of the grids; default: as the sweep says."""

    concurrency: int | None = None
    """Trials at a time; default: as the sweep says."""

    seeds: tuple[int, ...] | None = None
    """Seeds that the best config is trained with when the search is done; default: as the sweep says."""

    stack_seeds: bool | None = None
    """Whether they are trained side by side in one program; default: as the sweep says."""


def main(arguments: Sequence[str]) -> int:
    """Runs, continues or shows a sweep."""
    parsed = parse(Arguments, arguments, "bertjax sweep")
    given = [name for name in ("config", "resume", "show") if getattr(parsed, name) is not None]
    if not given or "show" in given[:-1] or (len(given) > 1 and "show" in given):
        raise ConfigError("give --config FILE to start a sweep, --resume DIR to continue one, or --show DIR")
    from bertjax.sweeps.driver import SweepStopped, run_sweep
    from bertjax.sweeps.ledger import Ledger
    from bertjax.sweeps.results.sweep_results import read_results

    if parsed.show is not None:
        _show(read_results(parsed.show.absolute()))
        return 0
    if parsed.resume is not None and parsed.out not in (None, parsed.resume):
        raise ConfigError("--resume names the folder; leave --out out")
    sweep = _read(parsed.config) if parsed.config is not None else Ledger(parsed.resume or Path()).sweep()
    changes = {name: getattr(parsed, name) for name in _CHANGES if getattr(parsed, name) is not None}
    out = parsed.resume or parsed.out or _default_folder(parsed.config or Path("sweep"))
    print(f"the sweep is in {out}; --resume {out} continues it, --show {out} shows it", file=sys.stderr)
    # Ray ends a sweep in order at Ctrl-C, and dies of the other signal.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        results = run_sweep(replace(sweep, **changes), out, resume=parsed.resume is not None, address=parsed.address)
    except SweepStopped as stop:
        print(f"bertjax: {stop}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    _show(results)
    return 0


def _show(results: "Results") -> None:
    from rich.console import Console

    from bertjax.evaluation.aggregate import aggregate_table
    from bertjax.sweeps.driver import REPORT
    from bertjax.sweeps.results.sweep_report import console_table

    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(console_table(results))
    if results.seeds:
        console.print(aggregate_table(f"the best config with {len(results.seeds)} seeds", results.seeds))
    if results.best is not None:
        print(f"the best run is in {results.run_folder(results.best)}, the report in {results.folder / REPORT}")


def _read(path: Path) -> "Sweep":
    """The sweep of a Python file.

    Raises:
      ConfigError: there is no such file, or it has no sweep.
    """
    from bertjax.sweeps.sweep_config import Sweep

    if not path.is_file():
        raise ConfigError(f"--config {path} does not exist; give a Python file with a CONFIG")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--config {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, NameError, ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"--config {path} cannot be run: {error}") from None
    sweep = getattr(module, "CONFIG", None)
    if not isinstance(sweep, Sweep):
        raise ConfigError(f"--config {path}: CONFIG must be a bertjax.Sweep, it is {type(sweep).__name__}")
    return sweep


def _default_folder(config: Path) -> Path:
    return Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{config.stem}"
