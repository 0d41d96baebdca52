"""`ServiceSettings`, and the ASGI layer that holds requests to them before anything of a body is parsed."""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from bertjax.config import Pooling
from bertjax.serving.request_batcher import named
from bertjax.serving.service_metrics import ServiceMetrics

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_ROUTES = ("/", "/health", "/ready")  # need no key
_CLIENT_GONE = 499  # in the metrics, as nginx counts them


@dataclass(frozen=True)
class ServiceSettings:
    """The limits of a service.

    Attributes:
      batch_wait_ms: how long a request waits for others to be computed with.
      batch_tokens: tokens of a batch.
      queue_tokens: tokens that may wait to be computed.
      queue_texts: texts that may be on their way, from the parsed body to the answer.
      time_limit_seconds: from the parsed body to the answer; also in which a client must have read its answer.
      max_texts: of a request.
      max_text_chars: of a text.
      max_explained: texts of a request that asks for explanations.
      max_body_bytes: of a request.
      body_seconds: in which a body must have come.
      threshold: of predictions, where a request has none.
      embed: whether a model that is not made for vectors gives them too; that is twice as much to compile at the start.
      pooling: how a text becomes one vector, for a bare encoder that does not say so.
      api_key: that requests must bring; None: every request is answered.
      admin_token: that requests must bring which change the model; None: nobody can.
    """

    batch_wait_ms: float = 2.0
    batch_tokens: int = 4096
    queue_tokens: int = 131_072
    queue_texts: int = 4096
    time_limit_seconds: float = 30.0
    max_texts: int = 1000
    max_text_chars: int = 100_000
    max_explained: int = 8
    max_body_bytes: int = 4 * 2**20
    body_seconds: float = 30.0
    threshold: float | None = None
    embed: bool = False
    pooling: Pooling | None = None
    api_key: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)


class Refused(Exception):
    """A request that is answered without being looked at.

    Attributes:
      status: of the answer.
      headers: of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None):
        super().__init__(detail)
        self.status, self.headers = status, headers or {}


class ClientGone(Exception):
    """The client went before its answer was there, or does not read it."""


class RequestLimits:
    """The outermost layer of the application: who may ask, how much, and how long that may take to arrive.

    It counts requests, and cancels those whose clients have gone. What is raised inside becomes an answer without a
    traceback.
    """

    def __init__(self, app: App, settings: ServiceSettings, metrics: ServiceMetrics):
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), _CLIENT_GONE

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            try:
                async with asyncio.timeout(self._settings.time_limit_seconds):
                    await send(message)
            except TimeoutError:
                raise ClientGone from None

        try:
            check_key(scope, self._settings)
            await self._answer(scope, await self._body(scope, receive), receive, noting)
        except Refused as refusal:
            await respond(noting, refusal.status, str(refusal), refusal.headers)
        except ClientGone:
            status = _CLIENT_GONE
        except Exception as error:
            logger.error("%s %s failed: %s", scope["method"], scope["path"], named(error))
            if status == _CLIENT_GONE:
                await respond(noting, 500, "the server failed at this request")
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. One that is too long is thrown away as it comes, so that its client can read the answer.

        Raises:
          Refused: it is too long, or came too slowly.
          ClientGone: there is nobody to answer.
        """
        limit, seconds = self._settings.max_body_bytes, self._settings.body_seconds
        close = {"connection": "close"}
        too_long = Refused(413, f"the body has more than {limit} bytes", close)
        headers = dict(scope["headers"])
        if b"expect" in headers and _declared(headers) > limit:
            raise too_long  # the client waits with its body for our word
        body, size, more = bytearray(), 0, True
        try:
            async with asyncio.timeout(seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    size += len(message.get("body", b""))
                    if size <= limit:
                        body += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {seconds:g} seconds", close) from None
        if size > limit:
            raise too_long
        return bytes(body)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Runs the application on a body, and cancels it when the client goes.

        Raises:
          ClientGone: it went.
        """
        leaving = asyncio.ensure_future(receive())  # after the body only a disconnect comes
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
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)


def check_key(scope: Scope, settings: ServiceSettings) -> None:
    """Checks that a request may be answered.

    Raises:
      Refused: its key is missing or wrong (401), or nobody may do what it asks for (403).
    """
    if scope["path"] == "/model" and scope["method"] == "POST":
        if settings.admin_token is None:
            raise Refused(403, "the server was started without an admin token, so nobody can change its model")
        key, name = settings.admin_token, "admin token"
    elif settings.api_key is None or scope["path"] in OPEN_ROUTES:
        return
    else:
        key, name = settings.api_key, "API key"
    if not hmac.compare_digest(_key_in(dict(scope["headers"])), key.encode()):
        wanted = "send it as Authorization: Bearer KEY, or as X-API-Key: KEY"
        raise Refused(401, f"the {name} is missing or wrong; {wanted}", {"www-authenticate": "Bearer"})


async def respond(send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
    """Answers that something is wrong, in one line of JSON."""
    body = json.dumps({"detail": detail}).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _key_in(headers: Mapping[bytes, bytes]) -> bytes:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")


def _declared(headers: Mapping[bytes, bytes]) -> int:
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() else 0
