"""Whatever a client sends, it gets 4xx with a line of JSON that says why, and the server goes on answering."""

import json
import re
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import ADMIN
from tests.support.servers import Server, received

GOOD = {"text": "a good film"}
DEEP = b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def deep(levels: int) -> Any:
    value: Any = "a"
    for _ in range(levels):
        value = [value]
    return value


@pytest.fixture(autouse=True)
def goes_on(server: Server):
    """After each test the server answers as before, and has counted no request as its own fault."""
    yield
    reply = server.post("/predict", GOOD)
    assert (reply.status, reply.json["predictions"][0]["label"]) == (200, "good")
    assert b'status="500"' not in server.get("/metrics").body


PREDICT = {
    # JSON
    "no body": (b"", 422, "body: Field required"),
    "no JSON": (b"text=a", 400, r"no JSON: Expecting value .character 1."),
    "half of JSON": (b'{"text": "a', 400, "no JSON: Unterminated string"),
    "two documents": (b"{} {}", 400, "no JSON: Extra data"),
    "invalid UTF-8": (b'{"text": "\xff"}', 400, "not UTF-8: byte 11 is wrong"),
    "UTF-16": ('{"text": "a"}'.encode("utf-16"), 400, "not UTF-8"),
    "NaN": (b'{"text": NaN}', 400, "NaN is no number"),
    "infinity": (b'{"text": "a", "threshold": -Infinity}', 400, "-Infinity is no number"),
    "a number beyond floats": (b'{"text": "a", "threshold": 1e999}', 400, "1e999 is too large"),
    "an integer beyond floats": (b'{"text": "a", "top_k": ' + b"9" * 5000 + b"}", 400, "99999... is too large"),
    "deep nesting": (DEEP, 400, "no JSON that can be read"),
    "nesting": (json.dumps({"rows": deep(20)}).encode(), 400, "more than 16 levels deep"),
    "half of a pair of surrogates": (b'{"text": "\\ud83d"}', 422, "half of a surrogate pair"),
    "the same in a key": (b'{"text": "a", "\\uDC00": 1}', 422, "half of a surrogate pair"),
    # Types
    "a list": ([GOOD], 422, "body: Input should be a valid dictionary"),
    "a string": ("a", 422, "body: Input should be a valid dictionary"),
    "null": (None, 422, "body"),
    "a number for a text": ({"text": 5}, 422, "body.text.str: Input should be a valid string"),
    "true for a text": ({"text": True}, 422, "body.text"),
    "a text for texts": ({"texts": "a"}, 422, "body.texts: Input should be a valid list"),
    "null among texts": ({"texts": ["a", None]}, 422, "body.texts.1"),
    "three of a pair": ({"pair": ["a", "b", "c"]}, 422, "body.pair: List should have at most 2"),
    "one of a pair": ({"pairs": [["a"]]}, 422, "body.pairs.0: List should have at least 2"),
    "rows that are none": ({"rows": ["a"]}, 422, "body.rows.0"),
    "a number for a cell": ({"title": 3, "body": "b"}, 422, "holds 3 .int. in column 'title', which must hold text"),
    "a list for a cell": ({"title": ["a"], "body": "b"}, 422, "which must hold text"),
    # Options
    "an unknown option": ({**GOOD, "topk": 3}, 422, "unknown key 'topk'; a request has text, .* top_k"),
    "top_k as text": ({**GOOD, "top_k": "3"}, 422, "body.top_k: Input should be a valid integer"),
    "top_k as a float": ({**GOOD, "top_k": 3.0}, 422, "body.top_k: Input should be a valid integer"),
    "top_k below 0": ({**GOOD, "top_k": -1}, 422, "body.top_k: .* greater than or equal to 0"),
    "threshold as text": ({**GOOD, "threshold": "high"}, 422, "body.threshold: Input should be a valid number"),
    "probabilities as 1": ({**GOOD, "probabilities": 1}, 422, "body.probabilities: Input should be a valid boolean"),
    # Forms
    "nothing": ({}, 422, "give one of text"),
    "only options": ({"top_k": 1}, 422, "give one of text"),
    "two forms": ({"text": "a", "texts": ["b"]}, 422, "text and texts"),
    "a form and columns": ({"text": "a", "title": "b"}, 422, "text and columns"),
    "a column that is missing": ({"title": "a"}, 422, "row 1 has no 'body'; the model reads 'title', 'body'"),
    "a missing column in rows": ({"rows": [{"title": "a", "body": "b"}, {}]}, 422, "row 2 has no 'title', 'body'"),
    "no texts": ({"texts": []}, 422, "texts is empty"),
    "no rows": ({"rows": []}, 422, "rows is empty"),
    "an empty text": ({"text": ""}, 422, "text 1 is empty"),
    "a blank text": ({"texts": ["a", " \n\t"]}, 422, "text 2 is empty"),
    "half a pair": ({"pair": ["a", ""]}, 422, "text 1 is empty"),
    "empty cells": ({"title": "", "body": None}, 422, "row 1 has no text in title and body"),
    # Sizes
    "a text that is too long": ({"text": "a" * 20_001}, 413, "text 1 has 20001 characters; the most is 20000"),
    "a text of 1 MB": ({"text": "a" * 1_000_000}, 413, "text 1 has 1000000 characters"),
    "a cell that is too long": ({"title": "a", "body": "b" * 20_000}, 413, "text 1 has 20001 characters"),
    "ten thousand texts": ({"texts": ["a"] * 10_000}, 413, "the request has 10000 texts; the most is 500"),
    "a body that is too long": (b" " * 1_500_001, 413, "more than 1500000 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", PREDICT)
def test_predict(server, case):
    body, status, message = PREDICT[case]
    reply = server.post("/predict", json.dumps(body).encode() if body is None else body)
    assert_refused(reply, status, message)


OTHERS = {
    "a route that is not there": ("GET", "/predictions", None, 404, "Not Found"),
    "a method that is not there": ("GET", "/predict", None, 405, "Method Not Allowed"),
    "a path of the disk": ("GET", "/..%2f..%2fetc/passwd", None, 404, "Not Found"),
    "labels the model does not know": (
        "POST", "/evaluate", {"rows": [{"title": "a", "body": "b", "stars": "so so"}]}, 422, "so so",
    ),
    "a label that is missing": (
        "POST", "/evaluate", {"rows": [{"title": "a", "body": "b"}]}, 422, "the body has no column 'stars'",
    ),
    "a label that is null": (
        "POST", "/evaluate", {"rows": [{"title": "a", "body": "b", "stars": None}]}, 422, "no label in column 'stars'",
    ),
    "no rows to evaluate": ("POST", "/evaluate", {"rows": []}, 422, "body.rows: List should have at least 1"),
    "an address to evaluate": ("POST", "/evaluate", {"rows": "/etc/passwd"}, 422, "body.rows: Input should be a valid"),
    "an address beside rows": (
        "POST", "/evaluate", {"rows": [{"title": "a"}], "data": "/etc/passwd"}, 422, "body.data: Extra inputs",
    ),
    "nothing to embed": ("POST", "/embed", {}, 422, "give"),
    "an empty text to embed": ("POST", "/embed", {"texts": ["a", ""]}, 422, "text 2 is empty"),
    "a pair to embed": ("POST", "/embed", {"pair": ["a", "b"]}, 422, "body.pair: Extra inputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_other_routes(server, case):
    method, path, body, status, message = OTHERS[case]
    assert_refused(server.ask(method, path, body), status, message)


ADMINS = {
    "no token": ({}, {"model": "again"}, 401, "admin token is missing or wrong"),
    "a wrong token": ({"Authorization": "Bearer wrong"}, {"model": "again"}, 401, "admin token is missing or wrong"),
    "a token in no scheme": ({"Authorization": ADMIN}, {"model": "again"}, 401, "admin token is missing or wrong"),
    "a path": ({"X-API-Key": ADMIN}, {"model": "/etc/passwd"}, 409, "model '/etc/passwd' is unknown; there are"),
    "a path up": ({"X-API-Key": ADMIN}, {"model": "../again"}, 409, "is unknown"),
    "a model that is not there": ({"X-API-Key": ADMIN}, {"model": "broken"}, 409, "/nowhere/at/all is not a folder"),
    "an address": ({"X-API-Key": ADMIN}, {"address": "hub/model"}, 422, "body.model: Field required"),
}


@pytest.mark.parametrize("case", ADMINS)
def test_a_model_is_changed_with_the_token_and_by_known_names_only(server, case):
    headers, body, status, message = ADMINS[case]
    assert_refused(server.post("/model", body, **headers), status, message)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_a_body_that_is_said_to_be_something_else(server, kind):
    assert_refused(server.post("/predict", GOOD, Content_Type=kind), 415, "Content-Type: application/json")


TEXTS = {
    "emoji": "a good film 🎬👩‍👩‍👧",
    "a pair of surrogates": "a good film \\ud83c\\udfac",
    "control characters": "a \x00 good \x07 \x1b[31m film \x7f \u200b\u202e",
    "another script": "一部好电影 good",
    "combining characters": "good" + "\u0301" * 500,
    "markup and quotes": "<script>alert('good')</script> \\ \" %s {}",
    "nothing that the tokenizer keeps": "\u200b",
}


@pytest.mark.parametrize("case", TEXTS)
def test_texts_that_are_odd_but_texts(server, case):
    body = json.dumps({"text": TEXTS[case]}).replace("\\\\u", "\\u").encode()
    assert server.post("/predict", body).status == 200


HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
RAW = {
    "a body of which half comes": (HEAD + b'Content-Length: 100\r\n\r\n{"text": ', 408, "did not arrive within 1 sec"),
    "chunks that end too early": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", 408, "did not arrive"),
    "chunks without a length, too many": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 40 + b"0\r\n\r\n",
        413, "more than 1500000 bytes",
    ),
    "a long body that waits to be asked for": (
        HEAD + b"Expect: 100-continue\r\nContent-Length: 90000000\r\n\r\n", 413, "more than 1500000 bytes",
    ),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "Invalid HTTP request"),
    "a length that is none": (HEAD + b"Content-Length: -5\r\n\r\n", 400, "Invalid HTTP request"),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 90\r\n\r\n{}", 400, "Invalid HTTP request"),
    "a head without an end": (HEAD + b"X-A: " + b"a" * 66_000, 400, "The head of the request is too long"),
}  # fmt: skip


@pytest.mark.parametrize("case", RAW)
def test_bytes_on_a_connection(server, case):
    sent, status, message = RAW[case]
    with server.connected(sent) as connection:
        head, _, body = received(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/json" in head
    assert message in json.loads(body)["detail"]


def test_clients_that_go_in_the_middle(server):
    """Half a head, half a body, and an answer that nobody waits for, each closed by a reset."""
    body = json.dumps({"texts": ["a good film"] * 400}).encode()
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for sent in (whole[:30], whole[:-10], whole):
        for _ in range(5):
            with server.connected(sent) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    deadline = time.monotonic() + 10
    while server.metric("bertjax_texts") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.metric("bertjax_texts") == 0


def test_slow_clients_do_not_hold_up_others(server):
    """While a hundred of them send a byte now and then, another one is answered at once."""
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    try:
        for connection in slow:
            connection.sendall(HEAD + b"Content-Length: 50\r\n\r\n{")
        started = time.monotonic()
        assert server.post("/predict", GOOD).status == 200
        assert time.monotonic() - started < 5
        for connection in slow:
            assert b" 408 " in received(connection)
    finally:
        for connection in slow:
            connection.close()


def test_texts_are_not_in_the_log(server):
    server.post("/predict", {"text": "a secret text", "topk": 1})
    server.post("/predict", {"text": "a secret text"})
    server.post("/evaluate", {"rows": [{"title": "a secret text", "body": "b", "stars": "secret"}]})
    assert not any("secret" in line for line in server.log)
    assert not any("Traceback" in line for line in server.log)


def assert_refused(reply, status, message):
    """One line of JSON that says what is wrong."""
    assert reply.status == status, reply
    assert set(reply.json) == {"detail"}
    assert "\n" not in reply.json["detail"]
    assert len(reply.json["detail"]) < 500
    assert re.search(message, reply.json["detail"]), reply.json
    assert not any(word in reply.body.decode() for word in ("Traceback", "site-packages", str(Path.cwd())))
