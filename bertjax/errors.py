"""Errors that a user can cause; each message says in one line what is wrong and how to fix it.

All derive from `UserError`. The command line prints the message on stderr and exits with status 2; from Python it is an
ordinary exception. A message names what was found, then what would work.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(ValueError):
    """Something the user can mend; the message is one line that says how."""


class DataError(UserError):
    """A table that cannot be read, or whose rows cannot be trained on."""


class CheckpointError(UserError):
    """Weights that do not fit the network; the message lists every mismatch at once."""


class ConfigError(UserError):
    """A setting that is unknown, out of range, or contradicts another."""


def check_interpreter() -> None:
    """Checks that Python runs assert statements: Haiku makes the paths of parameters in one.

    Raises:
      ConfigError: it was started with -O, or PYTHONOPTIMIZE is set.
    """
    if not __debug__:
        raise ConfigError("python -O (PYTHONOPTIMIZE) leaves out statements that Haiku needs; run without it")


class AssetError(UserError):
    """A model or data set that cannot be fetched, or whose hash differs from the catalog's."""


class RunFolderError(UserError):
    """An output folder that already holds a run, or does not hold the one to resume."""


class FolderInUse(RunFolderError):
    """An output folder that another process is writing."""


class BatchError(UserError):
    """A batch that the network cannot take: an index out of range, or no tokens."""


class WorkerError(UserError):
    """Workers of a run died, and starting them again did not help."""


class DiskError(UserError):
    """A file or folder that the system does not let us write: a full disk, a missing permission."""


class Stopped(UserError):
    """Work that was asked to stop and can be resumed."""


class Interrupted(Stopped):
    """A run that was asked to stop and can be resumed.

    Attributes:
      saved_step: of the newest checkpoint; None where not even one could be saved.
    """

    def __init__(self, step: int, total_steps: int, saved_step: int | None):
        unsaved = "" if saved_step == step else f" (the newest checkpoint: {saved_step or 'none'})"
        super().__init__(f"stopped after step {step} of {total_steps}{unsaved}")
        self.saved_step = saved_step


class Diverged(UserError):
    """Too many steps in a row had a loss or gradient that is not finite; the checkpoints before them are good."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it has none.

    >>> first_line(ValueError("no such run\\nat line 3")), first_line(KeyError())
    ('no such run', 'KeyError')
    """
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def writing(path: Path, remedy: str) -> Iterator[None]:
    """Turns an `OSError` while writing below `path` into one line that ends with `remedy`.

    Raises:
      DiskError: the block ended with an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror or error}; {remedy}") from error
