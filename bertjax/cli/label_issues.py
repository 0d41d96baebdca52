"""`bertjax label-issues`: doubtful labels of a training table, by models that did not see them."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertjax.cli.finetune import StopSignal, repeating_command
from bertjax.cli.flags.job_flags import if_exists, parse_job
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain, say
from bertjax.errors import ConfigError, Interrupted
from bertjax.settings import ShareBelowOne

_HIDDEN = ("data.test", "data.test_size", "data.split", "data.group", "data.time", "data.fold", "register",
           "data.label_probabilities", "data.reader", "judging.intervals", "judging.automatic_slices",
           "judging.label_issues", "judging.explain", "distillation.teacher", "distillation.teacher_weight",
           "distillation.teacher_temperature", "distillation.teacher_layers",
           "distillation.teacher_layers_weight")  # fmt: skip
_CHANGES = {name: {"text": None} for name in _HIDDEN} | {
    "data.folds": {"text": "Parts of the rows; each is judged by a model that was trained on the others."},
    "data.split_seed": {"text": "Seed by which rows are dealt into folds."},
}


@dataclass(frozen=True)
class LabelIssuesFlags:
    """Find the labels of a training table that are probably wrong.

    The rows are dealt into --folds parts, and a model is trained for each on the others; the flags are those of
    finetune. Confident learning (cleanlab) compares what each model says of rows that it has not seen with their
    labels. --write-clean writes the table without the doubtful rows.
    """

    out: Path | None = None
    """Folder to write; default: a new one under runs/."""

    resume: bool = False
    """Go on with the folds in --out: those that have ended are kept."""

    overwrite: bool = False
    """Replace the folds in --out, and the file of --write-clean."""

    write_clean: Path | None = None
    """File to write the table to, without the rows whose labels are doubtful; what was left out and why is in a file
    `.dropped.jsonl` beside it."""

    drop_share: ShareBelowOne | None = None
    """Share of the judged rows that --write-clean leaves out, the most doubtful ones; default: the rows whose label
    confident learning takes for wrong."""


def main(arguments: Sequence[str]) -> int:
    """Prints what was found."""
    config, flags = parse_job(LabelIssuesFlags, arguments, "bertjax label-issues", _CHANGES)
    if flags.drop_share is not None and flags.write_clean is None:
        raise ConfigError("--drop-share needs --write-clean, the file to write the other rows to")
    from bertjax.cross_validation.clean_table import write_without_suspects
    from bertjax.cross_validation.training_issues import find_training_issues
    from bertjax.eda.write_table import check_cleaned_file
    from bertjax.report_pages.section_text import print_section
    from bertjax.training.loop.progress import progress_for_stderr
    from bertjax.training.run.run_folder import new_folder

    if flags.write_clean is not None:
        check_cleaned_file(flags.write_clean, config.data, flags.overwrite)
    out = flags.out or new_folder(f"{Path(config.data.train).name.split('.')[0] or 'table'}-label-issues")
    policy = if_exists(flags.resume, flags.overwrite)
    with StopSignal() as stop:
        try:
            found = find_training_issues(
                config,
                out,
                if_exists=policy,
                command=repeating_command("label-issues", arguments),
                new_progress=progress_for_stderr,
                should_stop=stop,
            )
        except Interrupted as interruption:
            complain(f"{interruption}; --resume --out {out} with the same flags continues it")
            preempted = stop.number == signal.SIGTERM and interruption.saved_step is not None
            return ExitCode.OK if preempted else ExitCode.SIGNALLED + stop.number
    print_section(found.finding.section)
    say(f"all of it is in {out}")
    if flags.write_clean is not None:
        left_out = write_without_suspects(flags.write_clean, found, flags.drop_share)
        say(f"{len(found.frame) - left_out} rows are in {flags.write_clean}, without {left_out} doubtful ones")
    return ExitCode.OK
