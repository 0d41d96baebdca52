"""The folder of a run: whether a run may write into it, and its small files.

config.json     the settings, written first: a folder that has it holds a run
environment.json  what each start of the run ran on, and the command that repeats it
checkpoints/    the newest training states, and the best
model/          the fine-tuned model, self-contained
contract.json   the findings of the data contract, where the run has one
tracking.jsonl  the tracked events, and how many of them the store has
metrics.json    flat metrics, written last: a folder that has it holds a finished run
made_from.json  the fingerprints of that run, see `made_from`
report.html     the same as a page

Several seeds have a folder each, `seed-0/` and so on; the folder around them has their mean and standard deviation.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from bertjax.errors import RunFolderError
from bertjax.settings import differences, flatten
from bertjax.storage.atomic_write import write_json
from bertjax.tracking import event_log
from bertjax.training.run.environment import package_versions
from bertjax.training.settings.finetune_config import FineTuneConfig, of_this_version

logger = logging.getLogger(__name__)

CONFIG, METRICS, REPORT, MODEL, CHECKPOINTS = "config.json", "metrics.json", "report.html", "model", "checkpoints"
CONTRACT, ENVIRONMENT, MADE_FROM = "contract.json", "environment.json", "made_from.json"

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
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file; --out must be a folder")
    if if_exists in RESUMES:
        check_unchanged(folder, stored_settings(folder), settings, if_exists)
    elif folder.exists() and any(folder.iterdir()):
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


def open_folder(folder: Path, settings: Mapping[str, Any], resumes: bool, environment: Mapping[str, Any]) -> None:
    """Prepares the folder of a run that `check_folder` allowed; the files of an overwritten run go.

    The environment of this start, and its package versions, are added to those of earlier starts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not resumes:
        for name in (METRICS, REPORT, CONTRACT, ENVIRONMENT, event_log.FILE, CONFIG):
            (folder / name).unlink(missing_ok=True)
        for path in (folder / CHECKPOINTS, folder / MODEL, *folder.glob("seed-*")):
            shutil.rmtree(path, ignore_errors=True)
    write_json(folder / CONFIG, settings)
    earlier = folder / ENVIRONMENT
    starts = json.loads(earlier.read_text(encoding="utf-8"))["starts"] if earlier.is_file() else []
    write_json(earlier, {"starts": [*starts, {**environment, "packages": package_versions()}]})


def stored_settings(folder: Path) -> dict[str, Any]:
    """The flat settings of the run in a folder.

    Raises:
      RunFolderError: it holds none.
    """
    try:
        stored: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{folder} holds no run to resume (it has no {CONFIG})") from None
    except json.JSONDecodeError as error:
        raise RunFolderError(f"{folder / CONFIG} is not valid JSON: {error}") from None
    return of_this_version(stored)


def check_unchanged(folder: Path, stored: Mapping[str, Any], present: Mapping[str, Any], if_exists: IfExists) -> None:
    """Checks that a run is resumed with the settings and data that it was started with.

    Raises:
      RunFolderError: something has changed and `if_exists` is not "resume_changed"; the message names the keys.
    """
    changes = changed(stored, present)
    if not changes:
        return
    if if_exists != "resume_changed":
        raise RunFolderError(
            f"{folder} was started with other settings or data: {'; '.join(changes)}; --allow-changed continues anyway"
        )
    logger.warning("continuing though something has changed: %s", "; ".join(changes))


def changed(stored: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """What is not the same in the fingerprints of a run as it was made and as it would be made now, a clause each."""
    # A setting that an earlier version did not have is at its default there; another fingerprint is not known.
    defaults = {key: value for key, value in flatten(FineTuneConfig()).items() if key in present}
    known = {**defaults, **stored}
    return differences(known, {key: value for key, value in present.items() if key in known})
