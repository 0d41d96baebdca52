"""A run judges its own test rows: what it finds is what `bertjax evaluate` finds, by settings that can be bad."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from bertjax.cli.main import main
from bertjax.data.encode.examples import Examples
from bertjax.data.table import Table
from bertjax.errors import ConfigError
from bertjax.metrics.reports import is_of_whole
from bertjax.settings import flatten, override
from bertjax.tasks import make_model
from bertjax.tasks.postprocess import softmax
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.validation_fits import fit_on
from bertjax.training.settings.finetune_config import FineTuneConfig, of_this_version
from bertjax.training.settings.options import Judging
from tests.support.models import TINY
from tests.support.pages import table_rows
from tests.support.tables import splits_of


def config_of(model, table, **settings):
    data = Table(str(table), text=("title", "body"), label="stars")
    return FineTuneConfig(str(model), data, epochs=1, max_length=10, batch_size=8, **settings)


@pytest.fixture(scope="module")
def judged(finished_run, reviews, tmp_path_factory):
    """What `bertjax evaluate --intervals` says of the rows that the finished run held out."""
    folder = tmp_path_factory.mktemp("judged")
    held_out = splits_of(Table(str(reviews), text=("title", "body"), label="stars", steps=("strip_markup",))).test
    lines = reviews.read_text().splitlines()
    (folder / "test.csv").write_text("\n".join([lines[0], *(lines[i + 1] for i in held_out.positions)]) + "\n")
    command = ["evaluate", "--model", str(finished_run.model_dir), "--data", str(folder / "test.csv"), "--intervals"]
    assert main([*command, "--out", str(folder / "out")]) == 0
    return folder / "out", held_out


def test_a_run_finds_what_an_evaluation_of_its_model_finds(finished_run, judged):
    out, held_out = judged
    evaluated = json.loads((out / "metrics.json").read_text())
    own = {key: value for key, value in finished_run.metrics.items() if key.startswith("test/")}
    assert own.keys() == evaluated.keys()
    assert own == pytest.approx(evaluated, abs=1e-5)
    assert [finding.section.anchor for finding in finished_run.findings] == ["intervals", "calibration", "slices"]
    slices, theirs = (json.loads((folder / "slices.json").read_text()) for folder in (finished_run.folder, out))
    assert [part["name"] for part in slices] == [part["name"] for part in theirs]
    numbers = np.array(held_out.positions) + 1  # in the run's own table
    assert [part["rows"] for part in slices] == [numbers[np.array(part["rows"]) - 1].tolist() for part in theirs]


def test_the_page_has_all_that_was_found(finished_run):
    page = (finished_run.folder / "report.html").read_text()
    written = (finished_run.folder / "report.md").read_text()
    for title in ("Confidence intervals", "Calibration", "Slices", "Training", "Confusion", "Data", "Settings"):
        assert f"## {title}" in written
        assert f">{title}</h2>" in page
    listed = {row[0] for row in table_rows(page) if row[0].startswith("test/")}
    assert listed == {key for key in finished_run.metrics if key.startswith("test/") and is_of_whole(key)}


def test_explanations_and_label_issues_where_they_are_asked_for(tiny_model, reviews, tmp_path):
    tracker = MemoryTracker()
    judging = Judging(automatic_slices=False, label_issues=True, explain=1)
    run = finetune(config_of(tiny_model, reviews, judging=judging), tmp_path / "run", tracker=tracker)
    anchors = [finding.section.anchor for finding in run.findings]
    assert anchors == ["intervals", "calibration", "label-issues", "explanations"]
    low, high = (run.metrics[f"test/interval/accuracy_{side}"] for side in ("low", "high"))
    page = (run.folder / "report.html").read_text()
    assert low < high
    assert page.index(f"{low:.4f} to {high:.4f}") < page.index("<section")  # in the headline
    rows = {json.loads(line)["row"] for line in (run.folder / "explanations.jsonl").read_text().splitlines()}
    assert rows <= {position + 1 for position in splits_of(config_of(tiny_model, reviews).data).test.positions}
    assert run.metrics["test/label_issues/disagreements"] == 0
    assert {"explanations.jsonl", "label_issues.jsonl"} <= {path.name for path in tracker.artifacts}
    assert not any("slice/" in key for key in run.metrics)
    assert {"training_losses", "confusion_confusion_rows", "calibration_reliability_diagram"} <= tracker.charts.keys()
    again = finetune(config_of(tiny_model, reviews, judging=judging), run.folder, if_exists="resume",
                     tracker=MemoryTracker())  # fmt: skip
    assert {key: value for key, value in again.metrics.items() if key.startswith("test/")} == {
        key: value for key, value in run.metrics.items() if key.startswith("test/")
    }


@pytest.mark.parametrize(
    ("judging", "message"),
    [
        (Judging(explain=1), "--explain is for models that give a row one label; this one's task is regression"),
        (Judging(label_issues=True), "label issues are found among classes"),
    ],
    ids=["explanations", "label issues"],
)
def test_what_a_task_cannot_have_is_refused_before_anything_is_read(judging, message, tmp_path):
    config = replace(config_of("nowhere", "nowhere.csv", judging=judging), task="regression")
    with pytest.raises(ConfigError, match=message):
        finetune(config, tmp_path / "run", tracker=MemoryTracker())
    assert not (tmp_path / "run").exists()


def test_settings_of_a_version_without_them_are_todays():
    """A run of that version goes on without --allow-changed."""
    stored = {key: value for key, value in flatten(FineTuneConfig()).items() if not key.startswith("judging.")}
    assert of_this_version(stored) == flatten(FineTuneConfig())
    assert override(FineTuneConfig(), {"judging.explain": 3}).judging == Judging(explain=3)
    with pytest.raises(ConfigError, match="explain must not be negative, got -1"):
        Judging(explain=-1)


def test_the_threshold_that_validation_rows_say(tiny_model):
    """Of five sure rows four are right; the three unsure ones are all `other`."""
    labels, said = np.array([0, 0, 1, 1, 2, 2, 2, 2]), np.array([0, 0, 1, 1, 0, 0, 1, 1])
    sure = np.arange(8) < 5
    logits = np.where(sure, 6.0, 1.0)[:, None] * np.eye(3)[said]
    tokens = np.zeros(8, np.int32)
    fits = fit_on(
        Examples(tokens, tokens, np.arange(9), labels, 0), make_model(TINY, "classification", ("a", "b", "other")),
        lambda _: logits,
    )  # fmt: skip
    expected = f1_score(labels, np.where(sure, said, 2), average="macro")
    found = fits.metrics()
    assert found.keys() == {f"fitted/fallback/{key}" for key in ("threshold", "f1_macro", "kept_share")}
    assert found["fitted/fallback/f1_macro"] == pytest.approx(expected)
    assert found["fitted/fallback/kept_share"] == 5 / 8
    confidences = softmax(logits / fits.temperature).max(axis=1)
    assert confidences[~sure].max() < found["fitted/fallback/threshold"] < confidences[sure].min()
