"""`bertjax evaluate`: the model's folder has the table's settings; metrics, predictions and the model agree."""

import csv
import json
from pathlib import Path

import jax
import pandas as pd
import pytest

from bertjax.cli.main import main
from bertjax.config import read_config_json
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.split.labelled_table import preprocessing_of
from bertjax.data.table import Table
from bertjax.data.table_reading import TableReading
from bertjax.inference.predictor import Predictor
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.model_folder.stored_settings import stored_reading
from bertjax.tasks import make_model
from tests.support.models import TINY, WORDS
from tests.support.pages import table_rows
from tests.support.tables import splits_of


@pytest.fixture
def evaluate(finished_run, tmp_path, capsys):
    """(table, flags...) -> status, stdout, stderr."""

    def evaluate(data, *flags, model=finished_run.model_dir):
        status = main(["evaluate", "--model", str(model), "--data", str(data), *flags])
        return status, *capsys.readouterr()

    return evaluate


def test_metrics_predictions_and_report(evaluate, finished_run, reviews, tmp_path):
    """One row has only markup, which the model's preprocessing removes: it is left out, and the others keep their
    numbers."""
    frame = pd.concat([pd.DataFrame([{"title": "<br>", "body": None, "stars": "good"}]), pd.read_csv(reviews)])
    frame.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "judged"
    status, shown, _ = evaluate(tmp_path / "table.csv", "--out", str(out))
    assert status == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert f"test: accuracy {metrics['test/accuracy']:.4f}" in shown
    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [prediction["row"] for prediction in predictions] == list(range(2, 62))
    right = [prediction["label"] == prediction["true"] for prediction in predictions]
    assert sum(right) / len(right) == metrics["test/accuracy"]
    said = Predictor.load(finished_run.model_dir)([prediction["text"] for prediction in predictions])
    assert [prediction["label"] for prediction in predictions] == [answer["label"] for answer in said]
    page = (out / "report.html").read_text()
    assert "Rows by true and predicted label" in page or "Rows of the table by true" in page
    assert ["rows in which the preprocessing left no text", "1"] in table_rows(page)
    assert "Training" not in page

    renamed = frame.rename(columns={"title": "t", "body": "b", "stars": "s"}).to_json(orient="records", lines=True)
    (tmp_path / "other.jsonl").write_text(renamed)
    flags = ("--text-columns", "t", "b", "--label-column", "s", "--out", str(out))
    status, _, complaint = evaluate(tmp_path / "other.jsonl", *flags)
    assert (status, complaint) == (2, f"bertjax: --out {out} is not empty; --overwrite replaces it\n")
    assert evaluate(tmp_path / "other.jsonl", *flags, "--overwrite")[0] == 0
    assert json.loads((out / "metrics.json").read_text()) == metrics


def test_a_table_is_read_in_the_dialect_that_the_flags_name(evaluate, reviews, tmp_path):
    """Its own dialect, since the training rows' is that of another file."""
    frame = pd.read_csv(reviews)
    plain, other = tmp_path / "plain.csv", tmp_path / "other.csv"
    frame.to_csv(plain, index=False)
    frame.assign(title='"' + frame["title"]).to_csv(other, index=False, sep="~", quoting=csv.QUOTE_NONE)
    status, shown, _ = evaluate(plain)
    assert status == 0
    assert evaluate(other, "--delimiter", "~", "--quoting", "off")[0] == 0
    assert "--quoting off" in evaluate(other, "--delimiter", "~")[2]
    frame.to_csv(other, index=False, quoting=csv.QUOTE_NONE, escapechar="\\")
    assert evaluate(other, "--escape", "\\")[1] == shown
    assert "delimiter must be one character" in evaluate(other, "--delimiter", "::")[2]


def test_rows_of_another_language_are_told(evaluate, tmp_path):
    rows = ["title,body,stars", "хороший фильм,и good,good", "плохая книга,и bad,bad"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    status, _, shown = evaluate(tmp_path / "t.csv", "--out", str(tmp_path / "judged"))
    assert status == 0
    assert f"{tmp_path}/t.csv: 75% of the tokens are [UNK], which the model's vocabulary does not have" in shown


def test_user_errors_are_one_line(evaluate, reviews, tiny_model, tmp_path, monkeypatch):
    strange, out = tmp_path / "strange.csv", str(tmp_path / "judged")
    strange.write_text("title,body,stars\nthe film,good .,superb\nthe book,bad .,bad\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/empty.db")
    wrong = {
        "has labels that training never saw: 'superb'; training has 'bad', 'good'": evaluate(strange, "--out", out),
        "has no column 'verdict'": evaluate(reviews, "--label-column", "verdict"),
        "task 'encoder' cannot be": evaluate(reviews, model=tiny_model),
        "models:/reviews@champion is not in": evaluate(reviews, model="models:/reviews@champion"),
        "nowhere.csv": evaluate(tmp_path / "nowhere.csv"),
    }
    for complaint, (status, _, shown) in wrong.items():
        assert status == 2
        assert complaint in shown.splitlines()[-1]
        assert shown.count("bertjax:") == 1
    assert not Path(out).exists()


READINGS = {
    "multi_label": (
        {"labels": [str([i % 2, 0, i % 3 % 2]) for i in range(20)]},
        {"label_names": ("odd", "none", "third")},
        {"data.label": "labels", "data.labels_as": "flags", "data.label_names": ["odd", "none", "third"]},
        [[], ["odd", "third"], []],
    ),
    "multiple_choice": (
        {"A": ["2"] * 20, "B": ["3"] * 20, "C": ["1"] * 20, "answer": [i % 3 + 1 for i in range(20)]},
        {"text": ("text",), "candidates": ("A", "B", "C"), "answer_as": "index1"},
        {"data.label": "answer", "data.candidates": ["A", "B", "C"], "data.answer_as": "index1"},
        [0, 1, 2],
    ),
    "classification": (
        {"label": [["1", "1.0", "2"][i % 3] for i in range(20)]},
        {"label_spelling": "merge"},
        {"data.label_spelling": "merge"},
        ["1", "1", "2"],
    ),
}


@pytest.mark.parametrize("task", READINGS)
def test_rows_are_read_by_the_rules_of_training(in_folder, tiny_model, capsys, task):
    """Alone, the table to judge could be read otherwise."""
    columns, settings, reading, true = READINGS[task]
    frame = pd.DataFrame({"text": [f"a {word}" for word in WORDS[5:25]], **columns})
    frame.to_csv("train.csv", index=False)
    frame[:3].to_csv("test.csv", index=False)
    splits = splits_of(Table("train.csv", **settings), task)
    model = make_model(TINY, task, splits.vocabulary)
    save_pretrained(
        "model", model, model.init(jax.random.PRNGKey(0)), load_tokenizer(tiny_model),
        preprocessing=preprocessing_of(splits.table), max_length=16,
        reading=TableReading(splits.table).stored(),
    )  # fmt: skip
    assert stored_reading(read_config_json(Path("model"))) == reading
    assert main(["evaluate", "--model", "model", "--data", "test.csv", "--out", "judged"]) == 0
    lines = Path("judged/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["true"] for line in lines] == true
    capsys.readouterr()
