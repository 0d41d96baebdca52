"""A predictor says what the run that made its model said, whatever is asked at once, and compiles a few shapes."""

from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest

import bertjax
from bertjax.batch import padded_batch
from bertjax.config import read_config_json
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.encode.tokenize import tokenize
from bertjax.data.rows.label_vocabulary import class_indices
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.data.split.read_splits import read_splits
from bertjax.data.table import Table
from bertjax.data.task_formats.sequence_formats import CLASSIFICATION
from bertjax.errors import ConfigError, DataError
from bertjax.inference.loaded_model import LoadedModel
from bertjax.inference.predictor import Predictor
from bertjax.metrics.classification_report import classification_report
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.model_folder.stored_settings import stored_preprocessing
from bertjax.prediction.batcher import bucketed_batches, one_shape_batches
from bertjax.tasks import TASKS, find_postprocess, make_model
from tests.support.models import TINY

ATOL = 1e-6  # float32, other rows beside an example: sums in another order


@pytest.fixture(scope="module")
def predictor(finished_run):
    return bertjax.Predictor.load(finished_run.model_dir)


def test_the_logits_of_the_runs_own_evaluation(finished_run, predictor, reviews):
    cleaned = Table(str(reviews), text=("title", "body"), label="stars", steps=("strip_markup",))
    rows = read_splits(cleaned, CLASSIFICATION).test
    model, params = from_pretrained(finished_run.model_dir)
    labels = class_indices(rows.labels, model.labels, "reviews")
    examples = tokenize(load_tokenizer(finished_run.model_dir), rows.texts, None, labels, 10)
    assert examples.truncated > 0
    expected = np.empty((len(rows.texts), 2), np.float32)
    for packed_batch in one_shape_batches(examples, 1):
        logits = np.asarray(model.apply(params, None, packed_batch.batch).logits)
        real = packed_batch.example_ids >= 0
        expected[packed_batch.example_ids[real]] = logits[real]

    raw = read_splits(replace(cleaned, steps=()), CLASSIFICATION).test
    found = predictor.logits([f"<b>{text}</b>" for text in raw.texts])
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)
    report = classification_report(labels, found.argmax(axis=-1), model.labels)
    assert report.flat("test").items() <= dict(finished_run.metrics).items()


def test_rows_are_joined_as_in_training(finished_run, predictor, reviews):
    """Mappings and frames, with empty cells and whatever other columns; no row is lost, not even an emptied one."""
    saved = stored_preprocessing(read_config_json(finished_run.model_dir))
    assert saved.steps == ("join", "strip_markup", "drop_empty", "drop_duplicates")
    assert (saved.text, predictor.columns) == (("title", "body"), ("title", "body"))
    frame = pd.read_csv(reviews)[["stars", "body", "title"]]
    frame.loc[3, "body"] = None
    frame.loc[4, ["title", "body"]] = "<br>", None
    frame.loc[5] = frame.loc[6]
    cells = zip(frame.title, frame.body, strict=True)
    joined = [" ".join(cell for cell in both if isinstance(cell, str)) for both in cells]
    expected = predictor.logits(joined)
    assert len(expected) == len(frame)
    np.testing.assert_array_equal(predictor.logits(frame), expected)
    np.testing.assert_array_equal(predictor.logits(frame.to_dict("records")), expected)
    assert np.abs(predictor.logits(frame.body.fillna(".").tolist()) - expected).max() > 10 * ATOL


def test_what_it_says_of_a_text(predictor):
    good, bad = predictor(["the song good and great .", "the song bad and dull ."])
    assert (good["label"], bad["label"]) == ("good", "bad")
    assert good["probabilities"]["good"] == good["probability"] > 0.5
    assert sum(good["probabilities"].values()) == pytest.approx(1)
    assert predictor([]) == []


def test_a_text_alone_and_among_many_longer_ones(predictor):
    texts = ["good", *[" ".join(["the plot was dull"] * (i % 9)) or "." for i in range(300)]]
    np.testing.assert_allclose(predictor.logits(texts)[0], predictor.logits(["good"])[0], atol=ATOL, rtol=0)


def test_a_pair_is_two_segments(finished_run, predictor):
    model, params = from_pretrained(finished_run.model_dir)
    encoded = load_tokenizer(finished_run.model_dir)("good film", "bad plot", return_tensors="np")
    batch = padded_batch(
        attention_mask=encoded["attention_mask"],
        token_ids=encoded["input_ids"],
        token_type_ids=encoded["token_type_ids"],
    )
    expected = model.apply(params, None, batch).logits[0]
    np.testing.assert_allclose(predictor.logits([("good film", "bad plot")]), expected, atol=ATOL, rtol=0)
    assert np.abs(predictor.logits(["good film bad plot"]) - expected).max() > 10 * ATOL
    tokenizer = load_tokenizer(finished_run.model_dir)
    of_columns = Preprocessing(("join",), text=("a",), text_pair=("b", "c"))
    row = {"a": "good film", "b": "bad", "c": "plot"}
    table = Table(text=("a",), text_pair=("b", "c"))
    found = Predictor(LoadedModel(model, params, tokenizer, of_columns, 48, table)).logits([row])
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)
    with pytest.raises(DataError, match="saved without the names of its columns; give texts instead of rows"):
        Predictor(LoadedModel(model, params, tokenizer)).logits([row])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("what a film", r"takes a list of texts; give \['what a film'\]"),
        (["a", None], "text 2 must be a string, a pair of strings or a row of columns, got None"),
        (["a", ("b", "c")], "1 of 2 texts are pairs"),
        ([("a", "b", "c")], "text 1 must be a string, a pair"),
        (["a", {"title": "b"}], "row 2 has no 'body'; the model reads 'title', 'body' .None stands for an empty cell"),
        ([{"title": None, "body": " "}], "row 1 has no text in title and body"),
        ([{"title": 3, "body": " "}], "row 1 holds 3 .int. in column 'title', which must hold text"),
    ],
)
def test_what_is_no_text(predictor, texts, message):
    with pytest.raises(DataError, match=message):
        predictor(texts)


