"""Exit statuses of the command `bertjax`."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a status says to a shell or a scheduler. A job that a signal stopped ends with `SIGNALLED` + its number."""

    OK = 0
    FAILED = 1  # the command ran, but some of its runs failed, or a bound is broken
    USAGE = 2  # the user can mend it; one line on stderr says how
    SIGNALLED = 128
    INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT, as shells have it
