"""The thread between a journal and a store: training never waits, and a store that is down loses nothing."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from bertjax.tracking.event_log import Event, EventLog

logger = logging.getLogger(__name__)

_EVENTS_A_BATCH = 200
_FIRST_WAIT_SECONDS = 0.5  # after a failure; doubles with each further one
_LONGEST_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.2  # how often `drain` looks whether the thread is done

Deliver = Callable[[Sequence[Event], bool], None]


class Uploader:
    """Sends what a journal holds, oldest first, and acknowledges it there.

    `deliver(events, unsure)` puts a batch into the store, or raises whatever kept it from doing so and is asked again
    later. `unsure` says that the store may have some of the batch: an earlier attempt ended without an answer.

    Attributes:
      failure: why the last attempt failed; None after one that did not.
    """

    def __init__(self, journal: EventLog, deliver: Deliver, seconds_between_sends: float):
        self.failure: str | None = None
        self._journal = journal
        self._deliver = deliver
        self._seconds_between = seconds_between_sends
        self._failures = 0  # in a row; while draining, since that began
        self._closing = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bertjax-tracking", daemon=True)
        self._thread.start()

    def drain(self, patience_seconds: float, is_up: Callable[[], bool]) -> bool:
        """Sends everything and ends the thread, or gives up on a store that takes nothing.

        Args:
          patience_seconds: how long to wait for one; a store that does take what it gets may take as long as it likes.
          is_up: whether the store answers; asked while an attempt is under way.

        Returns:
          Whether the store has everything.
        """
        self._failures = 0
        self._closing.set()
        deadline = time.monotonic() + patience_seconds
        while self._thread.is_alive():
            self._thread.join(_LOOK_SECONDS)
            if time.monotonic() > deadline and (self._failures > 1 or not is_up()):
                self._given_up.set()
                return False
        return True

    def _work(self) -> None:
        unsure = True  # an earlier process may have been killed after it sent and before it acknowledged
        while not self._given_up.is_set():
            unsent = self._journal.unsent(_EVENTS_A_BATCH)
            if not unsent.events:
                if self._closing.is_set():
                    return
                self._closing.wait(self._seconds_between)
                continue
            try:
                self._deliver(unsent.events, unsure)
            # Each store raises exceptions of its own, and none of them may end a run.
            except Exception as error:
                self._fail(error)
                unsure = True
                continue
            if self.failure is not None:
                logger.info("tracking: the store takes records again")
            self.failure, self._failures, unsure = None, 0, False
            self._journal.acknowledge(unsent.end)
            if not self._closing.is_set() and len(unsent.events) < _EVENTS_A_BATCH:
                self._closing.wait(self._seconds_between)  # fewer and larger requests

    def _fail(self, error: Exception) -> None:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if self.failure is None:
            logger.warning("tracking: %s; the run goes on and keeps its records in %s", reason, self._journal.path)
        wait_seconds = min(_FIRST_WAIT_SECONDS * 2**self._failures, _LONGEST_WAIT_SECONDS)
        self.failure, self._failures = reason, self._failures + 1
        if self._closing.is_set():
            time.sleep(_FIRST_WAIT_SECONDS)
        else:
            self._closing.wait(wait_seconds)
