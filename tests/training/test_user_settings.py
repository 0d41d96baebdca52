"""A user's process-wide settings of JAX and NumPy change no number, or are refused before anything is written."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bertjax.baselines.parity.random_examples import random_examples
from bertjax.batch import padded_batch
from bertjax.config import Execution
from bertjax.data.table import Table
from bertjax.errors import ConfigError, Interrupted
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.inference.predictor import Predictor
from bertjax.losses import cross_entropy
from bertjax.prediction.forward import _forward
from bertjax.tasks import TASKS, find_task, make_model
from bertjax.tasks.postprocess import softmax
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.multi.stacked_seeds import train_stacked
from bertjax.training.optim.ema import evaluation_params
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.optim.schedules import after_evaluation, learning_rate_schedule
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepared_run import prepare_run
from bertjax.training.run.training_session import RunContext
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.optimizer_defaults import OPTIMIZERS, SCHEDULES
from bertjax.training.settings.options import Optimizer, Regularization
from bertjax.training.step.train_step import make_train_step, seed_key
from tests.support.models import TINY, of_a_member_with
from tests.support.processes import ROOT, complaint, run_python, user_environment
from tests.support.tracking import stop_after

X64 = {"jax_enable_x64": True}
# Under them, the program and its numbers are those without them. The tests' own process is strict about promotion.
NEUTRAL = {
    "x64": X64,
    "typed keys": {"jax_enable_custom_prng": True, "jax_legacy_prng_key": "error"},
    "matmul precision": {"jax_default_matmul_precision": "bfloat16"},
    "checks": {"jax_debug_nans": True, "jax_debug_infs": True, "jax_debug_key_reuse": True, "jax_enable_checks": True},
}
# Under them, random numbers are others, which the user has asked for.
GENERATORS = {
    "rbg": {"jax_default_prng_impl": "rbg"},
    "unsafe_rbg": {"jax_default_prng_impl": "unsafe_rbg"},
    "old threefry": {"jax_threefry_partitionable": False},
}
DTYPES = {np.dtype(kind) for kind in (np.float32, np.int32, np.uint32, np.bool_)}


@pytest.fixture
def under(monkeypatch):
    """Sets process-wide settings of JAX, and afterwards those of before."""
    before = {}

    def under(settings):
        for name, value in settings.items():
            before.setdefault(name, getattr(jax.config, name))
            jax.config.update(name, value)

    yield under
    for name, value in before.items():
        jax.config.update(name, value)


def variant(task="classification", precision="float32", optimizer=None, r_drop=0.0, mixout=0.0, accumulate=1, **run):
    """A network, its step, and a state and a batch for it, as shapes."""
    config = replace(of_a_member_with(task), execution=Execution(precision=precision, **run))
    model = make_model(config, task, ("a", "b", "c") if TASKS[task].names else ())
    step = make_train_step(
        model,
        make_optimizer(optimizer or Optimizer(), 10, model),
        TASKS[task].loss,
        accumulate=accumulate,
        regularization=Regularization(r_drop, mixout),
    )
    batch = jax.tree.map(jnp.asarray, random_examples(model, 4, 9, seed=0).batch)
    state = jax.eval_shape(lambda: step.init(model.init(jax.random.key(0)), seed_key(0)))
    return model, step, state, batch


OPTIMIZED = {name: {"optimizer": Optimizer(name)} for name in OPTIMIZERS}
SCHEDULED = {name: {"optimizer": Optimizer(schedule=name)} for name in SCHEDULES}
TRAINED = {
    f"{task} {precision}": {"task": task, "precision": precision}
    for precision in ("float32", "bfloat16")
    for task, row in TASKS.items()
    if row.loss is not None and (precision == "float32" or task in ("regression", "sentence_embedding", "pretraining"))
}
OTHERS = {
    "average": {"optimizer": Optimizer(ema_decay=0.9)},
    "shares": {"optimizer": Optimizer(layer_decay=0.5, head_learning_rate=1e-3, warmup=0.0, clip_norm=None)},
    "regularized": {"r_drop": 1.0, "mixout": 0.5},
    "accumulated": {"accumulate": 2},
    "scanned": {"layers": "stacked", "remat": True},
}
EVERYTHING = {**OPTIMIZED, **SCHEDULED, **TRAINED, **OTHERS}


def program(function, *arguments):
    """What a function computes, operation by operation with dtypes, and the shapes of its results.

    Equal programs give equal bits.
    """
    jaxpr, results = jax.make_jaxpr(function, return_shape=True)(*arguments)
    return re.sub(r"0x[0-9a-f]+", "", str(jaxpr)), results


@pytest.mark.parametrize("name", EVERYTHING)
def test_everything_is_the_same_program_with_64_bits(name, under):
    """Each optimizer, schedule, task, precision and regularizer: the step, and the forward pass of evaluation."""
    model, step, state, batch = variant(**EVERYTHING[name])
    forward = _forward(model.apply, find_task(model.task).scores)
    programs = [program(step, state, batch)[0], program(forward, state.params, batch)[0]]
    types = [(leaf.dtype, leaf.shape) for leaf in jax.tree.leaves(state)]
    assert {dtype for dtype, _ in types} <= DTYPES
    under(X64 | NEUTRAL["typed keys"])
    model, step, state, batch = variant(**EVERYTHING[name])
    assert [(leaf.dtype, leaf.shape) for leaf in jax.tree.leaves(state)] == types
    of_step, (after, metrics) = program(step, state, batch)
    assert [of_step, program(forward, state.params, batch)[0]] == programs
    assert [(leaf.dtype, leaf.shape) for leaf in jax.tree.leaves(after)] == types
    assert {leaf.dtype for leaf in jax.tree.leaves(metrics)} <= DTYPES


def test_parts_on_the_host_have_the_same_bits_with_64_bits(under):
    """Initial parameters, learning rates, a lowered rate, averaged parameters."""
    plateau = Optimizer(schedule="reduce_on_plateau", plateau_patience=1, ema_decay=0.9).resolved()

    def parts():
        model = make_model(TINY, "classification", ("a", "b"))
        params = jax.jit(model.init)(jax.random.key(7))
        step = make_train_step(model, make_optimizer(plateau, 10, model), cross_entropy)
        state = step.init(params, jax.random.PRNGKey(0))
        for _ in range(3):
            state = after_evaluation(plateau, state, 1.0)
        rates = [learning_rate_schedule(Optimizer(schedule=name), 10)(jnp.int32(3)) for name in SCHEDULES]
        return jax.device_get((state, evaluation_params(state), rates))

    expected = parts()
    under(X64)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), parts(), expected))


@pytest.mark.parametrize("settings", [*NEUTRAL.values(), *GENERATORS.values()], ids=[*NEUTRAL, *GENERATORS])
def test_a_users_own_loop(settings, under):
    """With keys, an optimizer and a batch of the user's, of whatever kind the settings make them."""
    under(settings)
    model = make_model(TINY, "classification", ("a", "b"))
    batch = padded_batch(np.ones((2, 5)), np.arange(10).reshape(2, 5), labels=np.array([0, 1]))
    step = make_train_step(model, optax.adamw(1e-3), cross_entropy)
    state = jax.eval_shape(lambda: step.init(model.init(jax.random.key(0)), jax.random.key(1)))
    after, metrics = jax.eval_shape(step, state, batch)
    assert [leaf.dtype for leaf in jax.tree.leaves(after)] == [leaf.dtype for leaf in jax.tree.leaves(state)]
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state, metrics))} <= DTYPES
    output = jax.eval_shape(lambda params: model.apply(params, None, batch), state.params)
    assert output.logits.dtype == jnp.float32


