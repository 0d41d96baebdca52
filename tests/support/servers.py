"""`bertjax serve` in a process of its own, and a client that says what it wants on a real socket."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.support.processes import user_environment

READY_SECONDS = 300


class Reply(NamedTuple):
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A running `bertjax serve`.

    Attributes:
      process: it.
      log: the lines that it has written.
      port: where it listens.
    """

    def __init__(self, *flags: str, env: Mapping[str, str] | None = None):
        command = [sys.executable, "-m", "bertjax", "serve", "--port", "0", *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=user_environment(**(env or {})))
        self.log: list[str] = []
        self.port = 0
        self._is_ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not (self._is_ready.wait(READY_SECONDS) and self.port):
            self.process.kill()
            raise AssertionError(self.log)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))
            if found := re.match(r"ready on http://[\d.]+:(\d+) ", line):
                self.port = int(found[1])
                self._is_ready.set()
        self._is_ready.set()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Sends a request; a body that is no bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, content, {"Content-Type": "application/json", **fields})
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        return self.ask("POST", path, body, **headers)

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}(\{{.*\}})? ", line))

    @contextmanager
    def connected(self, sent: bytes = b"") -> Iterator[socket.socket]:
        """A connection on which some bytes were sent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(sent)
            yield connection

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal, and waits for the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(60)
        self._reader.join(10)
        return status


@contextmanager
def serving(*flags: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server for the time of a block; killed at its end if it is still there."""
    server = Server(*flags, env=env)
    try:
        yield server
    finally:
        server.process.kill()
        server.wait()
        assert server.process.stderr is not None
        server.process.stderr.close()


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)
