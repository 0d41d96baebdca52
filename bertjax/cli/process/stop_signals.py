"""What SIGTERM does to a job with no state of its own to save: it ends in order, as at Ctrl-C, with its own status."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bertjax.cli.process.exit_codes import ExitCode

TERMINATED = ExitCode.SIGNALLED + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """The end of a job that SIGTERM interrupted."""


class SigtermAsCtrlC:
    """Turns SIGTERM into SIGINT from now on: Ray ends its jobs in order at the one only.

    Attributes:
      received: whether SIGTERM came.
    """

    def __init__(self) -> None:
        self.received = False
        signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        self.received = True
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started by a script, in the background
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGINT)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[SigtermAsCtrlC]:
    """A block that SIGTERM ends as Ctrl-C does, with `Terminated` for a `KeyboardInterrupt`."""
    sigterm = SigtermAsCtrlC()
    try:
        yield sigterm
    except KeyboardInterrupt:
        if sigterm.received:
            raise Terminated from None
        raise
