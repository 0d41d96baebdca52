"""Use of CPU, memory, disk, network and GPUs during a run, recorded in the event log like any other metric.

The measurements are MLflow's. Its own monitor thread would write to the store directly, and end when the store is down
once.
"""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from bertjax.tracking.event_log import EventLog

logger = logging.getLogger(__name__)

_PREFIX = "system/"  # MLflow shows these metrics on a page of their own
_ALWAYS = f"{_PREFIX}cpu_utilization_percentage"


class SystemMetrics:
    """A thread that measures the machine at intervals; the step of a metric counts the measurements."""

    def __init__(self, log: EventLog, seconds_between: float = 10.0):
        self._log = log
        self._seconds_between = seconds_between
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bertjax-system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Measures once more and ends the thread."""
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            monitors = list(_monitors())
            step = self._log.last_step(_ALWAYS)  # a resumed run continues the count
            is_last = False
            while not is_last:
                is_last = self._stopping.wait(self._seconds_between)
                step += 1
                self._log.record_metrics(_measure(monitors), step, round(time.time() * 1000))
        # A failed measurement must not end a run.
        except Exception:
            logger.debug("no more system metrics", exc_info=True)


def _monitors() -> Iterator[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    for monitor in (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor, ROCMMonitor):
        try:
            yield monitor()
        except (ImportError, RuntimeError, OSError):
            logger.debug("there is nothing for %s to measure", monitor.__name__)


def _measure(monitors: list[Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        values |= {f"{_PREFIX}{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
        monitor.clear_metrics()
    return values
