"""A real MLflow server to stop and start."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import free_port, user_environment


class Server:
    """`mlflow server` on a free port of the loopback interface, on a sqlite database."""

    def __init__(self, folder: Path):
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        variables = user_environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", MLFLOW_DISABLE_TELEMETRY="true")
        variables.pop("MLFLOW_TRACKING_URI", None)
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self._folder}/server.db",
            "--artifacts-destination", str(self._folder / "artifacts"),
        ]  # fmt: skip
        log = (self._folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            command,
            env=variables,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        for _ in range(600):
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self._folder / "server.log").read_text())

    def stop(self) -> None:
        """Ends it and its workers, as a machine that goes down would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path, database: Path) -> Iterator[Server]:
    """A running server."""
    shutil.copy(database, tmp_path / "server.db")
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()
