"""The frame of a tracked run: connected before anything is written, finished with a status whatever happens."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bertjax.errors import Stopped
from bertjax.tracking.tracker import Status, Tracker


@dataclass
class TrackedRun:
    """A run and its tracker.

    Attributes:
      tracker: connected.
      status: the status of the run when the block ends without an error.
    """

    tracker: Tracker
    status: Status = "FINISHED"


@contextmanager
def tracked_run(tracker: Tracker) -> Iterator[TrackedRun]:
    """Connects a tracker, and finishes it: KILLED when the work was stopped, FAILED after any other error.

    Raises:
      ConfigError: the tracker's store cannot be reached.
    """
    run = TrackedRun(tracker)
    try:
        tracker.connect()
        yield run
    except (Stopped, KeyboardInterrupt):
        run.status = "KILLED"
        raise
    except BaseException:
        run.status = "FAILED"
        raise
    finally:
        tracker.finish(run.status)
