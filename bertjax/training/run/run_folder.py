"""The folder of a run: whether a run may write into it, and its small files.

config.json     the settings, written first: a folder that has it holds a run
environment.json  what each start of the run ran on, and the command that repeats it
checkpoints/    the newest training states, and the best
model/          the fine-tuned model, self-contained
adapter/        its adapters, where it was trained with some, as peft loads them
contract.json   the findings of the data contract, where the run has one
tracking.jsonl  the tracked events, and how many of them the store has
metrics.json    flat metrics, written last: a folder that has it holds a finished run
made_from.json  the fingerprints of that run, see `made_from`
report.html     the same as a page, and report.md for a pull request; charts/ has its pictures where they are tracked
slices.json     the rows of each slice of the test rows; label_issues.jsonl and explanations.jsonl where asked for

Several seeds have a folder each, `seed-0/` and so on; the folder around them has their mean and standard deviation.
"""

import logging
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from bertjax.errors import RunFolderError
from bertjax.evaluation.label_issues.flags import LABEL_ISSUES
from bertjax.evaluation.look_settings import EXPLANATIONS
from bertjax.evaluation.slices.slice_settings import SLICES
from bertjax.report_pages.blocks import CHARTS, MARKDOWN, REPORT
from bertjax.storage.atomic_write import write_json
from bertjax.storage.folder_lock import check_is_folder, contents
from bertjax.storage.small_files import read_numbers, read_object
from bertjax.tracking import event_log
from bertjax.tracking.event_log import EventLog
from bertjax.training.run.environment import package_versions
from bertjax.training.settings.finetune_config import FineTuneConfig, of_this_version
from bertjax.training.settings.resume_rules import changes_between, check_changes

logger = logging.getLogger(__name__)

CONFIG, METRICS, MODEL, ADAPTER, CHECKPOINTS = "config.json", "metrics.json", "model", "adapter", "checkpoints"
CONTRACT, ENVIRONMENT, MADE_FROM = "contract.json", "environment.json", "made_from.json"

_FOUND = (SLICES, LABEL_ISSUES, EXPLANATIONS)
_FILES = (CONFIG, METRICS, MADE_FROM, REPORT, MARKDOWN, *_FOUND, CONTRACT, ENVIRONMENT, event_log.FILE)
_PARTS = {*_FILES, MODEL, ADAPTER, CHECKPOINTS, CHARTS}
_SEED = re.compile(r"seed-\d+")
# What a write that was killed leaves.
_SCRATCH = re.compile(rf"\.({MODEL}|{ADAPTER})-\w+(-old)?|\.({'|'.join(map(re.escape, _FILES))})\.tmp")

IfExists = Literal["error", "resume", "resume_changed", "overwrite"]
"""What to do with a run that is in the folder; "resume_changed" continues it with other settings, rows or weights."""

RESUMES: tuple[IfExists, ...] = ("resume", "resume_changed")


def default_folder(config: FineTuneConfig) -> Path:
    """`runs/TIME-DATA-MODEL`; see `new_folder`."""
    return new_folder("-".join(Path(part).name.split(".")[0] for part in (config.data.train, config.model)))


def new_folder(stem: str) -> Path:
    """`runs/TIME-STEM`, with a number at the end where that exists; the folder is not made."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{stem}"
    candidates = (Path("runs") / (name if i == 0 else f"{name}-{i}") for i in range(1000))
    return next(folder for folder in candidates if not folder.exists())


def check_folder(folder: Path, settings: Mapping[str, Any], if_exists: IfExists) -> None:
    """Checks that a run of these flat settings may be written to a folder; changes nothing.

    Raises:
      RunFolderError: the folder holds another run, files that are no run, or nothing to resume.
    """
    check_is_folder(folder)
    if if_exists in RESUMES:
        check_changes(folder, changes_between(stored_settings(folder), settings), if_exists == "resume_changed")
    elif contents(folder):
        if not (folder / CONFIG).is_file():
            raise RunFolderError(f"{folder} holds files that are no run; choose another --out")
        if if_exists != "overwrite":
            raise RunFolderError(
                f"{folder} already holds a run; continue it with --resume, replace it with --overwrite, or choose "
                f"another --out"
            )


def has_checkpoint(folder: Path) -> bool:
    """Whether the run in a folder has a checkpoint to resume from."""
    return any(path.name.isdecimal() for path in (folder / CHECKPOINTS).glob("*"))


def seed_folder(folder: Path, seed: int) -> Path:
    """The folder of one seed, in a folder of several."""
    return folder / f"seed-{seed}"


def belongs_to_run(name: str) -> bool:
    """Whether an entry of a run folder is part of the run, or of several seeds' runs; all else there is the user's.

    >>> belongs_to_run("seed-12"), belongs_to_run("seed-words.txt"), belongs_to_run(".model-x1y2")
    (True, False, True)
    """
    return name in _PARTS or any(pattern.fullmatch(name) for pattern in (_SEED, _SCRATCH))


def write_start(folder: Path, settings: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
    """Writes the settings of a run, and adds the environment of this start to those of earlier ones."""
    starts = earlier_starts(folder)
    write_json(folder / CONFIG, settings)
    write_json(folder / ENVIRONMENT, {"starts": [*starts, {**environment, "packages": package_versions()}]})


def mark_unfinished(folder: Path) -> None:
    """A run that trains on is not finished until it has written its results again."""
    for name in (METRICS, MADE_FROM):
        (folder / name).unlink(missing_ok=True)


def earlier_starts(folder: Path) -> list[dict[str, Any]]:
    """The environment of each earlier start of the run in a folder.

    Raises:
      RunFolderError: the file of them is damaged.
    """
    path = folder / ENVIRONMENT
    remedy = "move it away: the run goes on, and the record of what its earlier starts ran on begins anew"
    stored = read_object(path, remedy)
    starts = [] if stored is None else stored.get("starts")
    if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
        raise RunFolderError(f"{path} must hold a list of starts; {remedy}")
    return starts


def read_metrics(folder: Path) -> dict[str, float] | None:
    """The metrics of the finished run in a folder; None where it has not finished.

    Raises:
      RunFolderError: they are damaged.
    """
    return read_numbers(folder / METRICS, "restore it, or move it away and --resume the run, which writes it again")


def check_resumable(folder: Path) -> None:
    """Checks that all files of a run that its next start reads can be read, and that it has not lost its checkpoints.

    Raises:
      RunFolderError: one is damaged, or a finished run has no checkpoint, from which alone it could go on.
    """
    earlier_starts(folder)
    if read_metrics(folder) is not None and not has_checkpoint(folder):
        raise RunFolderError(
            f"{folder} holds a finished run without a checkpoint to go on from; replace it with --overwrite, or choose "
            f"another --out"
        )


def trained_steps(folder: Path) -> int:
    """The steps that the run in a folder has trained by its event log; 0 where it has none."""
    return max(0, EventLog(folder / event_log.FILE).last_step("train/loss"))


def stored_settings(folder: Path) -> dict[str, Any]:
    """The flat settings of the run in a folder.

    Raises:
      RunFolderError: it holds none, or they are damaged.
    """
    stored = read_object(folder / CONFIG, "restore it, or choose another --out")
    if stored is None:
        raise RunFolderError(f"{folder} holds no run to resume (it has no {CONFIG})")
    return of_this_version(stored)
