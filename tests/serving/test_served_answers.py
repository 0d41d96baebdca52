"""What a server answers is what the model says in Python, whoever else asks at the same time."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bertjax.evaluation.evaluate_table import evaluate
from bertjax.inference.predictor import Predictor
from bertjax.tasks.postprocess import AnswerOptions
from tests.serving.conftest import ADMIN
from tests.support.servers import received

WORDS = ["good", "bad", "film", "book", "a", "the", "what", "was", "very", "plot", "song", "dull", "great"]


@pytest.fixture(scope="module")
def predictor(finished_run):
    return Predictor.load(finished_run.model_dir)


@pytest.fixture(scope="module")
def records(reviews):
    import pandas as pd

    return pd.read_csv(reviews).to_dict("records")


def random_texts(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 30))) for _ in range(count)]


def assert_same(found, expected, probabilities=True):
    """The same labels, and probabilities to 1e-6; those of all labels only where they were asked for."""
    assert len(found) == len(expected)
    for answer, truth in zip(found, expected, strict=True):
        assert ("probabilities" in answer) == probabilities
        assert answer["label"] == truth["label"]
        assert answer["probability"] == pytest.approx(truth["probability"], abs=1e-6)
        if probabilities:
            assert answer["probabilities"] == pytest.approx(truth["probabilities"], abs=1e-6)
        assert [each["label"] for each in answer.get("top", [])] == [each["label"] for each in truth.get("top", [])]


ROW = {"title": "the plot", "body": "good and great ."}
FORMS = {
    "text": ({"text": "a good film"}, ["a good film"]),
    "texts": ({"texts": ["a good film", "a dull book"]}, ["a good film", "a dull book"]),
    "pair": ({"pair": ["a film", "good"]}, [("a film", "good")]),
    "pairs": ({"pairs": [["a film", "good"], ["a", "bad"]]}, [("a film", "good"), ("a", "bad")]),
    "the training columns": (ROW, [ROW]),
    "an empty cell": ({"title": None, "body": "dull ."}, [{"title": None, "body": "dull ."}]),
    "rows": ({"rows": [ROW, {**ROW, "body": "dull", "id": 7}]}, [ROW, {**ROW, "body": "dull"}]),
    "markup that training removed": ({"text": "<b>a good</b> film"}, ["<b>a good</b> film"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_request(server, predictor, form):
    body, texts = FORMS[form]
    reply = server.post("/predict", body)
    assert reply.status == 200, reply
    assert_same(reply.json["predictions"], predictor(texts), probabilities=False)
    assert_same(server.post("/predict", {**body, "probabilities": True}).json["predictions"], predictor(texts))


def test_options(server, predictor):
    texts = random_texts(20)
    for options in ({"top_k": 1}, {"top_k": 5, "threshold": 0.9}, {"threshold": 0.0}, {"threshold": 1.0}):
        found = server.post("/predict", {"texts": texts, "probabilities": True, **options}).json["predictions"]
        expected = predictor(texts, AnswerOptions(**options))
        assert_same(found, expected)
        assert [answer.get("predicted") for answer in found] == [answer.get("predicted") for answer in expected]


def test_many_clients_at_once_are_computed_together_and_each_gets_its_own(server, predictor):
    texts = random_texts(200)
    lists = [random_texts(400, seed) for seed in (1, 2, 3)]
    before = {name: server.metric(name) for name in ("bertjax_batch_requests_count", "bertjax_batch_requests_sum")}
    with ThreadPoolExecutor(32) as clients:
        long = [clients.submit(server.post, "/predict", {"texts": each}) for each in lists]
        single = [clients.submit(server.post, "/predict", {"text": text}) for text in texts]
        for each, future in zip(lists, long, strict=True):
            assert_same(future.result().json["predictions"], predictor(each), probabilities=False)
        found = [future.result().json["predictions"][0] for future in single]
    assert_same(found, predictor(texts), probabilities=False)
    batches = server.metric("bertjax_batch_requests_count") - before["bertjax_batch_requests_count"]
    assert server.metric("bertjax_batch_requests_sum") - before["bertjax_batch_requests_sum"] > 1.5 * batches


def test_evaluation_has_the_numbers_and_names_of_the_command(server, finished_run, reviews, records):
    expected = evaluate(str(finished_run.model_dir), str(reviews))
    reply = server.post("/evaluate", {"rows": records}).json
    assert reply["metrics"] == pytest.approx(expected.report.flat("test"), abs=1e-6)
    assert (reply["summary"], reply["rows"]) == (expected.report.summary, len(expected.judged.rows.texts))


def test_vectors(server, predictor):
    texts = random_texts(30)
    reply = server.post("/embed", {"texts": texts}).json
    found = np.array(reply["embeddings"])
    np.testing.assert_allclose(found, predictor.embed(texts), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.array(server.post("/embed", {"text": texts[0]}).json["embeddings"]).shape == (1, found.shape[1])


def test_what_it_says_of_itself(server, finished_run):
    assert server.get("/health").json == {"status": "ok"}
    assert server.get("/ready").json == {"status": "ready"}
    facts = server.get("/model").json
    assert facts["labels"] == ["bad", "good"]
    assert (facts["task"], facts["columns"], facts["max_length"]) == ("classification", ["title", "body"], 10)
    assert facts["metrics"]["test/accuracy"] == finished_run.metrics["test/accuracy"]
    assert facts["model"]["run_id"] == server.post("/predict", {"text": "a"}).json["model"]["run_id"]
    assert facts["models"] == ["default", "again", "broken"]
    assert {"bertjax", "jax"} < set(facts["versions"])


def test_metrics(server):
    """Prometheus' own parser reads them, and nothing has compiled since the first model was ready."""
    from prometheus_client.parser import text_string_to_metric_families

    server.post("/predict", {"texts": ["a good film"] * 3})
    families = {family.name: family for family in text_string_to_metric_families(server.get("/metrics").body.decode())}
    assert {
        "bertjax_requests", "bertjax_request_seconds", "bertjax_texts", "bertjax_queue_tokens", "bertjax_queue_seconds",
        "bertjax_tokenizing_seconds", "bertjax_computing_seconds", "bertjax_batch_requests", "bertjax_batch_tokens",
        "bertjax_padding_share", "bertjax_compiles",
    } <= set(families)  # fmt: skip
    (answered,) = [
        sample.value for sample in families["bertjax_requests"].samples
        if sample.name.endswith("_total") and sample.labels == {"route": "/predict", "status": "200"}
    ]  # fmt: skip
    assert answered >= 1
    assert server.metric("bertjax_batch_tokens_sum") > 0


