"""A teacher's hidden states: the loss is that of two networks in torch, in whatever rows, on whatever devices."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional
from transformers import AutoTokenizer

from bertjax.baselines.torch.torch_model import make_module
from bertjax.config import Execution
from bertjax.data.table import Table
from bertjax.errors import Interrupted
from bertjax.model_folder import save_pretrained
from bertjax.prediction.devices import AXIS, Devices, all_devices
from bertjax.pretrained.convert import to_haiku
from bertjax.tasks import make_model, parameter_shapes, weight_table
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.multi.multi_seed import finetune_seeds
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepare import prepare
from bertjax.training.run.prepared_run import loss_of, token_loss_of
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Distillation, Judging, Lora, Optimizer, Regularization
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import TrainStep, make_train_step, seed_key
from tests.support.models import TINY
from tests.support.tables import TABLES
from tests.support.tracking import Trackers, stop_after

LAYERS = ("0:0", "1:3", "2:1")
STATES_WEIGHT, WEIGHT, TEMPERATURE = 0.8, 0.6, 3.0


def teacher_of(student: Path, folder: Path, scale: float = 4.0, **changes: Any) -> Path:
    """A classifier of the student's tokenizer with random weights, `scale` times as large as fresh ones."""
    config = replace(TINY, num_layers=3, hidden_act="relu", **changes)
    model = make_model(config, "classification", ("x", "y", "z"))
    params = jax.tree.map(lambda leaf: leaf * scale, model.init(jax.random.key(5)))
    return save_pretrained(folder, model, params, AutoTokenizer.from_pretrained(student))


@pytest.fixture
def config(tiny_model, tmp_path) -> FineTuneConfig:
    """24 texts an update, of which several share a row."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, TABLES["classification"])))
    teacher = teacher_of(tiny_model, tmp_path / "teacher")
    return FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(path), test=str(path), leaks="report"),
        epochs=1,
        max_length=32,
        batch_size=24,
        dropout_rate=0.0,
        optimizer=Optimizer(learning_rate=1e-2),
        judging=Judging(intervals=False, automatic_slices=False),
        distillation=Distillation(str(teacher), WEIGHT, TEMPERATURE, LAYERS, STATES_WEIGHT),
    )


def first_gradient(config: FineTuneConfig, num_devices: int) -> tuple[Any, float, Any]:
    """Gradient and loss of the first step as a run computes them; and the input of the run."""
    every = all_devices(config.engine)
    devices = Devices(jax.sharding.Mesh(every.mesh.devices[:num_devices], (AXIS,)), config.engine)
    prepared = prepare(config, num_devices)
    step = make_train_step(
        prepared.model,
        optax.sgd(1.0),
        loss_of(config),
        AXIS,
        accumulate=config.accumulate,
        regularization=config.regularization,
        token_loss=token_loss_of(config),
    )
    state = devices.place(step.init(prepared.params, seed_key(0)))
    batch = next(prepared.train.batches()).batch
    train_step = CompiledTrainStep(devices, prepared.model, step, state, [batch], taught=prepared.taught(devices))
    state, metrics = train_step(state, batch)
    train_step.close()
    moved = jax.tree.map(np.subtract, prepared.params, jax.device_get(state.params))  # the rate is 1
    return moved, float(metrics["loss"]), prepared


def test_loss_and_gradient_are_those_of_two_networks_of_transformers(config):
    """In float64, of padded texts; ours are packed, with padding in their rows."""
    grads, loss, prepared = first_gradient(config, 1)
    packed_batch = next(prepared.train.batches())
    assert (packed_batch.batch.segment_ids.max(axis=1) > 1).any(), "texts share a row"
    assert (packed_batch.batch.segment_ids == 0).any(), "there is padding"

    rows = [TABLES["classification"][i] for i in packed_batch.example_ids[packed_batch.example_ids >= 0]]
    tokenizer = AutoTokenizer.from_pretrained(config.model)
    encoded = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    student = make_module(prepared.model, prepared.params).double().eval()
    teacher = prepared.teacher_states
    their_module = make_module(make_model(teacher.model.config, "classification", ("x", "y", "z")), teacher.params)
    ours = student(**encoded, output_hidden_states=True)
    with torch.no_grad():
        theirs = their_module.double().eval()(**encoded, output_hidden_states=True)
    real = encoded["attention_mask"].bool()
    errors = [
        functional.mse_loss(ours.hidden_states[a][real], theirs.hidden_states[b][real])
        for a, b in ((0, 0), (1, 3), (2, 1))
    ]
    right = torch.tensor([prepared.model.labels.index(row["label"]) for row in rows])
    of_labels = (1 - WEIGHT) * functional.cross_entropy(ours.logits, right)
    shares = functional.softmax(theirs.logits / TEMPERATURE, -1)
    of_answers = TEMPERATURE**2 * functional.kl_div(
        functional.log_softmax(ours.logits / TEMPERATURE, -1), shares, reduction="batchmean"
    )
    of_states = STATES_WEIGHT * torch.stack(errors).mean()
    expected = of_labels + WEIGHT * of_answers + of_states
    expected.backward()
    assert of_states > 0.1

    assert loss == pytest.approx(expected.item(), rel=1e-5)
    named = {name: value.grad.float().numpy() for name, value in student.named_parameters() if value.grad is not None}
    wanted = to_haiku(named, parameter_shapes(prepared.model), weight_table(prepared.model)).params
    for module, leaves in wanted.items():
        for name, leaf in leaves.items():
            np.testing.assert_allclose(grads[module][name], leaf, atol=1e-4 * max(1e-2, abs(leaf).max()), rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{"packing": "off"}, {"accumulate": 3}, {"num_devices": 2, "accumulate": 2}],
    ids=["padded", "in parts", "on two devices in parts"],
)
def test_the_mean_is_over_all_real_tokens(config, changes):
    """Two texts of a batch are longer, so that the parts of a batch have other numbers of tokens."""
    rows = [dict(row, text=row["text"] + " , so dull" * (3 * (i % 7 == 0))) for i, row in
            enumerate(TABLES["classification"])]  # fmt: skip
    Path(config.data.train).write_text("\n".join(map(json.dumps, rows)))
    num_devices = changes.pop("num_devices", 1)
    grads, loss, _ = first_gradient(config, 1)
    others, other_loss, _ = first_gradient(replace(config, **changes), num_devices)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    chex.assert_trees_all_close(others, grads, rtol=1e-4, atol=1e-5)
