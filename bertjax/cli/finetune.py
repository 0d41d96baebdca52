"""`bertjax finetune`, the main job, which `pretrain` runs too: one run, several seeds, or workers; then the scores."""

import itertools
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertjax.cli.flags.job_flags import if_exists, parse_job
from bertjax.cli.flags.parse_flags import is_given
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain, say
from bertjax.cli.process.process_setup import make_deterministic
from bertjax.cli.process.stop_signals import sigterm_as_ctrl_c
from bertjax.errors import ConfigError, Interrupted
from bertjax.settings import Count, Seed
from bertjax.training.run.run_folder import IfExists
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Workers

if TYPE_CHECKING:
    from bertjax.training.run.training_session import FineTuneResult


@dataclass(frozen=True)
class RunFlags:
    """Fine-tune a pretrained BERT on a labelled table, evaluate it, and record the run.

    With no flags: MiniLM-L6 on TREC questions, about two minutes on two CPU cores.
    """

    out: Path | None = None
    """Folder of the run; default: a new one under runs/."""

    resume: bool = False
    """Continue the run in --out from its last checkpoint."""

    overwrite: bool = False
    """Replace the run in --out."""

    seeds: tuple[Seed, ...] | None = None
    """Several seeds instead of --seed: a run each, in folders below --out, and mean and standard deviation of their
    scores."""

    stack_seeds: bool = False
    """Train the seeds side by side in one program, where memory allows; the numbers are the same but for rounding."""

    learning_curve: tuple[Count, ...] | None = None
    """Learn from so many rows of each class, such as 8 16 64 256, with each of --seeds: mean and standard deviation of
    the scores by size, for --beside too. The test rows stay the same."""

    workers: Workers = field(default_factory=Workers)
    """Processes that share the run."""

    allow_changed: bool = False
    """Resume though settings, rows, devices or versions are no longer those that the run was started with;
    docs/resume.md has what each change does. Of several seeds, each becomes what it would be now, and one of other rows
    begins again."""

    deterministic: bool = False
    """Set the XLA flags that a GPU needs to compute the same bits each time; it is slower then. On CPU and TPU the same
    seed gives the same bits anyway."""


