"""What is written of a model's answers: columns, thresholds, rules, entities, vectors."""

import json

import jax
import numpy as np
import pandas as pd
import pytest

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.errors import ConfigError, DataError
from bertjax.inference.batch.row_answers import Request
from bertjax.inference.decision_rule import DecisionRule
from bertjax.inference.predictor import Predictor
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import make_model
from bertjax.tasks.postprocess import AnswerOptions
from tests.support.models import TINY

ATOL = 1e-6
COLUMNS = ["id", "title", "body"]


def test_no_answer_overwrites_a_column(predict, reviews, tmp_path):
    frame = pd.read_csv(reviews).rename(columns={"stars": "label"})
    frame.to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(ConfigError, match="a column 'label' themselves; --prefix predicted_ names the answers"):
        predict(tmp_path / "in.csv", "out.csv")
    predict(tmp_path / "in.csv", "out.csv", request=Request(prefix="predicted_"))
    found = pd.read_csv(tmp_path / "out.csv")
    assert found.columns.tolist() == ["title", "body", "label", "predicted_label", "predicted_probability"]
    pd.testing.assert_frame_equal(found[frame.columns], frame)
    assert (found["label"] == found["predicted_label"]).mean() > 0.9
    frame.rename(columns={"label": "top"}).to_csv(tmp_path / "top.csv", index=False)
    with pytest.raises(ConfigError, match="'top' themselves"):
        predict(tmp_path / "top.csv", "top-out.csv", request=Request(AnswerOptions(top_k=2)))


def test_a_threshold_and_a_rule(predict, many, predictor, tmp_path):
    """A rule gets the model's answers and all cells of their rows."""
    options = AnswerOptions(threshold=0.95)
    predict(many, "out.csv", request=Request(options))
    rows = pd.read_csv(many, dtype=str)
    found = pd.read_csv(tmp_path / "out.csv")
    assert found[["label", "predicted"]].to_dict("records") == [
        {name: answer[name] for name in ("label", "predicted")} for answer in predictor(rows, options)
    ]

    rule = DecisionRule("rule.py", "def decide(prediction, row):\n    return f\"{prediction['label']} {row['id']}\"\n")
    predict(many, "ruled.csv", request=Request(rule=rule))
    labels = [answer["label"] for answer in predictor(rows)]
    assert pd.read_csv(tmp_path / "ruled.csv")["label"].tolist() == [
        f"{label} {i:04d}" for i, label in enumerate(labels)
    ]

    late = DecisionRule(
        "rule.py", "def decide(prediction, row):\n    return {'late': 1} if row['id'] > '0050' else {}\n"
    )
    with pytest.raises(DataError, match="an answer has 'late'"):
        predict(many, "late.csv", request=Request(rule=late))


@pytest.mark.parametrize("out", ["out.csv", "out.jsonl", "out.parquet"])
def test_vectors(predict, many, predictor, tmp_path, out):
    predict(many, out, request=Request(embeddings=True))
    expected = predictor.embed(pd.read_csv(many, dtype=str))
    if out.endswith("parquet"):
        found = [list(vector) for vector in pd.read_parquet(tmp_path / out)["embedding"]]
    elif out.endswith("csv"):
        found = pd.read_csv(tmp_path / out)["embedding"].map(json.loads).tolist()
    else:
        found = [json.loads(line)["embedding"] for line in (tmp_path / out).read_text().splitlines()]
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)


def test_a_rule_that_fails_is_told_with_its_row(predict, many, tmp_path):
    code = "def decide(prediction, row):\n    return {}[row['id']] if row['id'] > '0050' else 'a'\n"
    rule = DecisionRule("rule.py", code)
    with pytest.raises(DataError, match=r"many.csv: line 53: rule.py line 2: KeyError"):
        predict(many, "out.csv", request=Request(rule=rule))


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory, tiny_model):
    """(task, labels) -> a model folder with first parameters, saved without columns."""

    def folder_of(task, labels=(), **settings):
        folder = tmp_path_factory.mktemp(task)
        network = make_model(TINY, task, labels)
        params = network.init(jax.random.PRNGKey(1))
        save_pretrained(folder / "model", network, params, load_tokenizer(tiny_model), **settings)
        return folder / "model"

    return folder_of


def test_entities_are_places_in_the_cell(predict, folder_of, tmp_path):
    """Words of a text are parted by white space, of a list as they are; many tokens, so windows."""
    model = folder_of("token_classification", ("O", "B-FILM", "I-FILM"), reading={"data.tag_scheme": "bio"})
    texts = ["the  good\tfilm was dull", "a book", "so the plot " * 40]
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "in.csv", index=False)
    predict(tmp_path / "in.csv", "out.jsonl", model=str(model), request=Request(entities=True))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["entities"] for row in rows] == [answer["entities"] for answer in Predictor.load(model)(texts)]
    entities = [(row["text"], entity) for row in rows for entity in row["entities"]]
    assert entities
    assert all(text[entity["start"] : entity["end"]] == entity["text"] for text, entity in entities)
    predict(tmp_path / "in.csv", "out.parquet", model=str(model), request=Request(entities=True), rows_per_part=1)
    found = pd.read_parquet(tmp_path / "out.parquet")["entities"]
    assert [list(of_row) for of_row in found] == [row["entities"] for row in rows]


def test_single_texts_have_vectors_where_pairs_have_answers(predict, folder_of, tmp_path):
    model = folder_of("sentence_embedding")
    frame = pd.DataFrame({"text": ["the film", "a book", ""], "other": ["a film", "so", "what"]})
    frame.to_csv(tmp_path / "in.csv", index=False)
    skip = {"model": str(model), "columns": {"on_bad_row": "skip"}}
    predict(tmp_path / "in.csv", "out.parquet", **skip, request=Request(embeddings=True))
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert found.columns.tolist() == ["text", "other", "embedding"]
    np.testing.assert_allclose(
        np.stack(found["embedding"]), Predictor.load(model).embed(frame["text"][:2].tolist()), atol=ATOL
    )
    pairs = {"model": str(model), "columns": {"on_bad_row": "skip", "text_pair": ("other",)}}
    predict(tmp_path / "in.csv", "out.csv", **pairs)
    assert pd.read_csv(tmp_path / "out.csv").columns.tolist() == ["text", "other", "cosine"]


def test_a_bare_encoder_gives_vectors_alone(predict, many, tiny_model, tmp_path):
    encoder = {"model": str(tiny_model), "columns": {"text": ("body",)}}
    predict(many, "out.parquet", **encoder, request=Request(embeddings=True))
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert found.columns.tolist() == [*COLUMNS, "embedding"]
    expected = Predictor.load(tiny_model).embed(found["body"].tolist())
    np.testing.assert_allclose(np.stack(found["embedding"]), expected, atol=ATOL)
    with pytest.raises(ConfigError, match="says nothing of a text in words; --embeddings writes its vectors"):
        predict(many, "none.csv", **encoder)
    with pytest.raises(ConfigError, match="writes vectors alone; leave out other answers"):
        predict(many, "top.csv", **encoder, request=Request(AnswerOptions(top_k=2), embeddings=True))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(entities=True), "--entities: a model of task 'classification' gives none"),
        (Request(AnswerOptions(threshold=2.0)), "--threshold 2.0 is no probability"),
    ],
)
def test_what_a_task_does_not_give_is_one_line(predict, many, tmp_path, request_, message):
    with pytest.raises(ConfigError, match=message):
        predict(many, "out.csv", request=request_)
    assert not list(tmp_path.iterdir())
