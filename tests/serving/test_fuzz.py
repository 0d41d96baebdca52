"""Bodies that nobody thought of: from schemathesis by the OpenAPI document, and from a seeded mutation of good ones."""

import json
import random
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.serving.conftest import ADMIN
from tests.support.servers import Server

OPERATIONS = [
    ("/", "get"), ("/health", "get"), ("/ready", "get"), ("/model", "get"), ("/metrics", "get"),
    ("/predict", "post"), ("/evaluate", "post"), ("/embed", "post"), ("/model", "post"),
]  # fmt: skip

# A body may be of the documented form and yet say nothing, such as two texts of which one is empty: then 422 is right.
NOT_CHECKED = [positive_data_acceptance]


@pytest.fixture(scope="module")
def api(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")


def test_these_are_all_operations(server: Server) -> None:
    paths = server.get("/openapi.json").json["paths"]
    assert {(path, method) for path, methods in paths.items() for method in methods} == set(OPERATIONS)


@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [
        pytest.param(path, method, mode, id=f"{method} {path} {mode.value}")
        for path, method in OPERATIONS
        for mode in GenerationMode
        if method == "post" or mode is GenerationMode.POSITIVE  # a request without a body breaks no rule
    ],
)
def test_the_openapi_document_says_what_is_answered(api: Any, path: str, method: str, mode: GenerationMode) -> None:
    @hypothesis.given(api[path][method].as_strategy(generation_mode=mode))
    @hypothesis.settings(max_examples=40 if method == "post" else 5, suppress_health_check=list(hypothesis.HealthCheck))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=NOT_CHECKED)

    check()


GOOD: dict[str, list[Any]] = {
    "/predict": [
        {"text": "a good film", "top_k": 2, "threshold": 0.5, "probabilities": True},
        {"texts": ["a good film", "🎉 dull"]},
        {"pair": ["a good film", "dull"]},
        {"rows": [{"title": "a good film", "body": "dull"}]},
        {"title": "a good film", "body": "dull"},
    ],
    "/evaluate": [{"rows": [{"title": "a good film", "body": "dull", "stars": "bad"}]}],
    "/embed": [{"texts": ["a good film", "dull"]}],
    "/model": [{"model": "broken"}],
}
VALUES: list[Any] = [
    None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**200), 0.5, 1e308, -0.0, "", " ", "\x00", "\u202e", "é" * 3000,
    "a\ud800", "\udfff", "NaN", "null", "../../etc/passwd", "<script>", "%s%n", [], {}, [[]], [{}], {"": ""},
    ["a"] * 501, {"text": "a"}, [None], "a" * 20_001, {"__proto__": 1}, {"$ref": "#"},
]  # fmt: skip
LITERALS = [
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * 5000,
    b'"\\ud800"',
    b'"\\u0000"',
    b"\xff",
    b"\xef\xbb\xbf",
]


def bad_value(body: Any, chance: random.Random) -> bytes:
    """The body with one value replaced, or a key that it should not have."""
    copy = json.loads(json.dumps(body))
    place, key = chance.choice(list(places(copy)))
    place[key] = chance.choice(VALUES)
    if isinstance(place, dict) and chance.random() < 0.3:
        place[chance.choice(["", "text", "top_k", "k" * 2000, "model", "\ud83d"])] = chance.choice(VALUES)
    return json.dumps(copy).encode()


def places(value: Any) -> Any:
    """Every (list or dict, index or key) in a value."""
    for key, item in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        yield value, key
        if isinstance(item, dict | list):
            yield from places(item)


def bad_bytes(body: Any, chance: random.Random) -> bytes:
    """The body with some bytes changed, left out, doubled, or replaced by what is no JSON."""
    raw = bytearray(json.dumps(body, ensure_ascii=chance.random() < 0.5).encode())
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(raw))
        end = chance.randrange(start, len(raw)) + 1
        raw[start:end] = chance.choice([chance.randbytes(3), b"", bytes(raw[start:end]) * 2, chance.choice(LITERALS)])
        raw = raw or bytearray(b"{")
    return bytes(raw)


def truncated(body: Any, chance: random.Random) -> bytes:
    raw = json.dumps(body).encode()
    return raw[: chance.randrange(len(raw))]


def noise(body: Any, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(1, 200))


def nested(body: Any, chance: random.Random) -> bytes:
    depth = chance.choice([5, 17, 1000, 100_000])
    opening, closing = chance.choice([(b"[", b"]"), (b'{"text":', b"}"), (b'{"rows":[', b"]}")])
    return opening * depth + b"1" + closing * chance.choice([depth, depth - 1, 0])


MUTATIONS: list[Callable[[Any, random.Random], bytes]] = [bad_value, bad_bytes, truncated, noise, nested]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
@pytest.mark.parametrize("path", GOOD)
def test_broken_bodies(server: Server, path: str, mutation: Callable[[Any, random.Random], bytes]) -> None:
    documented = server.get("/openapi.json").json["paths"][path]["post"]["responses"]
    chance = random.Random(f"{path} {mutation.__name__}")
    for _ in range(60):
        body = mutation(chance.choice(GOOD[path]), chance)
        reply = server.post(path, body, X_API_Key=ADMIN)
        assert str(reply.status) in documented, body
        assert reply.status < 500, (body, reply)
        if reply.status >= 400:
            detail = reply.json["detail"]
            assert isinstance(detail, str), body
            assert 0 < len(detail) < 500, body
            assert "\n" not in detail, body
    assert server.post("/predict", {"text": "a good film"}).json["predictions"][0]["label"] == "good"
