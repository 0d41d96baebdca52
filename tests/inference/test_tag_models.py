"""Models of word labels from training to prediction: their scheme stays with them, and what is lost is told."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from bertjax.data.table import Table
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.inference.predictor import Predictor
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer

LOST = "\u200b"
SENTENCES = [
    (["the", "film", LOST, "good"], ["O", "B-X", "E-X", "O"]),
    (["a", "book", "was", "bad"], ["O", "S-Y", "O", -100]),
    ([LOST], ["S-X"]),
    (["the", "plot", "song", "book"], ["O", "B-Y", "I-Y", "E-Y"]),
]
ROWS = [
    {"tokens": [*words, *["so"] * count], "ner_tags": [*tags, *["O"] * count]}
    for count in range(6)
    for words, tags in SENTENCES
]


def written(path: Path, rows: list[dict]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def config_of(tiny_model: Path, folder: Path, **settings: object) -> FineTuneConfig:
    source = written(folder / "train.jsonl", ROWS)
    table = Table(source, validation=source, test=source, leaks="report", **settings)
    return FineTuneConfig(
        str(tiny_model), table, "token_classification", max_length=16, epochs=1, optimizer=Optimizer(learning_rate=1e-2)
    )


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """A run on bioes tags, some of them of words that the tokenizer loses, and some words without a label."""
    folder = tmp_path_factory.mktemp("bioes")
    return finetune(config_of(tiny_model, folder), folder / "run", tracker=MemoryTracker()), folder


def test_the_scheme_is_stored_and_used_again(run):
    result, folder = run
    stored = json.loads((result.model_dir / "config.json").read_text())
    assert stored["bertjax"]["reading"]["data.tag_scheme"] == "bioes"
    assert stored["label2id"].keys() == {f"{letter}-{kind}" for letter in "BIES" for kind in "XY"} | {"O"}
    again = evaluate(str(result.model_dir), str(folder / "train.jsonl"))
    assert again.table.tag_scheme == "bioes"
    assert again.report.flat("test").items() <= result.metrics.items()
    assert again.report.summary.endswith("2 types of entities (bioes)")
    only_o = evaluate(str(result.model_dir), written(folder / "o.jsonl", [{"tokens": ["a"], "ner_tags": ["O"]}]))
    assert "f1" in only_o.report.metrics


def test_what_is_lost_is_counted_and_told(run, caplog):
    result, folder = run
    # Each of three tables has twelve lost words, one of them alone in its sentence, and six -100.
    assert {name: result.metrics[f"data/{name}"] for name in ("lost_words", "unlabelled_words", "empty_texts")} == {
        "lost_words": 3 * 12, "unlabelled_words": 3 * 6, "empty_texts": 3,
    }  # fmt: skip
    page = (result.folder / "report.html").read_text()
    assert "labelled words of which it makes none" in page
    assert "words marked -100" in page
    caplog.set_level(logging.WARNING)
    evaluation = evaluate(str(result.model_dir), str(folder / "train.jsonl"))
    assert "12 labelled words of which it makes none" in caplog.text
    assert "6 words marked -100" in caplog.text
    assert evaluation.report.table is not None
    support = {name: scores[-1] for name, scores in evaluation.report.table.rows}
    assert support == {"X": 12, "Y": 12}


def test_every_word_is_answered(run):
    result, folder = run
    predictor = Predictor.load(result.model_dir)
    answers = [answer["labels"] for answer in predictor([row["tokens"] for row in ROWS])]
    assert [len(labels) for labels in answers] == [len(row["tokens"]) for row in ROWS]
    lost = {
        label
        for row, labels in zip(ROWS, answers, strict=True)
        for word, label in zip(row["tokens"], labels, strict=True)
        if word == LOST
    }
    assert lost == {"O"}
    predictions = evaluate(str(result.model_dir), str(folder / "train.jsonl")).predictions()
    assert [prediction["labels"] for prediction in predictions] == answers
    assert predictions[1]["true"] == ("O", "S-Y", "O", None)


def test_a_model_saved_without_a_scheme_is_judged_by_its_labels(run, tmp_path):
    """As every model of an earlier version was."""
    result, folder = run
    shutil.copytree(result.model_dir, tmp_path / "old")
    stored = json.loads((tmp_path / "old" / "config.json").read_text())
    del stored["bertjax"]["reading"]["data.tag_scheme"]
    (tmp_path / "old" / "config.json").write_text(json.dumps(stored))
    old = evaluate(str(tmp_path / "old"), str(folder / "train.jsonl"))
    assert old.report.metrics == evaluate(str(result.model_dir), str(folder / "train.jsonl")).report.metrics
    only_o = evaluate(str(tmp_path / "old"), written(tmp_path / "o.jsonl", [{"tokens": ["a"], "ner_tags": ["O"]}]))
    assert only_o.report.metrics["f1"] == 0
    assert Predictor.load(tmp_path / "old")([["the", LOST]])[0]["labels"][1] == "O"


def test_without_a_scheme_there_is_no_f1_of_entities(run):
    """The first metric, by which checkpoints are compared, is the accuracy, and the summary says what was judged."""
    result, folder = run
    evaluation = evaluate(str(result.model_dir), str(folder / "train.jsonl"), {"tag_scheme": "none"})
    assert "f1" not in evaluation.report.metrics
    assert next(iter(evaluation.report.metrics)) == "accuracy"
    assert "labels that mark no entities, judged word by word" in evaluation.report.summary
    assert evaluation.report.metrics["accuracy"] == pytest.approx(result.metrics["test/accuracy"])
