"""`bertjax finetune`: the main job."""

import itertools
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from bertjax.cli.flags import given, parse
from bertjax.cli.process_setup import make_deterministic
from bertjax.data.table import Table
from bertjax.errors import ConfigError
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer, Workers

if TYPE_CHECKING:
    from bertjax.training.run.training_session import FineTuneResult

INCOMPLETE = 1  # exit status where some runs have failed, and others not


@dataclass(frozen=True)
class TableFlags(Table):
    """A `Table` whose column settings have the flags `--text-columns` and `--label-column`."""

    text: Annotated[tuple[str, ...], tyro.conf.arg(name="text-columns")] = Table.text
    """Columns with the text, joined by a space."""

    text_pair: Annotated[tuple[str, ...], tyro.conf.arg(name="pair-columns")] = Table.text_pair
    """Columns with the second text of a pair, which becomes segment 1."""

    label: Annotated[str, tyro.conf.arg(name="label-column")] = Table.label
    """Column with the label: a string or an integer, several of them where a row can have several, a number where
    numbers are learned."""

    labels: Annotated[tuple[str, ...], tyro.conf.arg(name="label-columns")] = Table.labels
    """Columns with one label each, instead of a single one: numbers to learn, or 0 and 1 for what a row has."""


@dataclass(frozen=True)
class OptimizerFlags(Optimizer):
    """An `Optimizer` whose name has the flag `--optimizer`."""

    name: Annotated[str, tyro.conf.arg(name="optimizer")] = Optimizer.name
    """adamw, lamb, adafactor, lion, sgd, schedule_free_adamw, or muon, as their authors publish them."""


@dataclass(frozen=True)
class JobFlags(FineTuneConfig):
    """The flags of a `FineTuneConfig`."""

    data: TableFlags = field(default_factory=TableFlags)

    optimizer: OptimizerFlags = field(default_factory=OptimizerFlags)

    @property
    def config(self) -> FineTuneConfig:
        """The settings alone, without the flags that a command adds."""
        groups = {
            "data": Table(**_values(Table, self.data)),
            "optimizer": Optimizer(**_values(Optimizer, self.optimizer)),
        }
        return FineTuneConfig(**_values(FineTuneConfig, self) | groups)


@dataclass(frozen=True)
class Arguments(JobFlags):
    """Fine-tune a pretrained BERT on a labelled table, evaluate it, and record the run.

    With no flags: MiniLM-L6 on TREC questions, about two minutes on two CPU cores.
    """

    out: Path | None = None
    """Folder of the run; default: a new one under runs/."""

    resume: bool = False
    """Continue the run in --out from its last checkpoint."""

    overwrite: bool = False
    """Replace the run in --out."""

    seeds: tuple[int, ...] | None = None
    """Several seeds in the place of --seed: a whole run each, in folders of their own below --out, and the mean and
    standard deviation of their scores."""

    stack_seeds: bool = False
    """Train the seeds side by side in one program, where memory allows; the numbers are the same but for rounding."""

    workers: Workers = field(default_factory=Workers)
    """Processes that share the run."""

    allow_changed: bool = False
    """Resume though settings, rows or weights are no longer those that the run was started with."""

    deterministic: bool = False
    """Set the XLA flags that a GPU needs to compute the same bits each time; it is slower then. On CPU and TPU the same
    seed gives the same bits anyway."""


def _values(kind: Any, instance: Any) -> dict[str, Any]:
    return {item.name: getattr(instance, item.name) for item in fields(kind)}


class StopSignal:
    """Turns the first Ctrl-C (or SIGTERM) into a wish to stop after the step under way; the second one ends at once."""

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def __call__(self) -> bool:
        return self.number != 0

    def _receive(self, number: int, frame: Any) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number
        print("bertjax: stopping after this step; once more ends at once", file=sys.stderr)


def repeating(command: str, arguments: Sequence[str]) -> str:
    """The shell command that does the same in a folder of its own.

    >>> repeating("finetune", ["--seed", "1", "--out", "runs/a", "--resume"])
    'bertjax finetune --seed 1'

    Seeds are left out where there are several: what is repeated may be one of them.

    >>> repeating("finetune", ["--seeds", "0", "1", "--epochs", "2"])
    'bertjax finetune --epochs 2'
    """
    words = list(arguments)
    if "--out" in words:
        place = words.index("--out")
        del words[place : place + 2]
    if "--seeds" in words:
        place = words.index("--seeds")
        values = itertools.takewhile(str.isdecimal, words[place + 1 :])
        del words[place : place + 1 + len(list(values))]
    once = ("--resume", "--overwrite", "--allow-changed", "--stack-seeds")
    return shlex.join(["bertjax", command, *(word for word in words if word not in once)])


def main(arguments: Sequence[str]) -> int:
    """Runs the job and prints the scores of the test rows."""
    return run(parse(Arguments, arguments, "bertjax finetune"), "finetune", arguments)


