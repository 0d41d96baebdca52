"""The thread that uploads an event log to a store: training never waits for it, and no event is lost if it is down."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

from bertjax.errors import first_line
from bertjax.tracking.event_log import Event, EventLog

logger = logging.getLogger(__name__)

_MAX_EVENTS = 200  # in one upload
_FIRST_WAIT_SECONDS = 0.5  # after a failure; doubles with each further one
_LONGEST_WAIT_SECONDS = 30.0
_REFUSALS_SHOWN = 3  # in a warning
_POLL_SECONDS = 0.2  # between the looks of `drain` at the thread


class Refusal(NamedTuple):
    """A record that a store will never take.

    Attributes:
      record: what it is, such as "metric 'loss'".
      reason: the store's, in one line.
      event: the event, or the part of it, that is refused.
    """

    record: str
    reason: str
    event: Event


# (events, may_repeat) -> what the store refuses; see `Uploader`.
Sink = Callable[[Sequence[Event], bool], Sequence[Refusal]]


class Uploader:
    """Uploads the events of a log, the oldest first, and marks them as sent.

    `sink(events, may_repeat)` puts events into the store, or raises an exception and is called again later.
    `may_repeat` says that the store may have some of these events: an earlier attempt ended without an answer. What it
    returns is set aside in the log and named in a warning: one bad record holds back no other one, nor the run's end.

    Attributes:
      failure: why the last attempt failed; None after a success.
    """

    def __init__(self, log: EventLog, sink: Sink, seconds_between_uploads: float):
        self.failure: str | None = None
        self._log = log
        self._sink = sink
        self._seconds_between = seconds_between_uploads
        self._warned: set[str] = set()  # records of which a refusal was reported
        self._failures = 0  # in a row; while draining, since `drain` was called
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bertjax-tracking", daemon=True)
        self._thread.start()

    def drain(self, patience_seconds: float, is_up: Callable[[], bool]) -> bool:
        """Uploads everything and ends the thread, or gives up on a store that accepts nothing.

        Args:
          patience_seconds: how long to wait for a store that is down; one that accepts events may take any time.
          is_up: whether the store answers; called while an attempt is under way.

        Returns:
          Whether the store has everything.
        """
        self._failures = 0
        self._closing.set()
        deadline = time.monotonic() + patience_seconds
        while self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)
            if time.monotonic() > deadline and (self._failures > 1 or not is_up()):
                self._abandoned.set()
                return False
        return True

    def _work(self) -> None:
        may_repeat = True  # an earlier process may have been killed between its upload and `mark_sent`
        while not self._abandoned.is_set():
            events, end = self._log.pending(_MAX_EVENTS)
            if not events:
                if self._closing.is_set():
                    return
                self._closing.wait(self._seconds_between)
                continue
            try:
                refusals = self._sink(events, may_repeat)
            # Each store raises exceptions of its own, and none of them may end a run.
            except Exception as error:
                self._handle_failure(error)
                may_repeat = True
                continue
            if self.failure is not None:
                logger.info("tracking: the store takes records again")
            self.failure, self._failures, may_repeat = None, 0, False
            self._set_aside(refusals)
            self._log.mark_sent(end)
            if not self._closing.is_set() and len(events) < _MAX_EVENTS:
                self._closing.wait(self._seconds_between)  # fewer and larger requests

    def _set_aside(self, refusals: Sequence[Refusal]) -> None:
        """Keeps refused records in the log, and reports those that are new, in one line."""
        for refusal in refusals:
            self._log.record_refusal(refusal.record, refusal.reason, refusal.event)
        reasons = {refusal.record: refusal.reason for refusal in refusals if refusal.record not in self._warned}
        self._warned |= reasons.keys()
        if reasons:
            shown = "; ".join(f"{record} ({reason})" for record, reason in islice(reasons.items(), _REFUSALS_SHOWN))
            more = f" and {len(reasons) - _REFUSALS_SHOWN} more" if len(reasons) > _REFUSALS_SHOWN else ""
            logger.warning(
                "tracking: the store refuses %s%s; set aside in %s, all else is recorded", shown, more, self._log.path
            )

    def _handle_failure(self, error: Exception) -> None:
        """Logs the first failure in a row, and waits before the next attempt."""
        reason = first_line(error)
        if self.failure is None:
            logger.warning("tracking: %s; the run goes on and keeps its records in %s", reason, self._log.path)
        wait_seconds = min(_FIRST_WAIT_SECONDS * 2**self._failures, _LONGEST_WAIT_SECONDS)
        self.failure, self._failures = reason, self._failures + 1
        if self._closing.is_set():
            time.sleep(_FIRST_WAIT_SECONDS)
        else:
            self._closing.wait(wait_seconds)
