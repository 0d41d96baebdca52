"""Recognises what a file really is if not what its name says: a Git LFS pointer, a web page, empty."""

from pathlib import Path

# The first line of every pointer (git-lfs, docs/spec.md); a clone without Git LFS has them in the files' place.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_WEB_PAGES = (b"<!doctype html", b"<html")


def file_fault(path: Path) -> str | None:
    """Why a file cannot hold what it should, with the way to get the real one; None where nothing is known."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(_LFS_POINTER):
        return "is a pointer of Git LFS, not the file itself; fetch it with: git lfs pull"
    if not start:
        return "is empty; fetch it again"
    if start.lstrip().lower().startswith(_WEB_PAGES):
        return "is a web page, saved in the place of the file; fetch the file itself"
    return None