def run(parsed: Arguments, command: str, words: Sequence[str]) -> int:
    """Runs the job of some flags and prints the scores of the test rows; returns the exit status.

    Args:
      parsed: the flags.
      command: whose they are.
      words: as they were given.
    """
    if parsed.deterministic:
        make_deterministic()
    from bertjax.errors import Interrupted
    from bertjax.training.run.run_folder import default_folder

    out = parsed.out or default_folder(parsed.config)
    if parsed.seeds is not None:
        _check_seeds(parsed, words)
    elif parsed.stack_seeds:
        raise ConfigError("--stack-seeds needs --seeds, the seeds to train side by side")
    if parsed.workers.num_workers:
        return _run_on_workers(parsed, out, repeating(command, words))
    stop = StopSignal()
    try:
        if parsed.seeds is not None:
            return _run_seeds(parsed, parsed.seeds, out, repeating(command, words), stop)
        return _run_one(parsed, out, repeating(command, words), stop)
    except Interrupted as interruption:
        print(f"bertjax: {interruption}; --resume --out {out} with the same flags continues it", file=sys.stderr)
        # A scheduler that takes the machine away sends SIGTERM: the job has not failed, it goes on elsewhere.
        preempted = stop.number == signal.SIGTERM and interruption.saved_step is not None
        return 0 if preempted else 128 + stop.number


def _run_one(parsed: Arguments, out: Path, command: str, stop: StopSignal) -> int:
    from bertjax.training.loop.progress import progress_for_stderr
    from bertjax.training.run.finetuning import finetune

    result = finetune(
        parsed.config,
        out,
        resume=parsed.resume,
        overwrite=parsed.overwrite,
        allow_changed=parsed.allow_changed,
        command=command,
        progress=progress_for_stderr(),
        should_stop=stop,
    )
    _show(result, command)
    return 0


def _run_on_workers(parsed: Arguments, out: Path, command: str) -> int:
    from bertjax.training.multi.ray_workers import finetune_on_workers

    result = finetune_on_workers(
        parsed.config,
        out,
        parsed.workers,
        resume=parsed.resume,
        overwrite=parsed.overwrite,
        allow_changed=parsed.allow_changed,
        command=command,
    )
    _show(result, command)
    return 0


def _show(result: "FineTuneResult", command: str) -> None:
    from rich.console import Console

    from bertjax.evaluation.run_report import console_table
    from bertjax.training.run.environment import with_variables

    Console().print(console_table(result.report, "test"))
    print(f"{_course_of(result.metrics)}; run and model are in {result.folder}")
    print(f"the same again: {with_variables(command)}")


def _check_seeds(parsed: Arguments, words: Sequence[str]) -> None:
    """Whether several seeds go with the other flags.

    Raises:
      ConfigError: they do not.
    """
    if given("seed", words):
        raise ConfigError("--seed and --seeds exclude each other; give one of them")
    if parsed.workers.num_workers:
        raise ConfigError("--seeds are run in this process, and --num-workers share a single run; give one of them")
    if parsed.resume and parsed.out is None:
        raise ConfigError("--resume needs --out, the folder of the runs to continue")


def _run_seeds(parsed: Arguments, seeds: Sequence[int], out: Path, command: str, stop: StopSignal) -> int:
    from rich.console import Console

    from bertjax.evaluation.aggregate import aggregate_table
    from bertjax.training.loop.progress import progress_for_stderr
    from bertjax.training.multi.multi_seed import finetune_seeds

    result = finetune_seeds(
        parsed.config,
        seeds,
        out,
        stack=parsed.stack_seeds,
        resume=parsed.resume,
        overwrite=parsed.overwrite,
        allow_changed=parsed.allow_changed,
        command=command,
        new_progress=progress_for_stderr,
        should_stop=stop,
    )
    Console().print(aggregate_table(f"{len(result.runs)} seeds", result.scores))
    print(f"the runs and their models are in {result.folder}")
    for seed, error in result.failures.items():
        print(f"bertjax: seed {seed} failed: {error}", file=sys.stderr)
    return INCOMPLETE if result.failures else 0


def _course_of(metrics: Mapping[str, float]) -> str:
    """How the training went, in a line."""
    first, share = metrics.get("train/seconds_to_first_step"), metrics.get("train/matmul_peak_share")
    facts = [
        f"{metrics['train/examples_per_second']:.0f} training examples/s",
        f"{metrics['train/tokens_per_second']:.0f} tokens/s"
        + ("" if share is None else f" ({100 * share:.0f}% of matmul peak)"),
        f"{100 * metrics['train/real_token_share']:.1f}% real tokens",
        f"compiled shapes: {metrics['train/compiles']:.0f} in {metrics['train/compile_seconds']:.1f} s",
        *([] if first is None else [f"first step after {first:.1f} s"]),
        f"{metrics['train/seconds']:.0f} s in all",
    ]
    return ", ".join(facts)
