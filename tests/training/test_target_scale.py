"""Standardised targets: what is learned does not depend on the unit of the numbers; all answers are in that unit."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bertjax.baselines.runners import run_jax, run_torch, run_trainer
from bertjax.baselines.runners.runner import RunnerInput
from bertjax.config import Execution
from bertjax.data.table import Table
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.inference.predictor import Predictor
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.prediction.forward import predict
from bertjax.settings import override
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepare import prepare
from bertjax.training.run.run_folder import stored_settings
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer
from tests.support.tables import TEXTS

NUMBERS = np.array([(1.0 if "film" in text else -1.0) + 0.25 * ("very" in text) for text in TEXTS])
UNITS = {  # unit and offset of the numbers
    "prices": (50_000.0, 250_000.0),
    "small": (1e-6, 0.0),
    "far": (1.0, 1_000.0),
    "negative": (-3.0, -40.0),
}


def config_in(folder, model, unit=1.0, offset=0.0, **columns):
    """Settings that learn a table of the numbers, which is written to the folder."""
    rows = [
        {"text": text, "label": number * unit + offset, "other": 7.0 - number}
        for text, number in zip(TEXTS, NUMBERS.tolist(), strict=True)
    ]
    path = folder / "numbers.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return FineTuneConfig(
        model=str(model),
        task="regression",
        data=Table(str(path), test=str(path), validation=str(path), leaks="report", **columns),
        epochs=15,
        max_length=32,
        batch_size=8,
        dropout_rate=0.0,
        optimizer=Optimizer(learning_rate=3e-3),
    )


@pytest.fixture
def config_of(tiny_model, tmp_path):
    return partial(config_in, tmp_path, tiny_model)


@pytest.fixture(scope="module")
def learned(tiny_model, tmp_path_factory):
    """Metrics where the numbers are around 1."""
    folder = tmp_path_factory.mktemp("learned")
    return finetune(config_in(folder, tiny_model), folder / "plain", tracker=MemoryTracker()).metrics


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_the_unit_of_the_numbers_changes_nothing(config_of, learned, tmp_path, unit):
    """Metrics are in the unit of the table, as scikit-learn computes them from the answers; so are those of
    `evaluate`, and transformers' outputs from the saved folder."""
    config = config_of(*unit)
    result = finetune(config, tmp_path / "run", tracker=MemoryTracker())
    labels = NUMBERS * unit[0] + unit[1]
    assert learned["test/r2"] > 0.9
    # Float32 holds a far offset with fewer digits.
    assert result.metrics["test/r2"] == pytest.approx(learned["test/r2"], abs=2e-3)
    assert result.metrics["test/mae"] == pytest.approx(learned["test/mae"] * abs(unit[0]), rel=5e-2)
    assert result.metrics["validation/r2"] == result.metrics["test/r2"]
    assert evaluate(str(result.model_dir), config.data.train).report.flat("test").items() <= result.metrics.items()
    answers = np.array([answer["values"]["label"] for answer in Predictor.load(result.model_dir)(TEXTS)])
    assert r2_score(labels, answers) == pytest.approx(result.metrics["test/r2"], abs=1e-6)
    tokens = AutoTokenizer.from_pretrained(result.model_dir)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = AutoModelForSequenceClassification.from_pretrained(result.model_dir)(**tokens).logits[:, 0]
    np.testing.assert_allclose(answers, theirs, atol=1e-4 * abs(unit[0]) + 1e-6 * abs(unit[1]))  # float32


def test_without_it_far_numbers_are_not_reached(config_of, learned, tmp_path):
    config = replace(config_of(*UNITS["prices"]), standardize_targets=False)
    assert finetune(config, tmp_path / "run", tracker=MemoryTracker()).metrics["test/r2"] < 0


def test_several_columns_have_a_scale_each(config_of, tmp_path):
    config = config_of(*UNITS["prices"], labels=("label", "other"))
    metrics = finetune(config, tmp_path / "run", tracker=MemoryTracker()).metrics
    assert min(metrics["test/class/label/r2"], metrics["test/class/other/r2"]) > 0.9


def test_a_constant_target_is_learned(config_of, tmp_path):
    metrics = finetune(config_of(0.0, 12.0), tmp_path / "run", tracker=MemoryTracker()).metrics
    assert metrics["test/mae"] < 0.2


def test_training_continues_from_a_head_in_units(config_of, tmp_path):
    """The head of a trained model is brought to standardised targets, and back, without a change of its answers."""
    config = config_of(*UNITS["prices"])
    result = finetune(config, tmp_path / "run", tracker=MemoryTracker())
    prepared = prepare(replace(config, model=str(result.model_dir)), 1)
    _, saved = from_pretrained(result.model_dir)
    assert np.abs(prepared.params["classifier"]["b"]).max() < 1  # of a price, 250,000
    for name, value in prepared.in_units(prepared.params)["classifier"].items():
        np.testing.assert_allclose(value, saved["classifier"][name], rtol=1e-6)


def test_mixed_precision_rounds_deviations_and_not_the_offset(config_of, tmp_path):
    """In bfloat16 the neighbours of 250,000 are 1,024 apart; the answers differ by far less than a deviation."""
    result = finetune(config_of(100.0, 250_000.0), tmp_path / "run", tracker=MemoryTracker())
    exact = Predictor.load(result.model_dir).logits(TEXTS)
    rounded = Predictor.load(result.model_dir, execution=Execution(precision="bfloat16")).logits(TEXTS)
    assert 0 < np.abs(exact - rounded).max() < 10


def test_streamed_targets_are_standardised_as_those_in_memory(config_of, ray_session):
    config = config_of(*UNITS["prices"])
    memory, stream = (
        prepare(replace(config, data=replace(config.data, reader=reader)), 1) for reader in ("pandas", "ray")
    )
    np.testing.assert_array_equal(stream.train.examples.labels, memory.train.examples.labels)
    assert stream.target_scale is not None
    np.testing.assert_array_equal(stream.target_scale.mean, memory.target_scale.mean)
    labels = np.asarray(memory.train.examples.labels, np.float64)
    assert (labels.mean(), labels.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))


def forward(model, params, batch):
    return model.apply(params, None, batch).logits


@pytest.mark.parametrize("runner", [run_torch, run_trainer], ids=["torch", "trainer"])
def test_frameworks_are_compared_in_the_units_of_the_table(config_of, runner):
    config = replace(config_of(*UNITS["prices"]), batch_size=len(TEXTS), epochs=6, packing="off")
    answers = []
    for each, framework in ((run_jax, "jax"), (runner, "trainer" if runner is run_trainer else "torch")):
        prepared = prepare(config, jax.device_count() if each is run_jax else 1)
        output = each.run(RunnerInput(framework, config, prepared, Path()))
        model, examples = prepared.model, prepared.test
        answers.append(predict(output.predict, output.num_devices, config.task, examples))
        folded = predict(partial(forward, model, output.params), 1, config.task, examples)
        np.testing.assert_allclose(folded, answers[-1], atol=5.0)  # the parameters say the same: 1e-4 deviations
    np.testing.assert_allclose(answers[0], answers[1], atol=50.0)  # float32 over 6 updates, deviation 50,000


def test_runs_of_earlier_versions_continue_without_it(config_of, tmp_path):
    config = replace(config_of(), standardize_targets=False)
    finetune(config, tmp_path / "run", tracker=MemoryTracker())
    path = tmp_path / "run" / "config.json"
    settings = json.loads(path.read_text())
    del settings["standardize_targets"]
    path.write_text(json.dumps(settings))
    assert override(FineTuneConfig(), stored_settings(tmp_path / "run")) == config.resolved()
