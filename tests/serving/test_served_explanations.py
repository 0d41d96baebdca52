"""`"explain": true` of `POST /predict`: the weights of the words, within limits; other answers stay as they were."""

import pytest

from bertjax.inference.predictor import Predictor


def test_each_answer_has_its_explanation(server, finished_run):
    texts = ["the film was bad", "good <b> film"]
    reply = server.post("/predict", {"texts": texts, "explain": True})
    assert reply.status == 200
    expected = Predictor.load(finished_run.model_dir).explain(texts)
    for said, explanation in zip(reply.json["predictions"], expected, strict=True):
        weights = [[word.word, pytest.approx(word.weight, abs=1e-5)] for word in explanation.words]
        assert said["explanation"].pop("gap") == pytest.approx(explanation.gap, abs=1e-5)
        assert said["explanation"] == {
            "method": "integrated_gradients", "label": said["label"], "words": weights, "cut_words": 0
        }  # fmt: skip
    plain = server.post("/predict", {"texts": texts}).json["predictions"]
    assert [set(answer) for answer in plain] == [{"label", "probability"}] * 2


def test_a_row_of_columns_and_other_requests_compile_nothing(server):
    row = server.post("/predict", {"title": "the film", "body": "bad", "explain": True}).json["predictions"][0]
    assert [word for word, _ in row["explanation"]["words"]] == ["the", "film", "bad"]
    before = server.metric("bertjax_compiles_total")
    assert server.post("/predict", {"texts": ["a film"] * 9}).status == 200
    assert server.post("/predict", {"text": "a good film", "explain": True}).status == 200
    assert server.metric("bertjax_compiles_total") == before


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"texts": ["a"] * 9, "explain": True}, 413, "asks to explain 9 texts; the most is 8"),
        ({"text": " ", "explain": True}, 422, "text 1 is empty"),
        ({"text": "a", "explain": "yes"}, 422, "body.explain"),
    ],
)
def test_beyond_the_limits(server, body, status, detail):
    reply = server.post("/predict", body)
    assert reply.status == status
    assert detail in reply.json["detail"]


def test_the_description_names_it(server):
    described = server.get("/openapi.json").json["components"]["schemas"]["PredictRequest"]["properties"]["explain"]
    assert (described["type"], described["default"]) == ("boolean", False)
