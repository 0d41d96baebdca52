"""The runners train on the same texts with the same maths: without dropout their losses are equal."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from transformers import BertForSequenceClassification

from bertjax.baselines.parity.random_examples import packed, random_examples
from bertjax.baselines.runners import run_jax, run_onnx, run_torch, run_trainer
from bertjax.baselines.runners.runner import RunnerInput
from bertjax.baselines.torch import torch_model
from bertjax.baselines.torch.torch_model import answer_with
from bertjax.config import Execution
from bertjax.data.table import Table
from bertjax.metrics.classification_report import classification_report
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.prediction.forward import predict
from bertjax.tasks import TASKS, make_model
from bertjax.training.run.prepare import prepare
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Imbalance, Lora, Optimizer
from tests.support.models import TINY


@pytest.fixture
def config(tiny_model, reviews) -> FineTuneConfig:
    return FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(reviews), text=("title", "body"), label="stars"),
        epochs=4,
        max_length=48,
        batch_size=8,
        dropout_rate=0.0,
        optimizer=Optimizer(learning_rate=1e-3),
    )


def run(runner, framework, config, out=Path()):
    """The output of a runner; all but JAX have one example a row."""
    packed = framework == "jax"
    config = replace(config, packing="on" if packed else "off")
    return runner.run(RunnerInput(framework, config, prepare(config, jax.device_count() if packed else 1), out))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"freeze": ("embeddings", "layers:1")},
        {"imbalance": Imbalance(("good=2",), 0.1, 2.0)},
        {"lora": Lora(rank=4, targets=("bert/layer_*",)), "optimizer": Optimizer(learning_rate=1e-2)},
    ],
    ids=["plain", "frozen", "imbalance", "adapters"],
)
def test_twenty_steps_without_dropout_have_the_same_losses(config, changes):
    config = replace(config, **changes)
    ours, theirs = run(run_jax, "jax", config), run(run_torch, "torch", config)
    assert len(ours.losses) == len(theirs.losses) == 24
    np.testing.assert_allclose(ours.losses[:20], theirs.losses[:20], atol=1e-5)  # float32 over 20 updates
    assert ours.losses[0] != pytest.approx(ours.losses[-1], abs=1e-4)  # it learns
    assert ours.speed.real_tokens == theirs.speed.real_tokens
    assert ours.speed.examples == theirs.speed.examples == 48 * 4 - 8


def test_trained_adapters_are_merged_as_peft_merges_them(config):
    config = replace(config, lora=Lora(rank=4), optimizer=Optimizer(learning_rate=1e-2))
    ours, theirs = run(run_jax, "jax", config).params, run(run_torch, "torch", config).params
    began = prepare(replace(config, packing="off")).params
    chex.assert_trees_all_equal_structs(ours, theirs, began)
    attention = "bert/layer_1/attention"
    for moved, name in ((True, "query"), (False, "key"), (True, "value")):
        first, left, right = (params[f"{attention}/{name}"]["w"] for params in (began, ours, theirs))
        assert np.array_equal(first, left) == np.array_equal(first, right) == (not moved), name
        np.testing.assert_allclose(left, right, atol=1e-4)  # float32 over 24 updates
    np.testing.assert_allclose(ours["classifier"]["w"], theirs["classifier"]["w"], atol=1e-4)


def test_every_runner_computes_in_the_configured_precision(config):
    config = replace(config, batch_size=48, epochs=8, optimizer=Optimizer(learning_rate=1e-2, warmup=0.0))
    rounded = replace(config, execution=Execution(precision="bfloat16"))
    exact = run(run_torch, "torch", config).losses
    for runner, framework in ((run_jax, "jax"), (run_torch, "torch"), (run_trainer, "trainer")):
        losses = run(runner, framework, rounded).losses
        np.testing.assert_allclose(losses, exact, atol=5e-3)  # 8 bits, 8 updates
        assert np.abs(np.subtract(losses, exact)).max() > 3e-5, framework  # float32 keeps within 1e-5


def test_trainer_minimises_the_same_loss(config):
    """All rows in one update: the Trainer's order of them does not matter, and a warmup is not rounded up."""
    config = replace(config, batch_size=48, epochs=6, optimizer=Optimizer(learning_rate=1e-3, warmup=0.0))
    ours, theirs = run(run_torch, "torch", config), run(run_trainer, "trainer", config)
    np.testing.assert_allclose(ours.losses, theirs.losses, atol=1e-5)  # float32 over 6 updates
    assert theirs.speed.examples == 48 * 5


def test_trainer_grouped_batches_have_less_padding(config):
    config = replace(config, batch_size=2, epochs=2)  # it sorts the rows of six batches
    plain, grouped = (run(run_trainer, name, config).speed for name in ("trainer", "trainer-grouped"))
    assert grouped.real_tokens / grouped.computed_tokens > plain.real_tokens / plain.computed_tokens
    assert grouped.examples == plain.examples == 48 * 2 - 2


@pytest.mark.parametrize(("first", "framework"), [(run_torch, "torch"), (run_jax, "jax")], ids=["torch", "jax"])
def test_jax_and_torch_continue_from_each_others_weights(config, tmp_path, first, framework):
    """The same score from the same folder, and the same next 20 losses."""
    config = replace(config, optimizer=Optimizer(learning_rate=1e-2))
    prepared = prepare(config, jax.device_count())
    trained = run(first, framework, config)
    folder = save_pretrained(tmp_path / "trained", prepared.model, trained.params, prepared.tokenizer)
    test = prepared.test
    answers = predict(trained.predict, trained.num_devices, prepared.model.task, test)

    resumed = replace(config, model=str(folder), seed=1, optimizer=Optimizer(learning_rate=1e-3))
    model, params = from_pretrained(folder)
    assert model.labels == prepared.model.labels
    ours = predict(lambda batch: model.apply(params, None, batch).logits, 1, model.task, test)
    module = BertForSequenceClassification.from_pretrained(folder)
    theirs = predict(
        lambda batch: torch_model.predict(model, batch, partial(answer_with, module, model)), 1, model.task, test
    )
    scores = [
        classification_report(test.labels, logits.argmax(axis=-1), model.labels).metrics["accuracy"]
        for logits in (answers, ours, theirs)
    ]
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-4)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)  # float32, two layers
    left, right = run(run_jax, "jax", resumed), run(run_torch, "torch", resumed)
    np.testing.assert_allclose(left.losses[:20], right.losses[:20], atol=1e-5)  # float32 over 20 updates
    assert left.losses[0] < trained.losses[0]  # it goes on from what was learned


@pytest.mark.parametrize("task", ["classification", "question_answering"])
def test_onnx_predictions_equal_the_networks(task):
    """For texts of any number and length, though it was exported from two of one length."""
    model = make_model(TINY, task, ("a", "b", "c") if TASKS[task].names else ())
    params = jax.device_get(model.init(jax.random.PRNGKey(1)))
    batch = packed(model, [random_examples(model, count=5, longest=12, seed=2)])[0].batch
    session = run_onnx.make_session(model, params)
    theirs = torch_model.predict(model, batch, partial(run_onnx.answer, session, model))
    ours = np.asarray(jax.jit(lambda params, batch: model.apply(params, None, batch).logits)(params, batch))
    written = (theirs != 0).any(axis=-1)
    assert written.sum() >= 5
    np.testing.assert_allclose(ours[written], theirs[written], atol=1e-5)  # float32, two layers
