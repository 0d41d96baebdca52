"""The limits of a service on a model that is as slow, or as broken, as a test wants it; no network, no weights."""

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest
from fastapi import FastAPI

from bertjax.errors import DataError
from bertjax.serving.app import make_app
from bertjax.serving.limits import ServiceSettings
from bertjax.serving.model_slot import ServedModel, split_prepared
from bertjax.serving.request_batcher import BatchLimits, RequestBatcher
from bertjax.serving.service import Rule, Service
from tests.support.batches import make_examples


class FakeModel(NamedTuple):
    """The network of a `FakePredictor`."""

    task: str = "classification"
    labels: tuple[str, ...] = ("a", "b")


class FakePrepared(NamedTuple):
    """Texts of ten tokens each."""

    texts: Sequence[str]

    @property
    def num_tokens(self) -> int:
        return 10 * len(self.texts)


class FakePredictor:
    """Answers with the length of a text, as soon as `free` is set; fails at "poison"."""

    columns = ()
    max_length = 10
    has_vectors = True
    model = FakeModel()

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.started = 0

    def check_options(self, options: Any) -> None:
        pass

    def prepare(self, texts: Sequence[str]) -> FakePrepared:
        if "unreadable" in texts:
            raise DataError("text 1 is unreadable\n" + "x" * 10_000)
        return FakePrepared(texts)

    def compute(self, parts: Sequence[FakePrepared]) -> list[np.ndarray]:
        self.started += 1
        self.free.wait(20)
        if any("poison" in part.texts for part in parts):
            raise FloatingPointError("secret")
        return [np.array([len(text) for text in part.texts]) for part in parts]

    def answer(self, prepared: FakePrepared, scores: np.ndarray, options: Any) -> list[dict[str, Any]]:
        return [{"label": str(score), "probability": 1.0} for score in scores]


class Asked(NamedTuple):
    """An answer of the application."""

    status: int
    headers: dict[str, str]
    json: Any


