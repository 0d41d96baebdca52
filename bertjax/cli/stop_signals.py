"""What SIGTERM does to a job with no state of its own to save: it ends in order, as at Ctrl-C, with its own status."""

import signal
from typing import Any, NoReturn

from bertjax.cli.exit_codes import ExitCode


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where Ctrl-C would be, so that whatever ends in order at the one does at the other."""


TERMINATED = ExitCode.SIGNALLED + signal.SIGTERM


def raise_at_sigterm() -> None:
    """Makes SIGTERM raise `Terminated` from now on."""

    def terminate(number: int, frame: Any) -> NoReturn:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