def test_a_model_that_says_nothing_of_a_text(tiny_model):
    predictor = Predictor.load(tiny_model)
    for ask in (predictor, predictor.logits, predictor.prepare):
        with pytest.raises(ConfigError, match="a model of task 'encoder' does not predict texts; those of classific"):
            ask(["a film"])


def test_any_request_has_one_of_a_few_shapes():
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(40):
        lengths = rng.integers(2, 1 + int(rng.choice([20, 100, 500])), size=int(rng.choice([1, 5, 40, 300])))
        tokens = int(lengths.sum())
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        examples = Examples(np.ones(tokens, np.int32), np.zeros(tokens, np.int32), offsets, np.zeros(len(lengths)), 0)
        seen = []
        for packed_batch in bucketed_batches(examples, 1):
            shapes.add((*packed_batch.batch.token_ids.shape, packed_batch.batch.labels.shape[1]))
            seen += packed_batch.example_ids[packed_batch.example_ids >= 0].tolist()
        assert sorted(seen) == list(range(len(lengths)))
    assert len(shapes) <= 15


def test_several_labels_and_numbers(tmp_path, tiny_model):
    for task in ("multi_label", "regression"):
        model = make_model(TINY, task, ("plot", "song"))
        params = model.init(jax.random.PRNGKey(1))
        folder = save_pretrained(tmp_path / task, model, params, load_tokenizer(tiny_model))
        (said,) = Predictor.load(folder)(["a film"])
        assert set(said) == set(find_postprocess(task).columns)
        logits = Predictor.load(folder).logits(["a film"])[0]
        if task == "regression":
            assert said["values"] == dict(zip(("plot", "song"), logits.tolist(), strict=True))
        else:
            assert said["labels"] == [name for name, logit in zip(("plot", "song"), logits, strict=True) if logit > 0]
            assert list(said["probabilities"].values()) == pytest.approx((1 / (1 + np.exp(-logits))).tolist())


CONTEXT = "it was a great film and the song was good"
QUESTIONS = {
    "token_classification": ["the film was good", ["what", "a", "film"], "book " * 30],
    "question_answering": [("what was good ?", CONTEXT), ("who ?", "it " * 60 + CONTEXT)],
    "multiple_choice": [
        ("what was it ?", ["a film", "a very dull book", "a song"]),
        ("who ?", '["good", "bad", "so"]'),
    ],
    "next_sentence": [("it was good", "and great"), ("what ?", "a film")],
    "sentence_embedding": [("a film", "the film"), ("a song", "a song")],
}


@pytest.mark.parametrize("task", QUESTIONS)
def test_an_answer_in_words_to_every_text(tmp_path, tiny_model, task):
    model = make_model(TINY, task, ("good", "bad") if TASKS[task].names else ())
    params = model.init(jax.random.PRNGKey(3))
    predictor = Predictor(LoadedModel(model, params, load_tokenizer(tiny_model), max_length=24))
    answers = predictor(QUESTIONS[task])
    assert [set(answer) for answer in answers] == [set(find_postprocess(task).columns)] * len(QUESTIONS[task])
    alone = [predictor([question])[0] for question in QUESTIONS[task]]
    for answer, expected in zip(answers, alone, strict=True):
        numbers = {key for key, value in answer.items() if isinstance(value, float)}
        assert {key: answer[key] for key in numbers} == pytest.approx({key: expected[key] for key in numbers}, abs=1e-5)
        assert {key: answer[key] for key in set(answer) - numbers - {"probabilities"}}.items() <= expected.items()
    if task == "token_classification":
        assert [len(answer["labels"]) for answer in answers] == [4, 3, 30]
        assert {label for answer in answers for label in answer["labels"]} <= {"good", "bad"}
    if task == "question_answering":
        assert all(
            answer["answer"] and answer["answer"] in context
            for answer, (_, context) in zip(answers, QUESTIONS[task], strict=True)
        )
    if task == "multiple_choice":
        assert answers[0]["candidate"] == QUESTIONS[task][0][1][answers[0]["index"]]
    if task == "sentence_embedding":
        assert answers[1]["cosine"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("token_classification", ("a", "b"), "text 1 must be a string, a list of words or a row of columns"),
        ("question_answering", "who ?", "text 1 must be a pair of strings or a row of columns, got 'who [?]'"),
        ("multiple_choice", ("who ?", ["one"]), "text 1 has 1 of the two candidates or more"),
        ("multiple_choice", "who ?", "text 1 must be a pair of a string and a list of candidates"),
    ],
)
def test_a_text_that_the_task_cannot_read(tiny_model, task, text, message):
    model = make_model(TINY, task, ("good", "bad") if TASKS[task].names else ())
    predictor = Predictor(LoadedModel(model, model.init(jax.random.PRNGKey(3)), load_tokenizer(tiny_model)))
    with pytest.raises(DataError, match=message):
        predictor([text])
