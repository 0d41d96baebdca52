"""`--out` of the commands that write a folder in one step."""

from pathlib import Path

from bertjax.errors import RunFolderError


def check_replaceable(out: Path, overwrite: bool) -> None:
    """Whether a folder may be written there, in the place of what is there.

    Raises:
      RunFolderError: it is a file, or holds something that nobody said may go.
    """
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"--out {out} is a file; give a folder")
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise RunFolderError(f"--out {out} is not empty; --overwrite replaces it")
