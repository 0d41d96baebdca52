"""The check of `--out` for commands that write a folder in one step."""

from pathlib import Path

from bertjax.errors import RunFolderError


def check_replaceable(out: Path, overwrite: bool) -> None:
    """Checks that a folder may be written, in place of the one there.

    Raises:
      RunFolderError: it is a file, or not empty and `overwrite` is false.
    """
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"--out {out} is a file; give a folder")
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise RunFolderError(f"--out {out} is not empty; --overwrite replaces it")
