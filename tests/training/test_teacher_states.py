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

from bertjax import override
from bertjax.baselines.torch.torch_model import make_module
from bertjax.data.table import Table
from bertjax.devices.data_parallel import AXIS, Devices, all_devices
from bertjax.errors import ConfigError, Interrupted, RunFolderError
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.pretrained.convert import to_haiku
from bertjax.tasks import make_model, parameter_shapes, weight_table
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.multi.multi_seed import finetune_seeds
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepare import Prepared, prepare
from bertjax.training.run.prepared_run import loss_of, token_loss_of
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Distillation, Judging, Lora, Optimizer, Regularization
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import make_train_step, seed_key
from tests.support.members import save_tokenizer
from tests.support.models import TINY
from tests.support.tables import TABLES
from tests.support.tracking import Trackers, stop_after

ROWS = TABLES["classification"]
LAYERS = ("0:0", "1:3", "2:1")
STATES_WEIGHT, WEIGHT, TEMPERATURE = 0.8, 0.6, 3.0


def teacher_of(student: Path, folder: Path, tokenizer: str | None = None, **changes: Any) -> Path:
    """A classifier with weights 4 times as large as fresh ones, of the student's tokenizer or one of another kind."""
    config = replace(TINY, num_layers=3, hidden_act="relu", **changes)
    model = make_model(config, "classification", ("x", "y", "z"))
    params = jax.tree.map(lambda leaf: 4 * leaf, model.init(jax.random.key(5)))
    save_pretrained(folder, model, params, AutoTokenizer.from_pretrained(student))
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def config(tiny_model, tmp_path_factory) -> FineTuneConfig:
    """24 texts an update, of which several share a row; some are longer than the others."""
    folder = tmp_path_factory.mktemp("taught")
    longer = [row | {"text": row["text"] + " , so dull" * (3 * (i % 7 == 0))} for i, row in enumerate(ROWS)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, longer)))
    path, teacher = str(folder / "rows.jsonl"), teacher_of(tiny_model, folder / "teacher")
    return FineTuneConfig(
        model=str(tiny_model),
        data=Table(path, test=path, leaks="report"),
        epochs=1,
        max_length=32,
        batch_size=24,
        dropout_rate=0.0,
        optimizer=Optimizer(learning_rate=1e-2),
        judging=Judging(intervals=False, automatic_slices=False),
        distillation=Distillation(str(teacher), WEIGHT, TEMPERATURE, LAYERS, STATES_WEIGHT),
    )


def first_gradient(config: FineTuneConfig, num_devices: int) -> tuple[Any, float, Prepared]:
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


@pytest.fixture(scope="module")
def on_one_device(config) -> tuple[Any, float, Prepared]:
    return first_gradient(config, 1)


def test_loss_and_gradient_are_those_of_two_networks_of_transformers(config, on_one_device):
    """In float64, of padded texts; ours are packed, with padding in their rows."""
    grads, loss, prepared = on_one_device
    packed_batch = next(prepared.train.batches())
    assert (packed_batch.batch.segment_ids.max(axis=1) > 1).any(), "texts share a row"
    assert (packed_batch.batch.segment_ids == 0).any(), "there is padding"

    table = list(map(json.loads, Path(config.data.train).read_text().splitlines()))
    rows = [table[i] for i in packed_batch.example_ids[packed_batch.example_ids >= 0]]
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
    ("changes", "num_devices"),
    [
        ({"packing": "off"}, 1),
        ({"accumulate": 3, "engine": "shard_map"}, 2),
        ({"regularization": Regularization(r_drop=1.0)}, 1),  # whose two passes are the same without dropout
    ],
    ids=["padded", "two devices, in parts", "R-Drop"],
)
def test_the_mean_is_over_all_real_tokens(config, on_one_device, changes, num_devices):
    """Devices, and the parts of a batch, have other numbers of tokens."""
    grads, loss, _ = on_one_device
    others, other_loss, _ = first_gradient(replace(config, **changes), num_devices)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    chex.assert_trees_all_close(others, grads, rtol=1e-4, atol=1e-5)


