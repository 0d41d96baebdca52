"""`bertjax evaluate --intervals` and `--against`: files, words and refusals."""

import json

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from bertjax.cli.main import main
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.metrics.bootstrap import Interval, bootstrap_intervals, bootstrap_weights, verdict_of
from bertjax.metrics.classification_report import classification_report
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import make_model
from tests.support.models import TINY


@pytest.fixture
def evaluate(finished_run, capsys):
    def evaluate(data, *flags, model=finished_run.model_dir):
        status = main(["evaluate", "--model", str(model), "--data", str(data), *map(str, flags)])
        return status, *capsys.readouterr()

    return evaluate


@pytest.fixture(scope="module")
def other(tiny_model, tmp_path_factory):
    """An untrained model of the same labels in the other order, which does not clean its texts."""
    folder = tmp_path_factory.mktemp("other") / "model"
    model = make_model(TINY, "classification", ("good", "bad"))
    tokenizer = load_tokenizer(tiny_model)
    save_pretrained(folder, model, model.init(jax.random.PRNGKey(1)), tokenizer, preprocessing=Preprocessing())
    return folder


def test_draws_are_samples_of_as_many_rows_and_repeat():
    blocks = [np.concatenate(list(bootstrap_weights(300, 50, seed))) for seed in (0, 0, 1)]
    assert blocks[0].shape == (50, 300)
    assert (blocks[0].sum(axis=1) == 300).all()
    assert (blocks[0] == blocks[1]).all()
    assert (blocks[0] != blocks[2]).any()


def test_an_interval_is_that_of_scikit_learn_on_repeated_rows():
    rng = np.random.default_rng(0)
    labels, said = rng.integers(0, 3, (2, 90))
    report = classification_report(labels, said, ("a", "b", "c"))
    found = bootstrap_intervals(report.weighted, 90, 200, 0.9, 7)
    (weights,) = bootstrap_weights(90, 200, 7)
    repeated = [np.repeat(np.arange(90), of_draw) for of_draw in weights]
    scores = [f1_score(labels[rows], said[rows], average="macro") for rows in repeated]
    assert found["f1_macro"] == pytest.approx(np.quantile(scores, (0.05, 0.95)))


def test_a_metric_that_many_draws_leave_undefined_has_no_interval():
    logits = np.random.default_rng(0).normal(size=(60, 3))
    report = classification_report(np.array([0, 1] * 29 + [0, 2]), logits.argmax(axis=1), tuple("abc"), logits)
    found = bootstrap_intervals(report.weighted, 60, 200, 0.95, 0)
    assert np.isnan(found["class/c/roc_auc"].low)  # a third of the draws have no row of its class
    assert found["class/a/roc_auc"].low < found["class/a/roc_auc"].high


@pytest.mark.parametrize(
    ("interval", "better", "expected"),
    [
        ((0.1, 0.2), True, "A better"), ((0.1, 0.2), False, "B better"), ((-0.2, -0.1), True, "B better"),
        ((0.1, 0.2), None, "A higher"), ((-0.1, 0.2), True, "equal within noise"), ((0.0, 0.0), True, "equal"),
        ((np.nan, np.nan), True, "undefined"),
    ],
)  # fmt: skip
def test_verdicts(interval, better, expected):
    assert verdict_of(Interval(*interval), "A", "B", better) == expected


def test_intervals_in_files_and_words(evaluate, reviews, tmp_path):
    frame = pd.read_csv(reviews)
    frame.loc[::7, "stars"] = "good"
    frame.to_csv(tmp_path / "t.csv", index=False)
    flags = ("--intervals", "--draws", 200, "--bootstrap-seed", 3)
    status, shown, _ = evaluate(tmp_path / "t.csv", *flags, "--out", tmp_path / "a")
    assert status == 0
    assert "Confidence intervals" in shown
    assert evaluate(tmp_path / "t.csv", *flags, "--out", tmp_path / "b")[0] == 0
    metrics, again = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab")
    assert metrics == again
    for key in ("accuracy", "f1_macro", "class/bad/recall"):
        low, high = (metrics[f"test/interval/{key}_{side}"] for side in ("low", "high"))
        assert low <= metrics[f"test/{key}"] <= high
    assert metrics["test/interval/accuracy_low"] < metrics["test/interval/accuracy_high"]
    wide = evaluate(tmp_path / "t.csv", *flags, "--confidence", 0.5, "--out", tmp_path / "c")
    narrow = json.loads((tmp_path / "c" / "metrics.json").read_text())
    assert wide[0] == 0
    assert narrow["test/interval/accuracy_low"] > metrics["test/interval/accuracy_low"]


def test_one_row_has_no_interval(evaluate, reviews, other, tmp_path):
    pd.read_csv(reviews)[:1].to_csv(tmp_path / "t.csv", index=False)
    columns = ("--text-columns", "title", "body", "--label-column", "stars")
    flags = ("--intervals", "--against", other, *columns)
    status, shown, said = evaluate(tmp_path / "t.csv", *flags, "--out", tmp_path / "judged")
    assert (status, "Warning" in said) == (0, False)
    assert "undefined" in shown
    metrics = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    assert not any(key.endswith(("_low", "_high")) for key in metrics)
    assert "NaN" not in (tmp_path / "judged" / "metrics.json").read_text()


