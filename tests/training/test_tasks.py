"""Every task goes through the whole job: from a small table to a model folder, a report and its own metrics."""

import html
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from bertjax.data.table import Masking, Table
from bertjax.errors import ConfigError
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.prediction.batcher import one_shape_batches
from bertjax.tasks import TASKS
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepare import prepare
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Imbalance, Optimizer, Regularization
from tests.support.tables import COLUMNS, TABLES

KEYS = {
    "classification": {"accuracy", "f1_macro", "f1_weighted"},
    "multi_label": {"f1_micro", "f1_macro", "subset_accuracy", "class/odd/f1"},
    "regression": {"mse", "mae", "pearson", "spearman", "r2"},
    "token_classification": {"f1", "precision", "recall", "f1_macro", "accuracy", "class/FILM/f1"},
    "question_answering": {"f1", "exact_match", "class/answerable/f1", "class/unanswerable/exact_match"},
    "multiple_choice": {"accuracy", "reciprocal_rank"},
    "next_sentence": {"accuracy", "f1_macro"},
    "masked_lm": {"loss", "perplexity", "accuracy"},
    "sentence_embedding": {"spearman", "pearson", "mse"},
}


@pytest.fixture
def config_of(tiny_model, tmp_path):
    def config_of(task):
        path = tmp_path / "table.jsonl"
        path.write_text("\n".join(map(json.dumps, TABLES[task])))
        return FineTuneConfig(
            model=str(tiny_model),
            task=task,
            data=Table(str(path), **COLUMNS.get(task, {})),
            epochs=1,
            max_length=32,
            batch_size=8,
            dropout_rate=0.0,
            optimizer=Optimizer(learning_rate=1e-2),
        )

    return config_of


def test_every_task_with_a_format_is_tested_here():
    assert {name for name, task in TASKS.items() if task.format is not None} == set(TABLES) == set(KEYS)


@pytest.mark.parametrize("task", TABLES)
def test_a_run_of_a_task(config_of, tmp_path, task):
    """Its folder is enough to judge its test rows again, to the bit."""
    train, test = tmp_path / "train.jsonl", str(tmp_path / "test.jsonl")
    for path, rows in ((train, TABLES[task][:36]), (Path(test), TABLES[task][36:])):
        path.write_text("\n".join(map(json.dumps, rows)))
    config = config_of(task)
    config = replace(config, data=replace(config.data, train=str(train), test=test), masking=Masking(mask_share=0.4))
    result = finetune(config, tmp_path / "run", tracker=MemoryTracker())
    assert evaluate(str(result.model_dir), test).report.flat("test").items() <= result.metrics.items()
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == result.metrics
    assert {f"test/{key}" for key in KEYS[task]} <= set(result.metrics)
    metric = TASKS[task].metric
    assert metric is not None
    assert f"test/{metric.name}" in result.metrics
    assert result.metrics["data/rows_read"] >= 40
    page = html.unescape((tmp_path / "run" / "report.html").read_text())
    assert result.report.summary in page
    assert all(name in page for name, *_ in result.report.headline)
    model, params = from_pretrained(result.model_dir)
    assert (model.task, TASKS[task].names) == (task, bool(model.labels))
    assert jax.tree.all(jax.tree.map(lambda leaf: bool(np.isfinite(leaf).all()), params))


@pytest.mark.parametrize("task", TABLES)
def test_packed_and_padded_batches_are_the_same_to_the_loss(config_of, task):
    config = config_of(task)
    packed, padded = (prepare(replace(config, packing=packing), 1) for packing in ("on", "off"))
    loss = TASKS[task].loss
    assert loss is not None

    @jax.jit
    def mean_loss(batch):
        weights = batch.example_weights
        return (loss(packed.model.apply(packed.params, None, batch), batch) * weights).sum() / weights.sum()

    losses = []
    for prepared in (packed, padded):
        batches = prepared.train.batches()
        losses.append([float(mean_loss(next(batches).batch)) for _ in range(3)])
    assert packed.train.plan.layouts[-1].rows < padded.train.plan.layouts[0].rows
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-5)  # float32 sums in another order


@pytest.mark.parametrize("task", TABLES)
def test_every_example_once(config_of, task):
    prepared = prepare(config_of(task), 1)
    plan = prepared.train.plan
    batches = list(prepared.train.batches())
    for epoch in range(plan.epochs):
        of_epoch = batches[epoch * plan.steps_per_epoch : (epoch + 1) * plan.steps_per_epoch]
        seen = np.concatenate([packed_batch.example_ids[packed_batch.example_ids >= 0] for packed_batch in of_epoch])
        assert sorted(seen) == list(range(plan.num_examples))
    judged = [packed_batch.example_ids for packed_batch in one_shape_batches(prepared.test, 1)]
    seen = np.concatenate([ids[ids >= 0] for ids in judged])
    assert sorted(seen) == list(range(prepared.test.num_examples))


@pytest.mark.parametrize(
    ("task", "imbalance", "message"),
    [
        ("regression", Imbalance(class_weights=("balanced",)), "--class-weights is for rows of one class each, which"),
        ("multi_label", Imbalance(oversample=True), "--oversample is for rows of one class each, which multi_label"),
        ("regression", Imbalance(focal_gamma=2.0), "--focal-gamma changes a cross-entropy, which regression"),
        ("multi_label", Imbalance(label_smoothing=0.1), "--label-smoothing changes a cross-entropy, which multi_label"),
    ],
)
def test_what_is_for_classes_is_refused_elsewhere(config_of, task, imbalance, message):
    with pytest.raises(ConfigError, match=message):
        prepare(replace(config_of(task), imbalance=imbalance), 1)


def test_r_drop_is_refused_where_there_is_no_cross_entropy(config_of):
    with pytest.raises(ConfigError, match="--r-drop changes a cross-entropy, which regression does not learn by"):
        prepare(replace(config_of("regression"), regularization=Regularization(r_drop=1.0)), 1)
