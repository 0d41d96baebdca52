"""`bertjax compare`: JAX against PyTorch on one job, over several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bertjax.cli.flags.job_flags import if_exists, parse_job
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain, say
from bertjax.cli.process.stop_signals import sigterm_as_ctrl_c
from bertjax.settings import Seed


@dataclass(frozen=True)
class CompareFlags:
    """Train the same job in several frameworks, over several seeds, and compare scores, losses, speed and memory.

    All start from the same weights, head included. jax and torch see the same examples in every update, with the same
    loss and optimizer; trainer is transformers' own Trainer as it comes, trainer-grouped the same with batches of
    similar length; onnx answers with the weights that jax has trained.
    """

    seeds: tuple[Seed, ...] = (0, 1, 2, 3, 4)
    """Seeds of the head's initialisation, the order of examples, and dropout; every framework runs each of them."""

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

    allow_changed: bool = False
    """Resume though settings, rows, weights or versions have changed: the runs that were made from others run again."""

    keep_models: bool = False
    """Leave each trained model in the folder of its run."""


def main(arguments: Sequence[str]) -> int:
    """Runs the comparison and prints its table."""
    hidden = {"seed": {"text": None}}
    config, flags = parse_job(CompareFlags, arguments, "bertjax compare", hidden)
    from bertjax.baselines.compare.comparison import compare
    from bertjax.baselines.compare.comparison_report import console_table, speed_sentence
    from bertjax.report_pages.text_table import print_table
    from bertjax.stage_progress import stages_for_stderr
    from bertjax.training.run.run_folder import new_folder

    if flags.dropout == "off":
        config = replace(config, dropout_rate=0.0)
    out = flags.out or new_folder("compare")
    with sigterm_as_ctrl_c():  # which ends the process of a run, too
        summary = compare(
            config,
            flags.frameworks,
            flags.seeds,
            out,
            if_exists=if_exists(flags.resume, flags.overwrite, flags.allow_changed),
            keep_models=flags.keep_models,
            progress=stages_for_stderr(),
        )
    print_table(console_table(summary), width_of_a_log=140)
    for sentence in filter(None, map(speed_sentence, summary.pairs)):
        say(sentence)
    say(f"{len(summary.sides)} frameworks; the report is {out / 'report.html'}")
    for failure in summary.failures:
        name = f"{failure.framework}, seed {failure.seed}"
        complain(f"{name} failed: {failure.error}; --resume --out {out} with the same flags runs it again")
    return ExitCode.FAILED if summary.failures else ExitCode.OK
