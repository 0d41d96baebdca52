"""Files and folders that are replaced in one step: readers see the old content or the new, never a part of it."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertjax.errors import writing


def write_text(path: Path, text: str) -> None:
    """Replaces a text file."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replaces a file that holds one JSON object."""
    write_text(path, json.dumps(dict(values), indent=2) + "\n")


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yields a scratch folder that replaces `folder` when the block ends, and is removed if the block fails.

    A process that is killed leaves the old folder or the new one; in the moment between two renames, the old one beside
    its place, under the name of the scratch folder with `old` at its end.

    Raises:
      DiskError: the operating system refuses to write.
    """
    folder = Path(folder).resolve()  # a link stays, and its target is replaced
    with writing(folder, "free some space, or choose another folder"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            yield scratch
            scratch.chmod(0o755)
            _replace(folder, scratch)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def _replace(folder: Path, scratch: Path) -> None:
    """Moves a scratch folder to its final place, replacing an existing folder."""
    if not folder.exists():
        scratch.rename(folder)
        return
    old = scratch.with_name(f"{scratch.name}-old")
    folder.rename(old)
    try:
        scratch.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
