"""`quiet_mlflow`: MLflow's messages about normal events, such as new tables, do not reach a caller of bertjax.

MLflow logs them to stderr, by settings of the whole process. Those of a user's own calls stay: what is left out is
what the calling thread does for bertjax.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_here = threading.local()


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """A context in which MLflow, called by this thread, logs warnings and errors alone, and shows no progress bars,
    unless `MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR` asks for them."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # noqa: F401 (it makes its handlers)

    for handler in logging.getLogger("mlflow").handlers:
        handler.addFilter(_concerns_user)  # once: a filter that is there is not added
    before, _here.is_ours = getattr(_here, "is_ours", False), True
    try:
        yield
    finally:
        _here.is_ours = before


def _concerns_user(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or not getattr(_here, "is_ours", False)
