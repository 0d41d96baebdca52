"""Temperature, from validation rows or `bertjax evaluate`, in the model's folder, and in every probability after it."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bertjax.cli.main import main
from bertjax.config import read_config_json
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.table import Table
from bertjax.errors import ConfigError
from bertjax.evaluation.calibration import find_calibration, fitted_fallback
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.inference.loaded_model import load_model
from bertjax.inference.predictor import Predictor
from bertjax.metrics.reliability import calibration_error, fit_temperature
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.model_folder.stored_settings import save_temperature, stored_temperature
from bertjax.report_pages.blocks import DataTable, Figure
from bertjax.tasks import make_model
from bertjax.tasks.postprocess import logistic, softmax
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.validation_fits import ValidationFits
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer
from tests.support.models import TINY

TEXTS = ["the film was good .", "a dull book", "so what", "not a great song"]
PAIRS = [(text, other) for text, other in zip(TEXTS, reversed(TEXTS), strict=True)]
CHOICES = [(text, ["good", "bad and dull", "a film"]) for text in TEXTS]


@pytest.fixture(scope="module")
def folder_of(tiny_model, tmp_path_factory):
    """(task, labels) -> a folder of a model with sharp logits that know nothing."""

    def folder_of(task="classification", labels=("bad", "good")):
        model = make_model(TINY, task, labels)
        params = model.init(jax.random.PRNGKey(1))
        head = "next_sentence" if task == "next_sentence" else "classifier"
        params[head]["w"] = params[head]["w"] * 300
        target = tmp_path_factory.mktemp("models") / "model"
        reading = {"data.text": ["title", "body"], "data.label": "stars"}
        return save_pretrained(target, model, params, load_tokenizer(tiny_model), reading=reading)

    return folder_of


@pytest.fixture
def table(reviews, tmp_path):
    """Half of the labels are wrong, so that whatever is sure must be less so."""
    frame = pd.read_csv(reviews)
    frame["stars"] = np.random.default_rng(0).choice(["good", "bad"], len(frame))
    frame.to_csv(tmp_path / "table.csv", index=False)
    return str(tmp_path / "table.csv")


@pytest.fixture
def command(capsys):
    def command(*words):
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return command


COLUMNS = ("--text-columns", "title", "body", "--label-column", "stars")


@pytest.mark.parametrize(
    ("task", "labels", "texts", "expected"),
    [
        ("classification", ("bad", "good", "so"), TEXTS, softmax),
        ("multi_label", ("bad", "good", "so"), TEXTS, logistic),
        ("next_sentence", (), PAIRS, softmax),
        ("multiple_choice", (), CHOICES, softmax),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_temperature_changes_probabilities_and_no_label(folder_of, task, labels, texts, expected):
    folder = folder_of(task, labels)
    before = Predictor.load(folder)
    plain, logits = before(texts), before.logits(texts)
    save_temperature(folder, 2.5)
    after = Predictor.load(folder)
    said = after(texts)
    np.testing.assert_array_equal(after.logits(texts), logits)
    probabilities = expected(logits.astype(np.float64) / 2.5)
    for i, (answer, other) in enumerate(zip(said, plain, strict=True)):
        of_labels = answer.get("probabilities")
        if of_labels is None:
            assert answer["probability"] == pytest.approx(probabilities[i].max())
        else:
            assert list(of_labels.values()) == pytest.approx(probabilities[i].tolist())
        for key in ("label", "labels", "candidate"):
            assert answer.get(key) == other.get(key)
        assert answer != other


@pytest.mark.parametrize(
    ("task", "temperature", "complaint"),
    [
        ("classification", 0, "bertjax.temperature must be a number above 0, got 0"),
        ("classification", -1.5, "must be a number above 0, got -1.5"),
        ("classification", "hot", "must be a number above 0, got 'hot'"),
        ("classification", True, "must be a number above 0, got True"),
        ("classification", None, "must be a number above 0, got None"),
        ("classification", float("nan"), "must be a number above 0, got nan"),
        ("classification", float("inf"), "must be a number above 0, got inf"),
        ("regression", 1.5, "bertjax.temperature means nothing for task 'regression'"),
    ],
)
def test_a_temperature_that_cannot_be(folder_of, command, task, temperature, complaint):
    folder = folder_of(task)
    stored = json.loads((folder / "config.json").read_text())
    stored["bertjax"]["temperature"] = temperature
    (folder / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ConfigError, match="temperature"):
        load_model(folder)
    status, _, said = command("evaluate", "--model", folder, "--data", "nowhere.csv")
    assert (status, said.count("\n")) == (2, 1)
    assert complaint in said


def test_fitted_by_evaluate_and_saved(folder_of, table, command, tmp_path):
    """The same as by the function itself; all else in the folder stays; the next evaluation has what was promised."""
    folder = folder_of()
    judged = evaluate(str(folder), table, {"text": ("title", "body"), "label": "stars"}).judged
    expected = fit_temperature(judged.scores, judged.examples.labels)
    others = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "config.json"}
    before = read_config_json(folder)
    model = ("evaluate", "--model", folder, "--data", table, *COLUMNS)
    status, shown, _ = command(*model, "--fit-temperature", "--save-temperature", "--out", tmp_path / "fit")
    assert status == 0
    assert f"temperature {expected:g} in the place of 1 changes ECE from" in shown
    assert "judged by the same rows that it was fitted on" in shown
    assert f"{folder} has temperature {expected:g} from now on" in shown
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "config.json"} == others
    after = read_config_json(folder)
    assert after["bertjax"].pop("temperature") == expected
    assert after == before

    fit = json.loads((tmp_path / "fit" / "metrics.json").read_text())
    assert command(*model, "--out", tmp_path / "next")[0] == 0
    metrics = json.loads((tmp_path / "next" / "metrics.json").read_text())
    assert metrics["test/calibration/temperature"] == fit["test/calibration/fitted_temperature"] == expected
    assert metrics["test/calibration/ece"] == fit["test/calibration/fitted_ece"]
    assert metrics["test/calibration/ece_uncalibrated"] == fit["test/calibration/ece"]
    assert metrics["test/accuracy"] == fit["test/accuracy"]
    assert command(*model, "--fit-temperature")[1].count(f"temperature {expected:g} in the place of {expected:g}") == 1


def test_the_section_says_what_the_metrics_say(folder_of, table):
    folder = folder_of()
    save_temperature(folder, 3.0)
    judged = evaluate(str(folder), table, {"text": ("title", "body"), "label": "stars"}).judged
    finding = find_calibration(judged.scored, fitted=4.0)
    assert finding.section.title == "Calibration"
    comparison, bins = (block for block in finding.section.blocks if isinstance(block, DataTable))
    assert comparison.columns == ("", "without temperature", "temperature 3", "fitted on these rows: temperature 4")
    probabilities, labels = softmax(judged.scores / 3), judged.examples.labels
    metrics = finding.metrics
    assert metrics["calibration/ece"] == pytest.approx(calibration_error(probabilities, labels), abs=1e-6)
    errors = [metrics[f"calibration/{key}"] for key in ("ece_uncalibrated", "ece", "fitted_ece")]
    assert list(comparison.rows[0][1:]) == errors
    assert sum(row[1] for row in bins.rows) == 60
    diagram, sweep = (block.chart for block in finding.section.blocks if isinstance(block, Figure))
    assert diagram.diagonal
    assert len(diagram.series) == 3
    kept, accuracy = sweep.series["labels kept"], dict(sweep.series["accuracy of the kept"])
    assert kept[0] == (0.0, 1.0)
    for threshold, share in kept:
        stays = probabilities.max(axis=1) >= threshold
        assert share == pytest.approx(stays.mean())
        if stays.any():
            assert accuracy[threshold] == pytest.approx((probabilities.argmax(axis=1) == labels)[stays].mean())


@pytest.mark.parametrize(
    ("flags", "task", "complaint"),
    [
        (
            ("--save-temperature",),
            "classification",
            "--save-temperature writes what --fit-temperature finds; give both",
        ),
        (("--fit-temperature",), "regression", "a temperature is for models that give labels with probabilities"),
        (("--fit-temperature", "--save-temperature"), "models:/tagger@champion", "--save-temperature writes into a"),
        (("--fit-temperature", "--save-temperature"), "minilm-l6", "--model minilm-l6 is none; export the model"),
    ],
    ids=["nothing fitted", "no labels", "a registry", "the catalog"],
)
def test_flags_that_cannot_be(folder_of, command, flags, task, complaint):
    """Told before the rows are read."""
    model = folder_of(task) if task in ("classification", "regression") else task
    status, shown, said = command("evaluate", "--model", model, "--data", "nowhere.csv", *flags)
    assert (status, shown, said.count("\n")) == (2, "", 1)
    assert complaint in said


def test_rows_that_tell_no_temperature_change_nothing(folder_of, reviews, command, tmp_path):
    folder = folder_of()
    frame = pd.read_csv(reviews).head(3)
    frame["stars"] = [answer["label"] for answer in Predictor.load(folder)((frame.title + " " + frame.body).tolist())]
    frame.to_csv(tmp_path / "right.csv", index=False)
    before = (folder / "config.json").read_bytes()
    words = ("--data", tmp_path / "right.csv", *COLUMNS, "--fit-temperature", "--save-temperature")
    status, shown, _ = command("evaluate", "--model", folder, *words)
    assert status == 0
    assert "no temperature can be fitted" in shown
    assert (folder / "config.json").read_bytes() == before


def test_an_export_keeps_it_and_transformers_has_the_probabilities_before(folder_of, command, tmp_path):
    folder = folder_of()
    plain = Predictor.load(folder)(TEXTS)
    save_temperature(folder, 1.7)
    out = tmp_path / "exported"
    status, shown, _ = command("export", "--model", folder, "--out", out)
    assert status == 0
    assert "probabilities have temperature 1.7; transformers' are those of 1" in shown
    assert "a temperature of 1.7" in (out / "README.md").read_text()
    assert stored_temperature(read_config_json(out)) == 1.7
    copy = shutil.copytree(out, tmp_path / "copy")
    assert Predictor.load(copy)(TEXTS) == Predictor.load(folder)(TEXTS)
    tokenizer, theirs = AutoTokenizer.from_pretrained(out), AutoModelForSequenceClassification.from_pretrained(out)
    logits = theirs(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.detach().numpy()
    np.testing.assert_allclose(softmax(logits), [list(a["probabilities"].values()) for a in plain], atol=1e-4)


def test_a_run_fits_it_on_its_validation_rows(tiny_model, reviews, table, tmp_path):
    """Of the test rows nothing is used: temperature and threshold are those of the validation rows alone. A second
    start of the finished run finds the same."""
    data = Table(str(reviews), validation=table, test=table, text=("title", "body"), label="stars", leaks="report")
    optimizer = Optimizer(learning_rate=1e-2)
    config = FineTuneConfig(str(tiny_model), data, epochs=4, batch_size=8, max_length=16, optimizer=optimizer)
    run = finetune(config, tmp_path / "run", tracker=MemoryTracker())
    saved = stored_temperature(read_config_json(run.model_dir))
    judged = evaluate(str(run.model_dir), table).judged
    assert saved == pytest.approx(fit_temperature(judged.scores, judged.examples.labels), rel=2e-3)
    assert saved > 1
    evaluated = {f"test/{key}": value for key, value in find_calibration(judged.scored).metrics.items()}
    assert evaluated == pytest.approx({key: run.metrics[key] for key in evaluated}, abs=1e-5)
    assert run.metrics["test/calibration/ece"] < run.metrics["test/calibration/ece_uncalibrated"]
    fitted = fitted_fallback(judged.report, judged.probabilities, judged.examples.labels)
    fallback = {key: value for key, value in run.metrics.items() if key.startswith("fitted/fallback/")}
    assert fallback == pytest.approx(ValidationFits(saved, fitted).metrics())
    again = finetune(config, tmp_path / "run", if_exists="resume", tracker=MemoryTracker())
    assert stored_temperature(read_config_json(again.model_dir)) == saved
    calibration = {key: value for key, value in run.metrics.items() if "calibration" in key or "fallback" in key}
    assert calibration == {key: again.metrics[key] for key in calibration}
    without = finetune(
        replace(config, data=replace(data, validation=None)), tmp_path / "without", tracker=MemoryTracker()
    )
    assert stored_temperature(read_config_json(without.model_dir)) == 1
    assert without.metrics["test/accuracy"] == run.metrics["test/accuracy"]
    assert without.metrics["test/calibration/ece"] == run.metrics["test/calibration/ece_uncalibrated"]
