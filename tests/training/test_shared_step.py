"""The functions of a run: equal settings share them, and no setting that reaches a program is shared over."""

from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache

import chex
import jax
import numpy as np
import pytest

from bertjax.batch import empty_batch
from bertjax.devices.data_parallel import AXIS, all_devices
from bertjax.losses import imbalanced_cross_entropy
from bertjax.prediction.forward import Forward
from bertjax.settings import flatten, override
from bertjax.tasks import TASKS, make_model, network, parameter_shapes
from bertjax.training.multi.stacked_seeds import stacked_step
from bertjax.training.optim.fresh_adapters import with_adapters
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.run.prepared_run import loss_of, step_of
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import make_train_step, seed_key
from tests.support.batches import EIGHT_ROWS
from tests.support.models import TINY

ROWS = 48  # of a training table
TOTAL_STEPS = 10
PARTS = ("gradient", "update", "forward")

# Settings that change a function of the run: another value, which functions it changes, and what it needs beside it.
REACH = {
    "task": ("regression", "gradient update forward", {}),
    "pooling": ("mean", "gradient update forward", {}),
    "epochs": (4, "update", {}),  # by the steps of the schedule
    "batch_size": (16, "update", {}),
    "accumulate": (2, "gradient", {}),
    "dropout_rate": (0.25, "gradient update forward", {}),
    "freeze": (("embeddings",), "gradient update", {}),
    "execution.layers": ("stacked", "gradient update forward", {}),
    "execution.remat": (True, "gradient update forward", {}),
    "execution.precision": ("bfloat16", "gradient update forward", {}),
    "execution.attention": ("auto", "gradient update forward", {}),
    "optimizer.name": ("lion", "update", {}),
    "optimizer.learning_rate": (3e-3, "update", {}),
    "optimizer.schedule": ("cosine", "update", {}),
    "optimizer.warmup": (0.3, "update", {}),
    "optimizer.final_share": (0.2, "update", {}),
    "optimizer.power": (3.0, "update", {"optimizer.schedule": "polynomial"}),
    "optimizer.plateau_factor": (0.1, "update", {"optimizer.schedule": "reduce_on_plateau"}),
    "optimizer.plateau_patience": (5, "update", {"optimizer.schedule": "reduce_on_plateau"}),
    "optimizer.weight_decay": (0.3, "update", {}),
    "optimizer.no_decay": (("head",), "update", {}),
    "optimizer.clip_norm": (0.5, "update", {}),
    "optimizer.layer_decay": (0.5, "update", {}),
    "optimizer.head_learning_rate": (1e-2, "update", {}),
    "optimizer.ema_decay": (0.9, "update", {}),
    "optimizer.b1": (0.8, "update", {}),
    "optimizer.b2": (0.9, "update", {}),
    "optimizer.eps": (1e-3, "update", {}),
    "optimizer.momentum": (0.5, "update", {"optimizer.name": "sgd"}),
    "imbalance.label_smoothing": (0.1, "gradient", {}),
    "imbalance.focal_gamma": (2.0, "gradient", {}),
    "regularization.r_drop": (1.0, "gradient", {}),
    "regularization.mixout": (0.5, "gradient update", {}),
    "lora.rank": (2, "gradient update", {}),
    "lora.alpha": (2.0, "gradient update", {"lora.rank": 2}),
    "lora.dropout": (0.5, "gradient update", {"lora.rank": 2}),
    "lora.targets": (("bert/layer_0/output/w",), "gradient update", {"lora.rank": 2}),
    "distillation.teacher": ("bert", "gradient", {}),
    "distillation.teacher_weight": (0.7, "gradient", {"distillation.teacher": "bert"}),
    "distillation.teacher_temperature": (3.0, "gradient", {"distillation.teacher": "bert"}),
    "distillation.teacher_layers": (("1:1",), "gradient", {"distillation.teacher": "bert"}),
    "distillation.teacher_layers_weight": (
        2.0,
        "gradient",
        {"distillation.teacher": "bert", "distillation.teacher_layers": ("1:1",)},
    ),
}

# Settings that reach no function, and why none is needed.
NO_REACH = {
    "model": "its architecture is in the key of the network; its weights are arguments",
    "data.*": "rows are arguments, their shapes are in the key, the number of labels in that of the network",
    "standardize_targets": "scales labels, and the parameters that are evaluated; both are arguments",
    "max_length": "changes the shapes of batches alone",
    "packing": "changes the shapes of batches alone",
    "seed": "the key of dropout is an argument",
    "engine": "how a function runs on the devices is in the key of its program",
    "execution.weights": "is for answers, and a run refuses any other",
    "init_missing": "says which parameters are fresh",
    "drop": "says which parameters are fresh",
    "resize_embeddings": "the size of the vocabulary is in the key of the network",
    "masking.*": "hides words in the rows",
    "imbalance.class_weights": "are in the weights of examples, which are arguments",
    "imbalance.oversample": "repeats rows",
    "evaluation.*": "when to evaluate is the host's choice",
    "simple_models.*": "are no part of the network",
    "judging.*": "reads answers",
    "early_stopping.*": "when to stop is the host's choice",
    "checkpointing.*": "when to save is the host's choice",
    "experiment": "names the run",
    "tracking": "records the run",
    "register": "names the model",
}