@pytest.fixture(scope="module")
def config(tiny_model, reviews):
    """A run of two epochs with dropout and an average of its parameters."""
    table = Table(str(reviews), text=("title", "body"), label="stars")
    optimizer = Optimizer(learning_rate=1e-2, ema_decay=0.9)
    return FineTuneConfig(str(tiny_model), table, epochs=2, max_length=16, batch_size=8, optimizer=optimizer)


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    """The weights of the run, and what they say, without any setting."""
    return trained(config, tmp_path_factory.mktemp("settings") / "run")


def trained(config, folder, **more):
    result = finetune(config, folder, tracker=MemoryTracker(), **more)
    return (result.model_dir / "model.safetensors").read_bytes(), said(result.model_dir, config.data.train)


def said(model_dir, rows):
    answers = Predictor.load(model_dir)([("the film", "good and great ."), ("what a plot", "bad and dull .")])
    return answers, evaluate(str(model_dir), rows).report.metrics


def stopped(config, folder):
    with pytest.raises(Interrupted):
        finetune(config, folder, tracker=MemoryTracker(), should_stop=stop_after(3))


@pytest.mark.parametrize("settings", NEUTRAL.values(), ids=NEUTRAL)
def test_a_run_goes_on_under_a_setting_to_the_same_bits(config, uninterrupted, settings, under, tmp_path):
    """Stopped without the setting and resumed under it: checkpoint, training, evaluation, model folder, predictor."""
    stopped(config, tmp_path / "run")
    under(settings)
    assert trained(config, tmp_path / "run", if_exists="resume") == uninterrupted


