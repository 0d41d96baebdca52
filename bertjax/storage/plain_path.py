"""Paths for libraries that take one for a pattern, an address or text: such a library gets an alias without surprises.

A folder may be called `bert [final]`, `50%` or `file:x`. Python's own functions take that as it is. Orbax searches with
`[final]` as a pattern, TensorStore turns a backslash into a slash, epath reads `/s3/bert` as a bucket, MLflow decodes
`%20`. None of them has a way to escape all of these, so they see a symbolic link with a plain name.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLAIN = re.compile(r"[\w.-]([\w. -]*[\w.-])?")  # of a part: letters of any language; a space, but not at the ends
_BUCKETS = (("gs",), ("s3",), ("az",), ("hf",))  # folders of the root that epath takes for a store of that name
_SHARED_SCRATCH = "/tmp"  # where the scratch folder of this process has such a name itself


def is_plain(path: Path) -> bool:
    """Whether every library reads a path as it is written.

    >>> [is_plain(Path(path)) for path in ("/data/bert 2", "/data/[1]", "a%20b", "/s3/bert")]
    [True, False, False, False]
    """
    parts = path.parts[1:] if path.is_absolute() else path.parts
    is_bucket = path.is_absolute() and parts[:1] in _BUCKETS
    return all(map(_PLAIN.fullmatch, parts)) and str(path).isprintable() and not is_bucket


def at_home(path: str) -> Path:
    """The absolute path that a user means, who may write `~` for a home folder; nobody's `~name` is a name.

    >>> at_home("/data/~nobody")
    PosixPath('/data/~nobody')
    """
    return Path(os.path.expanduser(path)).absolute()  # noqa: PTH111  pathlib raises an error where there is no home


@contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """Yields the folder's real path where that is plain, else a symbolic link to it, which goes with the block.

    The link has the folder's own name where that is plain.
    """
    folder = folder.resolve()  # some libraries take `..` for the text before it, whatever a link on the way says
    if is_plain(folder):
        yield folder
        return
    scratch = Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="bertjax-", dir=scratch if is_plain(scratch) else _SHARED_SCRATCH) as own:
        alias = Path(own) / (folder.name if is_plain(Path(folder.name)) else "folder")
        alias.symlink_to(folder, target_is_directory=True)
        yield alias
