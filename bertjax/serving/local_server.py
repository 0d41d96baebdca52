"""`serve_local`: runs a service in this process, under uvicorn."""

import asyncio
import json
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bertjax.config import Execution
from bertjax.errors import ConfigError, Stopped
from bertjax.inference.loaded_model import LoadedModel
from bertjax.serving.app import make_app
from bertjax.serving.limits import ServiceSettings
from bertjax.serving.model_slot import read_model
from bertjax.serving.service import Rule, Service

logger = logging.getLogger(__name__)

_LIMITS = ServiceSettings()  # those of `bertjax serve` without flags
_BACKLOG = 2048  # connections that the system holds until they are accepted
_HEAD_SECONDS = 10.0  # in which the head of a request must have come
_HEAD_BYTES = 64 * 1024  # after which it must have ended


def serve_local(
    models: Mapping[str, str],
    settings: ServiceSettings = _LIMITS,
    host: str = "127.0.0.1",
    port: int = 8000,
    rule: Rule | None = None,
    execution: Execution | None = None,
) -> signal.Signals:
    """Serves until SIGTERM or SIGINT, then answers the requests that have come.

    Args:
      models: names -> where each model is; the first one is put in service.
      settings: limits.
      host, port: where to listen; port 0 takes a free one.
      rule: has the last word on predictions.
      execution: how to run the networks.

    Returns:
      The signal.

    Raises:
      ConfigError: the port is taken, or the host is none of this machine.
      UserError: the model cannot be used.
    """
    started = time.monotonic()
    with listening(host, port) as listener:
        loaded = read_model(next(iter(models.values())), execution, settings.pooling)
        service = Service(models, settings, rule, execution)
        server = _Server(
            uvicorn.Config(
                make_app(service),
                http=_Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(settings.time_limit_seconds) + 1,
            ),
            service.slot.close,
        )
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(_serve(server, service, loaded, listener, started))
    return server.ended_by


async def _serve(
    server: "_Server", service: Service, loaded: LoadedModel, listener: socket.socket, started: float
) -> None:
    """Answers from the beginning, at first that it is not ready, while the model becomes warm."""
    address = _address(listener)

    async def become_ready() -> None:
        logger.info("listening on %s; the model is being made ready", address)
        try:
            await service.start(loaded)
            logger.info("ready on %s after %.1f s", address, time.monotonic() - started)
        except Stopped:
            pass
        finally:
            server.should_exit |= service.slot.current is None

    starting = asyncio.create_task(become_ready())
    try:
        await server.serve(sockets=[listener])
    finally:
        service.close()
        await starting


class _Server(uvicorn.Server):
    """A uvicorn that keeps the signal which ended it, where uvicorn would raise it again.

    Attributes:
      ended_by: that signal, the last one if there were several.
    """

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], None]):
        super().__init__(config)
        self.ended_by = signal.SIGTERM
        self._on_signal = on_signal

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals within the block."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        self.ended_by = number
        self._on_signal()
        logger.info("ending: requests that have come are answered")
        self.handle_exit(number, None)


class _Connection(HttpToolsProtocol):
    """A connection that is closed where the head of a request comes too slowly or is too long, and whose complaints are
    JSON, as all others are."""

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or we have."""
        self._head_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._head_timer.cancel()
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def on_headers_complete(self) -> None:
        """A head has come."""
        self._head_timer.cancel()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        super().data_received(data)
        # The timer runs in a head, and before the first one.
        self._head_bytes = 0 if self._head_timer.cancelled() else self._head_bytes + len(data)
        if self._head_bytes > _HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP."""
        body = json.dumps({"detail": msg}).encode()
        head = [STATUS_LINE[400], b"content-type: application/json\r\n", b"connection: close\r\n"]
        self.transport.write(b"".join([*head, b"content-length: %d\r\n\r\n" % len(body), body]))
        self.transport.close()


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens.

    Raises:
      ConfigError: it cannot.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host {host} is no address of this machine: {error}") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(where)
            listener.listen(_BACKLOG)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; choose another --port") from None
        yield listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
