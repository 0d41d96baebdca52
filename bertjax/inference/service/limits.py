"""`ServiceSettings`, and the ASGI middleware that holds requests to them before anything of a body is parsed."""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from bertjax.inference.service.request_batcher import named
from bertjax.inference.service.service_metrics import ServiceMetrics

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_ROUTES = ("/", "/health", "/ready")  # to be read without the key


@dataclass(frozen=True)
class ServiceSettings:
    """The limits of a service.

    Attributes:
      batch_wait_ms: how long a request waits for others to be computed with.
      batch_tokens: tokens of a batch.
      queue_tokens: tokens that may wait to be computed.
      queue_texts: texts that may be tokenized, wait or be computed at a time.
      time_limit_seconds: of a request, from its parsed body to its answer.
      max_texts: of a request.
      max_text_chars: of a text.
      max_body_bytes: of a request.
      body_seconds: in which a body must have come.
      api_key: that requests must bring; None: every request is answered.
      admin_token: that those must bring which change the model; None: nobody can.
    """

    batch_wait_ms: float = 2.0
    batch_tokens: int = 4096
    queue_tokens: int = 131_072
    queue_texts: int = 4096
    time_limit_seconds: float = 30.0
    max_texts: int = 1000
    max_text_chars: int = 100_000
    max_body_bytes: int = 4 * 2**20
    body_seconds: float = 30.0
    api_key: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)


class Refused(Exception):
    """A request that is answered without being looked at.

    Attributes:
      status: of the answer.
      headers: of the answer.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None):
        super().__init__(detail)
        self.status, self.headers = status, headers or {}


class ClientGone(Exception):
    """The client closed the connection before its answer was there."""


class RequestLimits:
    """The outermost layer of the application: who may ask, how much, and how long that may take to arrive.

    It counts requests, and cancels those whose clients have gone. Whatever is raised inside becomes an answer without a
    traceback.
    """

    def __init__(self, app: App, settings: ServiceSettings, metrics: ServiceMetrics):
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            check_key(scope, self._settings)
            body = await self._read(scope, receive)
            await self._answer(scope, body, receive, noting)
        except Refused as refusal:
            await _respond(noting, refusal.status, str(refusal), refusal.headers)
        except ClientGone:
            status = 499  # as nginx counts them
        except Exception as error:
            logger.error("%s %s failed: %s", scope["method"], scope["path"], named(error))
            if not status:
                await _respond(noting, 500, "the server failed at this request", {})
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. What is too long is thrown away as it comes, so that the client can read the answer.

        Raises:
          Refused: it is too long, or came too slowly.
          ClientGone: there is nobody to answer.
        """
        limit, headers = self._settings.max_body_bytes, dict(scope["headers"])
        close = {"connection": "close"}
        too_long = Refused(413, f"the body has more than {limit} bytes", close)
        if b"expect" in headers and int(headers.get(b"content-length", b"0")) > limit:
            raise too_long
        chunks, size, more = [], 0, True
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    size += len(message.get("body", b""))
                    if size <= limit:
                        chunks.append(message.get("body", b""))
                    more = message.get("more_body", False)
        except TimeoutError:
            seconds = self._settings.body_seconds
            raise Refused(408, f"the body did not arrive within {seconds:g} seconds", close) from None
        if size > limit:
            raise too_long
        return b"".join(chunks)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Runs the application, and cancels it when the client goes.

        Raises:
          ClientGone: it went.
        """
        leaving = asyncio.ensure_future(receive())  # nothing but a disconnect can come now
        bodies = [body]

        async def replay() -> Message:
            if bodies:
                return {"type": "http.request", "body": bodies.pop(), "more_body": False}
            return await asyncio.shield(leaving)

        answering = asyncio.ensure_future(self._app(scope, replay, send))
        try:
            await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ClientGone
            await answering
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)


def check_key(scope: Scope, settings: ServiceSettings) -> None:
    """Checks that a request may be answered.

    Raises:
      Refused: its key is missing or wrong (401), or what it wants is switched off (403).
    """
    if scope["path"] == "/model" and scope["method"] == "POST":
        if settings.admin_token is None:
            raise Refused(403, "the server was started without --admin-token, so its model cannot be changed")
        key, name = settings.admin_token, "admin token"
    elif settings.api_key is None or scope["path"] in OPEN_ROUTES:
        return
    else:
        key, name = settings.api_key, "API key"
    if not hmac.compare_digest(_key_in(dict(scope["headers"])), key.encode()):
        raise Refused(
            401,
            f"the {name} is missing or wrong; send it as Authorization: Bearer KEY, or as X-API-Key: KEY",
            {"www-authenticate": "Bearer"},
        )


def _key_in(headers: dict[bytes, bytes]) -> bytes:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")


async def _respond(send: Send, status: int, detail: str, headers: dict[str, str]) -> None:
    body = json.dumps({"detail": detail}).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
