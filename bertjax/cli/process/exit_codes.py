"""Exit statuses of the command `bertjax`."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The statuses, for shells and schedulers. A job that a signal stopped ends with `SIGNALLED` + its number."""

    OK = 0
    FAILED = 1  # the command ran, but some of its runs failed, or a bound is broken
    USAGE = 2  # a mistake of the user, explained in one line on stderr
    SIGNALLED = 128
    INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT, as shells have it; SIGTERM: 143