def test_two_models_on_the_rows_that_both_can_read(evaluate, reviews, other, tmp_path):
    """The first row has only markup: the trained model cleans it away, the other one reads it."""
    frame = pd.concat([pd.DataFrame([{"title": "<br>", "body": None, "stars": "good"}]), pd.read_csv(reviews)])
    frame.to_csv(tmp_path / "t.csv", index=False)
    columns = ("--text-columns", "title", "body", "--label-column", "stars")
    out, alone = tmp_path / "paired", tmp_path / "alone"
    status, shown, _ = evaluate(tmp_path / "t.csv", *columns, "--against", other, "--out", out)
    assert status == 0
    assert "A better" in shown
    assert evaluate(tmp_path / "t.csv", *columns, "--out", alone, model=other)[0] == 0

    def lines(folder, name="predictions.jsonl"):
        return [json.loads(line) for line in (folder / name).read_text().splitlines()]

    said, by_row = lines(out), {row["row"]: row for row in lines(alone)}
    pairs = [(one, by_row[one["row"]]) for one in said]
    disagreements = lines(out, "disagreements.jsonl")
    assert [(row["row"], row["true"], row["a"], row["b"]) for row in disagreements] == [
        (one["row"], one["true"], one["label"], two["label"]) for one, two in pairs if one["label"] != two["label"]
    ]
    metrics = json.loads((out / "metrics.json").read_text())
    right = [(one["label"] == one["true"], two["label"] == two["true"]) for one, two in pairs]
    difference = np.mean([a - b for a, b in np.array(right, int)])
    assert metrics["test/against/rows"] == 60
    assert metrics["test/against/accuracy_difference"] == pytest.approx(difference)
    assert metrics["test/against/accuracy_difference_low"] > 0
    only = right.count((True, False)), right.count((False, True))
    assert metrics["test/against/mcnemar_p"] == binomtest(only[0], sum(only)).pvalue


def test_a_model_against_itself_is_equal(evaluate, finished_run, reviews):
    status, shown, _ = evaluate(reviews, "--against", finished_run.model_dir, "--draws", 50)
    assert status == 0
    assert "A better" not in shown
    assert "B better" not in shown
    assert "0 of 0 rows on which they disagree" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--draws", "0"), "draws must be 1 or more, got 0"),
        (("--confidence", "2"), "confidence must be in (0, 1), got 2.0"),
        (("--confidence", "nan"), "confidence must be a finite number"),
        (("--bootstrap-seed", "-1"), "bootstrap_seed must not be negative"),
        (("--against", "/nowhere/model"), "/nowhere/model is not a folder"),
    ],
)
def test_flags_that_cannot_be(evaluate, reviews, flags, complaint):
    status, shown, said = evaluate(reviews, *flags)
    assert (status, shown, said.count("\n")) == (2, "", 1)
    assert complaint in said


@pytest.mark.parametrize(
    ("task", "labels", "complaint"),
    [
        ("classification", ("good", "awful"), "has other labels than --model"),
        ("multi_label", ("good", "bad"), "is a model of task multi_label, --model"),
    ],
)
def test_models_that_do_not_compare(evaluate, tiny_model, tmp_path, task, labels, complaint):
    """Told before a row is read."""
    model = make_model(TINY, task, labels)
    folder = save_pretrained(tmp_path / "model", model, model.init(jax.random.PRNGKey(0)), load_tokenizer(tiny_model))
    status, shown, said = evaluate(tmp_path / "nowhere.csv", "--against", folder)
    assert (status, shown, said.count("\n")) == (2, "", 1)
    assert complaint in said


def test_calibration_and_fallback_have_intervals_on_the_page_and_among_the_metrics(evaluate, reviews, tmp_path):
    out = tmp_path / "out"
    assert evaluate(reviews, "--intervals", "--threshold", "0.6", "--out", out)[0] == 0
    metrics = json.loads((out / "metrics.json").read_text())
    page = (out / "report.md").read_text()
    for key in (
        "calibration/ece",
        "calibration/brier",
        "fallback/f1_macro",
        "fallback/accuracy",
        "fallback/kept_share",
    ):
        low, high = (metrics[f"test/interval/{key}_{side}"] for side in ("low", "high"))
        assert low <= metrics[f"test/{key}"] <= high or key == "calibration/ece"  # which is biased upwards in draws
        assert f"{metrics[f'test/{key}']:.4f} ({low:.4f} to {high:.4f})" in page or key == "fallback/accuracy"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--label-column", "stars"), "--label-column is about labelled rows"),
        (("--delimiter", ";"), "--delimiter is about labelled rows"),
        (("--encoding", "latin-1"), "--encoding is about labelled rows"),
        (("--against", "other"), "--against is about labelled rows"),
        (("--intervals",), "--intervals is about labelled rows"),
        (("--no-automatic-slices",), "--no-automatic-slices is about labelled rows"),
        (("--slice-columns", "stars"), "--slice-columns is about labelled rows"),
        (("--label-issues",), "--label-issues is about labelled rows"),
        (("--fit-temperature",), "--fit-temperature is about labelled rows"),
        (("--explain", "2", "--out", "out"), "--explain is about labelled rows"),
        (("--tracking", "mlflow"), "--tracking records the files of a folder; name it with --out"),
    ],
)
def test_flags_that_mean_nothing_without_rows_are_refused(finished_run, capsys, in_folder, flags, named):
    (in_folder / "checks.yaml").write_text("checks: []\n")
    assert main(["evaluate", "--model", "nowhere", "--behaviour", "checks.yaml", *flags]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert named in complaint


def test_an_explanation_that_a_task_cannot_have_is_refused_before_the_rows_are_read(tiny_model, capsys, in_folder):
    model = make_model(TINY, "regression", ("score",))
    save_pretrained(in_folder / "model", model, model.init(jax.random.PRNGKey(0)), load_tokenizer(tiny_model))
    command = ["evaluate", "--model", "model", "--data", "nowhere.csv", "--explain", "1", "--out", "out"]
    assert main(command) == 2
    assert "--explain is for models that give a row one label; this one's task is regression" in capsys.readouterr().err