class Client:
    """Calls an application as a server does.

    Attributes:
      service: behind it.
    """

    def __init__(self, app: FastAPI, service: Service):
        self._app, self.service = app, service
        self.put(FakePredictor())

    @property
    def predictor(self) -> Any:
        return self.service.model().predictor

    def put(self, predictor: Any) -> None:
        """Puts a predictor in service."""
        observe = self.service.metrics.observe_batch
        thread = ThreadPoolExecutor(1)
        batcher = RequestBatcher(predictor.compute, lambda part: part.num_tokens, thread, BatchLimits(), observe)
        self.service.slot.current = ServedModel("default", 1, None, {}, None, False, predictor, batcher)  # type: ignore[arg-type]

    async def post(self, path: str, body: Any, leaves: asyncio.Event | None = None) -> Asked | None:
        """The answer; None where the client left before it came."""
        sent: list[Any] = []
        messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await (leaves or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app({**scope, "http_version": "1.1", "scheme": "http", "root_path": ""}, receive, send)
        if not sent:
            return None
        content = b"".join(message.get("body", b"") for message in sent)
        fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Asked(sent[0]["status"], fields, json.loads(content))

    async def held_up(self) -> "asyncio.Task[Any]":
        """A request that is being computed until `predictor.free` is set."""
        self.predictor.free.clear()
        first = asyncio.create_task(self.post("/predict", {"text": "one"}))
        await until(lambda: self.predictor.started == 1)
        return first

    async def waiting(self, tokens: int) -> None:
        """Returns when so many tokens wait."""
        await until(lambda: self.service.model().batcher.waiting_tokens == tokens)


async def until(condition: Callable[[], bool]) -> None:
    """Waits until something is so."""
    while not condition():
        await asyncio.sleep(0.001)


def play(
    scenario: Callable[[Client], Awaitable[Any]], settings: ServiceSettings | None = None, rule: Rule | None = None
) -> Any:
    """Runs a scenario against an application with a fake model."""

    async def played() -> Any:
        service = Service({"default": "nowhere"}, settings or ServiceSettings(), rule)
        client = Client(make_app(service), service)
        try:
            async with asyncio.timeout(30):
                return await scenario(client)
        finally:
            if service.slot.current is not None:
                service.slot.current.predictor.free.set()  # type: ignore[attr-defined]
            service.close()

    return asyncio.run(played())


def test_what_is_beyond_the_queue_comes_again_later():
    """Three of five texts may be on their way, in single requests or in a list; the others are told to come again."""

    async def scenario(client):
        first = await client.held_up()
        second = asyncio.create_task(client.post("/predict", {"texts": ["a", "bb"]}))
        await client.waiting(20)
        refused = [await client.post("/predict", body) for body in ({"text": "x"}, {"texts": ["x", "y"]})]
        client.predictor.free.set()
        return refused, [await first, await second, await client.post("/predict", {"text": "again"})]

    refused, answered = play(scenario, ServiceSettings(queue_texts=3))
    for reply in refused:
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.json == {"detail": "3 texts are on their way; try again later"}
    assert [[answer["label"] for answer in reply.json["predictions"]] for reply in answered] == [
        ["3"],
        ["1", "2"],
        ["5"],
    ]


def test_a_request_whose_time_is_up_leaves_the_queue():
    async def scenario(client):
        client.predictor.free.clear()
        late = await asyncio.gather(*[client.post("/predict", {"text": "late"}) for _ in range(3)])
        texts, tokens = client.service.metrics.texts._value.get(), client.service.model().batcher.waiting_tokens
        client.predictor.free.set()
        return late, texts, tokens, await client.post("/predict", {"text": "after"})

    late, texts, tokens, after = play(scenario, ServiceSettings(time_limit_seconds=0.2))
    assert {(reply.status, reply.headers["retry-after"]) for reply in late} == {(503, "1")}
    assert late[0].json == {"detail": "the answer was not ready within 0.2 seconds; try again later"}
    assert (texts, tokens) == (0, 0)
    assert after.status == 200


def test_a_client_that_goes_leaves_the_queue():
    async def scenario(client):
        first = await client.held_up()
        leaves = asyncio.Event()
        gone = asyncio.create_task(client.post("/predict", {"texts": ["a", "b"]}, leaves))
        await client.waiting(20)
        leaves.set()
        answer = await gone
        left = client.service.model().batcher.waiting_tokens
        client.predictor.free.set()
        return left, answer, (await first).status, client.service.measured().decode()

    left, answer, status, metrics = play(scenario)
    assert (left, answer, status) == (0, None, 200)
    assert 'bertjax_requests_total{route="/predict",status="499"} 1.0' in metrics


def test_one_poisoned_request_fails_alone(caplog):
    async def scenario(client):
        first = await client.held_up()
        others = [asyncio.create_task(client.post("/predict", {"text": text})) for text in ("a", "poison", "bb")]
        await client.waiting(30)
        client.predictor.free.set()
        return [await first, *[await other for other in others]]

    replies = play(scenario)
    assert [reply.status for reply in replies] == [200, 200, 500, 200]
    assert replies[2].json == {"detail": "the model could not compute this request"}
    assert "poison" not in caplog.text
    assert "secret" not in caplog.text


def test_a_message_is_one_line_of_some_length():
    reply = play(lambda client: client.post("/predict", {"text": "unreadable"}))
    assert reply.status == 422
    assert reply.json["detail"].startswith("text 1 is unreadable xxx")
    assert len(reply.json["detail"]) < 500


def test_a_rule_has_the_last_word():
    def rule(predictions, texts):
        return [
            {**prediction, "label": f"{text}!", "predicted": prediction["label"]}
            for prediction, text in zip(predictions, texts, strict=True)
        ]

    reply = play(lambda client: client.post("/predict", {"texts": ["a", "bb"]}), rule=rule)
    assert [(each["label"], each["predicted"]) for each in reply.json["predictions"]] == [("a!", "1"), ("bb!", "2")]
    refused = play(lambda client: client.post("/predict", {"text": "a", "threshold": 0.5}), rule=rule)
    assert (refused.status, "rule of its own" in refused.json["detail"]) == (422, True)


def test_a_rule_that_fails_is_the_servers_fault():
    def rule(predictions, texts):
        raise KeyError("nothing")

    reply = play(lambda client: client.post("/predict", {"text": "a"}), rule=rule)
    assert (reply.status, reply.json["detail"]) == (500, "the server's rule failed: 'nothing'")


def test_a_model_without_vectors():
    reply = play(lambda client: client.post("/embed", {"text": "a"}))
    hint = "the server gives them if it is started with --embed"
    assert (reply.status, reply.json["detail"]) == (409, f"the model in service gives no vectors; {hint}")


def test_before_the_model_is_ready_and_at_the_end():
    async def scenario(client):
        model, client.service.slot.current = client.service.slot.current, None
        before = await client.post("/predict", {"text": "a"})
        client.service.slot.current = model
        client.service.close()
        return before, await client.post("/predict", {"text": "a"})

    before, after = play(scenario)
    assert (before.status, before.headers["retry-after"], after.status) == (503, "1", 503)
    assert (before.json["detail"], after.json["detail"]) == ("the model is not ready yet", "the server is about to end")


def test_a_model_that_was_replaced_is_freed():
    """Weights are large: nothing may hold the old ones once its last request is answered."""

    async def scenario(client):
        old = weakref.ref(client.predictor)
        assert (await client.post("/predict", {"texts": ["a", "b"]})).status == 200
        client.put(FakePredictor())
        gc.collect()
        return old()

    assert play(scenario) is None


@pytest.mark.parametrize("batch_tokens", [40, 64, 100, 4096])
def test_a_list_is_cut_into_pieces_of_a_quarter_of_a_batch(batch_tokens):
    from bertjax.data.rows.labelled_rows import Rows
    from bertjax.inference.predictor import Prepared

    examples = make_examples(50, lengths=(3, 30))
    prepared = Prepared(Rows([""] * 50, None, [""] * 50, list(range(50))), examples)
    pieces = split_prepared(prepared, batch_tokens)
    lengths = [piece.examples.lengths.tolist() for piece in pieces]
    assert [length for of_piece in lengths for length in of_piece] == examples.lengths.tolist()
    assert all(sum(of_piece) <= batch_tokens // 4 or len(of_piece) == 1 for of_piece in lengths)
    np.testing.assert_array_equal(np.concatenate([piece.examples.token_ids for piece in pieces]), examples.token_ids)
    assert (len(pieces) == 1) == (examples.lengths.sum() <= batch_tokens // 4)