class StopSignal:
    """Asks a run to stop after its present step at the first Ctrl-C or SIGTERM; the second one ends it at once.

    At the end of its block the handlers of before are back: a program that calls the command can still be stopped.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *exception: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def __call__(self) -> bool:
        return self.number != 0

    def _receive(self, number: int, frame: Any) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number
        print("bertjax: stopping after this step; once more ends at once", file=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    """Runs the job and prints the scores of the test rows."""
    config, flags = parse_job(RunFlags, arguments, "bertjax finetune")
    return run_job(config, flags, "finetune", arguments)


def run_job(config: FineTuneConfig, flags: RunFlags, command: str, words: Sequence[str]) -> int:
    """Runs a job, prints the scores of the test rows, and returns the exit status.

    Args:
      config: the settings.
      flags: the other flags.
      command: `finetune` or `pretrain`.
      words: the command line after it.
    """
    if flags.deterministic:
        make_deterministic()
    from bertjax.training.run.run_folder import default_folder

    _check_seeds(flags, words)
    out, repeated = flags.out or default_folder(config), repeating_command(command, words)
    policy = if_exists(flags.resume, flags.overwrite, flags.allow_changed)
    if flags.workers.num_workers:
        from bertjax.training.multi.ray_workers import finetune_on_workers

        with sigterm_as_ctrl_c():
            result = finetune_on_workers(config, out, flags.workers, if_exists=policy, command=repeated)
        _show(result, repeated)
        return ExitCode.OK
    with StopSignal() as stop:
        return _run_here(config, flags, out, policy, repeated, stop)


def _run_here(
    config: FineTuneConfig, flags: RunFlags, out: Path, policy: IfExists, repeated: str, stop: StopSignal
) -> int:
    """Runs the job in this process."""
    from bertjax.training.loop.progress import progress_for_stderr
    from bertjax.training.run.finetuning import finetune

    try:
        if flags.learning_curve is not None:
            return _run_curve(config, flags.learning_curve, flags.seeds, out, policy, repeated, stop)
        if flags.seeds is not None:
            return _run_seeds(config, flags.seeds, flags.stack_seeds, out, policy, repeated, stop)
        progress = progress_for_stderr()
        result = finetune(config, out, if_exists=policy, command=repeated, progress=progress, should_stop=stop)
    except Interrupted as interruption:
        complain(f"{interruption}; --resume --out {out} with the same flags continues it")
        # A scheduler that takes the machine away sends SIGTERM: the job has not failed, it continues elsewhere.
        preempted = stop.number == signal.SIGTERM and interruption.saved_step is not None
        return ExitCode.OK if preempted else ExitCode.SIGNALLED + stop.number
    _show(result, repeated)
    return ExitCode.OK


def repeating_command(command: str, arguments: Sequence[str]) -> str:
    """The shell command that does the same in a new folder.

    >>> repeating_command("finetune", ["--seed", "1", "--out", "runs/a", "--resume"])
    'bertjax finetune --seed 1'

    Several seeds, and the sizes of a learning curve, are left out, because the command may repeat one of them.

    >>> repeating_command("finetune", ["--seeds", "0", "1", "--epochs", "2"])
    'bertjax finetune --epochs 2'
    """
    words = list(arguments)
    if "--out" in words:
        place = words.index("--out")
        del words[place : place + 2]
    for several in ("--seeds", "--learning-curve"):
        if several in words:
            place = words.index(several)
            values = itertools.takewhile(str.isdecimal, words[place + 1 :])
            del words[place : place + 1 + len(list(values))]
    once = ("--resume", "--overwrite", "--allow-changed", "--stack-seeds")
    return shlex.join(["bertjax", command, *(word for word in words if word not in once)])


def _check_seeds(flags: RunFlags, words: Sequence[str]) -> None:
    """Raises a `ConfigError` where `--seeds` or `--learning-curve` contradicts other flags."""
    if flags.learning_curve is not None:
        if flags.stack_seeds or flags.workers.num_workers:
            raise ConfigError("--learning-curve runs one after the other; leave --stack-seeds and --num-workers out")
        if flags.resume and flags.out is None:
            raise ConfigError("--resume needs --out, the folder of the runs to continue")
    if flags.seeds is None:
        if flags.stack_seeds:
            raise ConfigError("--stack-seeds needs --seeds, the seeds to train side by side")
        return
    if is_given("seed", words):
        raise ConfigError("--seed and --seeds exclude each other; give one of them")
    if flags.workers.num_workers:
        raise ConfigError("--seeds are run in this process, and --num-workers share a single run; give one of them")
    if flags.resume and flags.out is None:
        raise ConfigError("--resume needs --out, the folder of the runs to continue")


def _run_seeds(
    config: FineTuneConfig,
    seeds: Sequence[int],
    stack: bool,
    out: Path,
    policy: IfExists,
    command: str,
    stop: StopSignal,
) -> int:
    from bertjax.metrics.aggregate import aggregate_table
    from bertjax.report_pages.text_table import print_table
    from bertjax.training.loop.progress import progress_for_stderr
    from bertjax.training.multi.multi_seed import finetune_seeds

    result = finetune_seeds(
        config,
        seeds,
        out,
        stack=stack,
        if_exists=policy,
        command=command,
        new_progress=progress_for_stderr,
        should_stop=stop,
    )
    print_table(aggregate_table(f"{len(result.runs)} seeds", result.scores))
    say(f"the runs and their models are in {result.folder}")
    for seed, error in result.failures.items():
        complain(f"seed {seed} failed: {error}")
    return ExitCode.FAILED if result.failures else ExitCode.OK


def _run_curve(
    config: FineTuneConfig,
    sizes: Sequence[int],
    seeds: Sequence[int] | None,
    out: Path,
    policy: IfExists,
    command: str,
    stop: StopSignal,
) -> int:
    from bertjax.report_pages.section_text import print_section
    from bertjax.training.loop.progress import progress_for_stderr
    from bertjax.training.multi.learning_curve import CURVE, finetune_curve

    result = finetune_curve(
        config,
        sizes,
        (config.seed,) if seeds is None else seeds,
        out,
        if_exists=policy,
        command=command,
        new_progress=progress_for_stderr,
        should_stop=stop,
    )
    print_section(result.finding.section)
    say(f"the runs and their models are in {result.folder}, all scores in {CURVE} there")
    if result.diverged:
        complain(f"{len(result.diverged)} of the runs diverged")
    return ExitCode.FAILED if result.diverged else ExitCode.OK


def _show(result: "FineTuneResult", command: str) -> None:
    from bertjax.evaluation.run_report import console_table
    from bertjax.evaluation.simple_models.beside_settings import BESIDE
    from bertjax.report_pages.section_text import print_section
    from bertjax.report_pages.text_table import print_table
    from bertjax.training.run.environment import with_variables

    print_table(console_table(result.report, "test"))
    for finding in result.findings:
        if finding.section.anchor == BESIDE:
            print_section(finding.section)
    say(f"{_speed_line(result.metrics)}; run and model are in {result.folder}")
    say(f"the same again: {with_variables(command)}")


def _speed_line(metrics: Mapping[str, float]) -> str:
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