def steps_of(tracker: MemoryTracker) -> list[tuple[int, float]]:
    return [(step, row["train/loss"]) for step, row in tracker.metrics if "train/grad_norm" in row]


def test_a_run_is_resumed_to_the_bit(config, tmp_path):
    config = replace(config, epochs=2, accumulate=2, dropout_rate=0.1)
    whole, first, second = MemoryTracker(), MemoryTracker(), MemoryTracker()
    result = finetune(config, tmp_path / "whole", tracker=whole)
    with pytest.raises(Interrupted):
        finetune(config, tmp_path / "parts", tracker=first, should_stop=stop_after(2))
    other = replace(config, distillation=replace(config.distillation, teacher_layers=LAYERS[:1]))
    with pytest.raises(RunFolderError, match=r"other settings or data: distillation\.teacher_layers was"):
        finetune(other, tmp_path / "parts", tracker=second, if_exists="resume")
    resumed = finetune(config, tmp_path / "parts", tracker=second, if_exists="resume")
    assert steps_of(first) + steps_of(second) == steps_of(whole)
    assert len(steps_of(whole)) == 4
    weights = [(each.model_dir / "model.safetensors").read_bytes() for each in (result, resumed)]
    assert weights[0] == weights[1]


def test_stacked_seeds_have_the_teacher_that_each_has_alone(config, tmp_path):
    """Its answers and its hidden states."""
    config = replace(config, batch_size=12, dropout_rate=0.1)
    alone, together = MemoryTracker(), Trackers()
    finetune(replace(config, seed=1), tmp_path / "alone", tracker=alone)
    finetune_seeds(config, (0, 1), tmp_path / "together", stack=True, new_tracker=together)
    first, second = (steps_of(tracker) for _, tracker in together[1:])
    np.testing.assert_allclose(second, steps_of(alone), atol=1e-5)
    assert len(second) == 4
    assert first != second


def test_adapters_learn_hidden_states_in_bfloat16(config, on_one_device, tmp_path):
    """Their first loss is that of the whole network, but for rounding, and the later ones are less."""
    _, loss, _ = on_one_device
    config = replace(
        override(config, {"execution.precision": "bfloat16"}),
        epochs=6,
        lora=Lora(rank=4, targets=("bert/layer_*",)),
        optimizer=Optimizer(learning_rate=3e-2),
    )
    tracker = MemoryTracker()
    finetune(config, tmp_path / "run", tracker=tracker)
    losses = [loss for _, loss in steps_of(tracker)]
    assert losses[0] == pytest.approx(loss, rel=0.01)
    assert abs(losses[0] - loss) > 1e-6
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ({}, {"hidden_size": 32}, r"hidden states of --teacher \S+ have 32 numbers, those of --model \S+ 16; choose"),
        ({"layers": ("3:1",)}, {}, r"--teacher-layers 3:1: \S+tiny has layers 1 to 2 \(0 is the embeddings\), not 3"),
        ({"layers": ("1:4",)}, {}, r"--teacher-layers 1:4: \S+ has layers 1 to 3 \(0 is the embeddings\), not 4"),
        ({}, {"max_position_embeddings": 24}, r"--max-length 32 is above the 24 positions of --teacher"),
        ({}, {"tokenizer": "roberta"}, "has another tokenizer than --model"),
    ],
    ids=["width", "layer", "layer of the teacher", "positions", "tokenizer"],
)
def test_a_teacher_that_is_not_alike(config, tiny_model, tmp_path, student, teacher, message):
    folder = teacher_of(tiny_model, tmp_path / "other", **{"vocab_size": 320} | teacher)
    settings = replace(config.distillation, teacher=str(folder), teacher_layers=student.get("layers", LAYERS))
    with pytest.raises(ConfigError, match=message):
        prepare(replace(config, distillation=settings))