def test_what_was_saved_with_64_bits_is_read_without(config, uninterrupted, under, tmp_path):
    """The other engine, for once."""
    config = replace(config, engine="shard_map")
    under(X64)
    stopped(config, tmp_path / "run")
    under({"jax_enable_x64": False})
    assert trained(config, tmp_path / "run", if_exists="resume") == uninterrupted


@pytest.mark.parametrize("settings", GENERATORS.values(), ids=GENERATORS)
def test_another_generator_trains_and_resumes(config, settings, under, tmp_path):
    """Two of them have keys of four words."""
    under(settings)
    expected = trained(config, tmp_path / "whole")
    stopped(config, tmp_path / "run")
    assert trained(config, tmp_path / "run", if_exists="resume") == expected


def test_stacked_seeds_have_the_same_bits_with_64_bits(config, under, tmp_path):
    def stacked(folder):
        runs = [prepare_run(replace(config, epochs=1, seed=seed), folder / str(seed)) for seed in (0, 1)]
        results = train_stacked(runs, [RunContext(tracker=MemoryTracker()) for _ in runs])
        return [(result.model_dir / "model.safetensors").read_bytes() for result in results]

    expected = stacked(tmp_path / "32")
    under(X64)
    assert stacked(tmp_path / "64") == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jax_disable_jit": True}, "JAX_DISABLE_JIT is set, and bertjax compiles its programs ahead of time; unset"),
        ({"jax_transfer_guard": "disallow"}, "JAX_TRANSFER_GUARD=disallow forbids the transfers by which JAX itself"),
        ({"jax_transfer_guard_device_to_host": "disallow_explicit"}, "JAX_TRANSFER_GUARD_DEVICE_TO_HOST=disallow_exp"),
    ],
    ids=["no jit", "no transfers", "none to the host"],
)
def test_what_cannot_work_is_refused_before_anything_is_written(config, settings, message, under, tmp_path):
    tracker = MemoryTracker()
    under(settings)
    with pytest.raises(ConfigError, match=message):
        finetune(config, tmp_path / "run", tracker=tracker)
    assert not any(tmp_path.iterdir())
    assert not tracker.params


def test_a_confident_model_answers_where_numpy_raises_for_every_underflow():
    """Its other answers have probability 0."""
    with np.errstate(all="raise"):
        assert softmax(np.array([[200.0, 0.0]], np.float32)).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("level", ["1", "2"])
def test_an_interpreter_without_assert_statements_is_refused(level, tmp_path):
    """Haiku would name modules wrongly, and end with a traceback where docstrings are left out too."""
    env = user_environment(PYTHONOPTIMIZE=level, PYTHONPATH=str(ROOT))
    done = run_python("-m", "bertjax", "finetune", "--out", str(tmp_path / "run"), env=env)
    assert done.returncode == 2
    assert complaint(done.stderr) == (
        "bertjax: python -O (PYTHONOPTIMIZE) leaves out statements that Haiku needs; run without it"
    )
    assert not any(tmp_path.iterdir())
