"""The folder of a run: who may write into it, and the small files that stand in it.

config.json     the settings, written first: a folder that has it holds a run
environment.json  what each start of the run ran on, and the command that repeats it
checkpoints/    the newest training states, and the best
model/          the fine-tuned model, self-contained
contract.json   what the tables promised and whether it holds; where the run has a contract
tracking.jsonl  what the tracker was told, and how much of it the store has
metrics.json    flat metrics, written last: a folder that has it holds a finished run
report.html     the same for people

Where several seeds were run, `seed-0/` and so on are such folders, and the one around them has what they say together.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bertjax.errors import RunFolderError
from bertjax.settings import differences
from bertjax.storage.atomic_write import write_json
from bertjax.tracking import event_log
from bertjax.training.settings.finetune_config import FineTuneConfig, with_current_names

logger = logging.getLogger(__name__)

CONFIG, METRICS, REPORT, MODEL, CHECKPOINTS = "config.json", "metrics.json", "report.html", "model", "checkpoints"
CONTRACT, ENVIRONMENT = "contract.json", "environment.json"


def default_folder(config: FineTuneConfig) -> Path:
    """`runs/TIME-DATA-MODEL`; see `new_folder`."""
    return new_folder("-".join(Path(part).name.split(".")[0] for part in (config.data.train, config.model)))


def new_folder(stem: str) -> Path:
    """`runs/TIME-STEM`, with a number at the end where that exists; the folder is not made."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{stem}"
    candidates = (Path("runs") / (name if i == 0 else f"{name}-{i}") for i in range(1000))
    return next(folder for folder in candidates if not folder.exists())


def check_folder(
    folder: Path, settings: Mapping[str, Any], resume: bool, overwrite: bool, allow_changed: bool = False
) -> None:
    """Whether a run of these flat settings may be written there. Changes nothing.

    Raises:
      RunFolderError: the folder holds another run, files that are no run, or nothing to resume.
    """
    if resume and overwrite:
        raise RunFolderError("--resume continues a run and --overwrite deletes it; give one of them")
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file; --out must be a folder")
    if resume:
        check_unchanged(folder, stored_settings(folder), settings, allow_changed)
    elif folder.exists() and any(folder.iterdir()):
        if not (folder / CONFIG).is_file():
            raise RunFolderError(f"{folder} holds files that are no run; choose another --out")
        if not overwrite:
            raise RunFolderError(
                f"{folder} already holds a run; continue it with --resume, replace it with --overwrite, or choose "
                f"another --out"
            )


def has_checkpoint(folder: Path) -> bool:
    """Whether a run in the folder has come so far that it can be resumed."""
    return any(path.name.isdecimal() for path in (folder / CHECKPOINTS).glob("*"))


def seed_folder(folder: Path, seed: int) -> Path:
    """The run of one seed, where a folder holds several."""
    return folder / f"seed-{seed}"


def open_folder(folder: Path, settings: Mapping[str, Any], resume: bool, environment: Mapping[str, Any]) -> None:
    """Makes the folder ready for a run that `check_folder` let in; an overwritten run's own files go.

    Args:
      folder, settings, resume: as in `check_folder`.
      environment: what this start of the run runs on; it is added to those of earlier starts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        for name in (METRICS, REPORT, CONTRACT, ENVIRONMENT, event_log.FILE, CONFIG):
            (folder / name).unlink(missing_ok=True)
        for path in (folder / CHECKPOINTS, folder / MODEL, *folder.glob("seed-*")):
            shutil.rmtree(path, ignore_errors=True)
    write_json(folder / CONFIG, settings)
    earlier = folder / ENVIRONMENT
    starts = json.loads(earlier.read_text(encoding="utf-8"))["starts"] if earlier.is_file() else []
    write_json(earlier, {"starts": [*starts, environment]})


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
    return with_current_names(stored)


def check_unchanged(folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any], allow_changed: bool) -> None:
    """Whether a run is continued with what it was started with.

    Raises:
      RunFolderError: it is not, and `allow_changed` is false; the message names the keys that differ.
    """
    different = differences(stored, wanted)
    if not different:
        return
    if not allow_changed:
        raise RunFolderError(
            f"{folder} was started with other settings or data: {'; '.join(different)}; --allow-changed continues "
            f"anyway"
        )
    logger.warning("continuing though something has changed: %s", "; ".join(different))
