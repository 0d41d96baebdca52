"""`serve_local`: a service in this process, by uvicorn."""

import asyncio
import logging
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

import uvicorn

from bertjax.config import Execution
from bertjax.errors import ConfigError
from bertjax.inference.loaded_model import LoadedModel
from bertjax.inference.service.app import make_app
from bertjax.inference.service.limits import ServiceSettings
from bertjax.inference.service.model_slot import read_model
from bertjax.inference.service.service import Rule, Service

logger = logging.getLogger(__name__)


def serve_local(
    models: Mapping[str, str],
    settings: ServiceSettings,
    host: str = "127.0.0.1",
    port: int = 8000,
    rule: Rule | None = None,
    execution: Execution | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then answers the requests that have come, and raises the signal again.

    Args:
      models: names -> where each model is; the first one is put in service.
      settings: limits.
      host, port: where to listen; port 0 takes a free one.
      rule: what has the last word on predictions.
      execution: how to run the networks.

    Raises:
      ConfigError: the port is taken, or the host is none of this machine.
      UserError: the model cannot be used.
    """
    started = time.monotonic()
    with listening(host, port) as listener:
        loaded = read_model(next(iter(models.values())), execution)
        service = Service(models, settings, rule, execution)
        # Lifespan: the model is loaded already, and becomes warm while the server says that it is not ready yet.
        config = uvicorn.Config(
            make_app(service, settings),
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=int(settings.time_limit_seconds) + 1,
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(uvicorn.Server(config), service, loaded, listener, started))


async def _serve(
    server: uvicorn.Server, service: Service, loaded: LoadedModel, listener: socket.socket, started: float
) -> None:
    address = _address(listener)
    logger.info("listening on %s; the model becomes warm", address)

    async def become_ready() -> None:
        try:
            await service.start(loaded)
            logger.info("ready on %s after %.1f s", address, time.monotonic() - started)
        except BaseException:
            server.should_exit = True
            raise

    starting = asyncio.create_task(become_ready())
    try:
        await server.serve(sockets=[listener])
    finally:
        service.close()
        if not starting.done():
            starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
      ConfigError: it cannot.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(where)
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
        return listener
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {host}, port {port}: {_reason(error)}; choose another --port") from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