def model_of(config):
    """The network of a run, as `prepare` makes it."""
    labels = ("a", "b", "c") if TASKS[config.task].names else ()
    architecture = replace(TINY, num_layers=1, execution=config.execution)
    if config.dropout_rate is not None:
        architecture = architecture.with_dropout(config.dropout_rate)
    return make_model(architecture, config.task, labels, config.pooling)


def trained_of(config):
    """The network that is trained, and the shapes of its parameters."""
    model = model_of(config)
    trained, _ = with_adapters(model, parameter_shapes(model), config.lora, seed=0)
    return trained, parameter_shapes(trained)


def functions_of(config):
    steps = config.epochs * -(-ROWS // config.batch_size)
    step = step_of(config.resolved(), trained_of(config)[0], steps)
    forward = Forward(all_devices(), model_of(config))._forward
    return {"gradient": step.gradient, "update": step.update, "forward": forward}, step


@cache
def text_of(config, part):
    """What a function of a config computes, as JAX traces it."""
    functions, step = functions_of(config)
    params = trained_of(config)[1]
    state = jax.eval_shape(step.init, params, seed_key(0))
    if part == "gradient":
        trace = jax.make_jaxpr(functions[part], axis_env=[(AXIS, 1)])
        return str(trace(state, empty_batch(2, 8, 2)))
    return str(jax.make_jaxpr(functions[part])(state, step.trainable(params), np.float32(0)))


def test_every_setting_is_known_to_reach_the_programs_or_not():
    for name in flatten(FineTuneConfig()):
        listed = [pattern for pattern in NO_REACH if fnmatchcase(name, pattern)]
        assert len(listed) + (name in REACH) == 1, f"{name}: does it change a program? List it here"
    assert all(any(fnmatchcase(name, pattern) for name in flatten(FineTuneConfig())) for pattern in NO_REACH)


@pytest.mark.parametrize("name", REACH)
def test_a_setting_that_reaches_a_function_makes_another_one(name):
    """And the others are shared: what a function computes differs where the function does, or it would be no reach."""
    value, parts, needs = REACH[name]
    before = override(FineTuneConfig(), needs)
    after = override(before, {name: value})
    (old, _), (new, _) = functions_of(before), functions_of(after)
    assert {part for part in PARTS if old[part] is not new[part]} == set(parts.split())
    assert functions_of(after)[0] == new  # made once


def test_stacked_runs_share_the_step_of_as_many():
    (_, step), (_, same) = functions_of(FineTuneConfig()), functions_of(FineTuneConfig(seed=1))
    assert stacked_step(step, 2) is stacked_step(same, 2)
    assert stacked_step(step, 2) is not stacked_step(step, 3)


BY_THE_HOST = ("optimizer.plateau_factor", "optimizer.plateau_patience")  # which reads the same settings


@pytest.mark.parametrize("name", [name for name in REACH if name.startswith(("optimizer.", "imbalance.", "regular"))])
def test_those_functions_compute_something_else(name):
    value, parts, needs = REACH[name]
    before = override(FineTuneConfig(), needs)
    after = override(before, {name: value})
    for part in parts.split():
        assert (text_of(before, part) != text_of(after, part)) is (name not in BY_THE_HOST)


def trained(config, step, model):
    """Three steps of a config's run: parameters and losses, and how many programs the gradient needed."""
    devices = all_devices(config.engine)
    state = devices.place(step.init(model.init(jax.random.key(1)), seed_key(config.seed)))
    compiled, losses = CompiledTrainStep(devices, model, step, state, [EIGHT_ROWS]), []
    for _ in range(3):
        state, metrics = compiled(state, EIGHT_ROWS)
        losses.append(float(metrics["loss"]))
    compiled.close()
    return jax.device_get(state.params), losses, compiled.compiles


def made_alone(config, monkeypatch):
    """The network and the step of a config, of functions that nothing else has."""
    with monkeypatch.context() as patch:
        patch.setattr(network, "_applied", network._applied.__wrapped__)
        model = model_of(config)
    imbalance = config.imbalance
    of_classes = imbalance.label_smoothing or imbalance.focal_gamma
    loss = imbalanced_cross_entropy.__wrapped__(imbalance.label_smoothing, imbalance.focal_gamma)
    step = make_train_step(
        model,
        make_optimizer(config.optimizer, TOTAL_STEPS, model),
        loss if of_classes else loss_of(config),
        axis_name=AXIS,
    )
    return model, step


def test_runs_in_one_process_have_the_bits_that_each_has_alone(no_programs, monkeypatch):
    """They differ in a setting that JAX cannot see, as it is in a closure: a program of another run would be taken
    without an error."""
    base = FineTuneConfig(optimizer=Optimizer(learning_rate=1e-2), dropout_rate=0.1)
    changes = {"optimizer.learning_rate": 1e-3, "dropout_rate": 0.4, "imbalance.label_smoothing": 0.2}
    configs = [base, *(override(base, {name: value}) for name, value in changes.items())]
    shared, compiles = [], []
    for config in configs:
        model = model_of(config)
        *found, count = trained(config, step_of(config.resolved(), model, TOTAL_STEPS), model)
        shared.append(found)
        compiles.append(count)
    assert compiles == [1, 0, 1, 1]  # the learning rate is no part of the gradient
    for config, found in zip(configs, shared, strict=True):
        model, step = made_alone(config, monkeypatch)
        *alone, count = trained(config, step, model)
        assert count == 1
        chex.assert_trees_all_equal(found, alone)
    assert len({tuple(losses) for _, losses in shared}) == len(configs)