def test_another_model_takes_over_without_a_dropped_request(server, predictor):
    texts = random_texts(40, seed=9)
    expected = predictor(texts)
    number = server.get("/model").json["model"]["number"]
    with ThreadPoolExecutor(9) as clients:
        change = clients.submit(server.post, "/model", {"model": "again"}, Authorization=f"Bearer {ADMIN}")
        replies = []
        while not change.done() or len(replies) < 200:
            replies += list(clients.map(lambda text: server.post("/predict", {"text": text}), texts))
    assert change.result().json["name"] == "again"
    assert {reply.status for reply in replies} == {200}
    seen = [(reply.json["model"]["name"], reply.json["model"]["number"]) for reply in replies]
    assert {*seen} == {seen[0], ("again", number + 1)}
    for start in range(0, len(replies), len(texts)):
        found = [reply.json["predictions"][0] for reply in replies[start : start + len(texts)]]
        assert_same(found, expected, probabilities=False)


def test_requests_on_one_connection(server, predictor):
    """Keep-alive and pipelining: two requests in one write, answered in their order."""
    bodies = [json.dumps({"text": text}).encode() for text in ("a good film", "a dull book")]
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"
    ends = (b"", b"Connection: close\r\n")
    sent = b"".join(head % (len(body), end) + body for body, end in zip(bodies, ends, strict=True))
    with server.connected(sent) as connection:
        answers = received(connection)
    labels = [
        json.loads(part[part.index(b"{") :])["predictions"][0]["label"] for part in answers.split(b"HTTP/1.1")[1:]
    ]
    assert labels == [answer["label"] for answer in predictor(["a good film", "a dull book"])]


def test_nothing_compiles_once_it_is_ready(server):
    """Last in this file, after all kinds of requests: lengths from one word to more than the longest, lists and one."""
    before = server.metric("bertjax_compiles_total")
    for count in (1, 2, 7, 8, 9, 60, 250, 500):
        assert server.post("/predict", {"texts": random_texts(count, count)}).status == 200
        assert server.post("/embed", {"texts": random_texts(count, count)}).status == 200
    assert server.metric("bertjax_compiles_total") == before
