"""Freezing: what is frozen keeps its bits, and costs neither a gradient nor optimizer state."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.data.encode.examples import Examples
from bertjax.data.table import Table
from bertjax.devices.data_parallel import AXIS, all_devices
from bertjax.errors import ConfigError
from bertjax.losses import cross_entropy
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.tasks import TASKS, make_model, parameter_shapes
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.optim.param_filters import frozen_paths
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import make_train_step
from tests.support.models import of_a_member_with

LABELS = ("a", "b", "c")
# What a user can write, and whether a path is frozen by it.
FREEZES = {
    (): lambda path: False,
    ("embeddings",): lambda path: path.startswith("bert/embeddings/"),
    ("layers:1",): lambda path: path.startswith("bert/layer_0/"),
    ("backbone",): lambda path: not path.startswith("classifier/"),
    ("head",): lambda path: path.startswith("classifier/"),
    ("biases",): lambda path: path.endswith("/b"),
    ("bert/layer_*/attention/*",): lambda path: "/attention/" in path,
    ("norms",): lambda path: path.endswith(("scale", "offset")),
    ("embeddings", "layers:1", "pooler/*"): lambda path: path.startswith(("bert/embeddings", "bert/layer_0", "pooler")),
}
SOME = [("embeddings", "layers:1", "pooler/*"), ("backbone",), ("bert/layer_*/attention/*",)]


def network(task="classification", **changes):
    return make_model(replace(of_a_member_with(task), **changes), task, LABELS if TASKS[task].names else ())


def by_path(tree):
    """{path: leaf}, with paths as `freeze` names them."""
    return {f"{module}/{name}": leaf for module, leaves in tree.items() for name, leaf in leaves.items()}


@pytest.mark.parametrize("freeze", FREEZES)
def test_what_an_entry_freezes(freeze):
    expected = {path for path in by_path(parameter_shapes(network())) if FREEZES[freeze](path)}
    assert frozen_paths(network(), freeze) == expected
    assert bool(expected) == bool(freeze)


def test_the_first_layers_are_told_from_those_with_two_digits():
    frozen = frozen_paths(network(num_layers=12), ("layers:2",))
    assert {path.split("/")[1] for path in frozen} == {"layer_0", "layer_1"}
    assert len(frozen) == 2 * 16


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("token_classification", {"classifier"}),
        ("question_answering", {"qa_outputs"}),
        ("masked_lm", {"masked_lm", "masked_lm/transform", "masked_lm/norm"}),
        ("pretraining", {"masked_lm", "masked_lm/transform", "masked_lm/norm", "next_sentence"}),
        ("replaced_tokens", {"replaced_tokens/transform", "replaced_tokens/prediction"}),
    ],
)
def test_the_backbone_is_all_but_the_head_of_the_task(task, head):
    model = network(task)
    left = set(by_path(parameter_shapes(model))) - frozen_paths(model, ("backbone",))
    assert {path.rpartition("/")[0] for path in left} == head


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (("bert/layer_7/*",), r"freeze: 'bert/layer_7/\*' matches no parameter; paths read as bert/embeddings/"),
        (("embeddings", "heads"), "freeze: 'heads' matches no parameter; paths read as"),
        (("layers:0",), "freeze: layers:N needs N from 1 to 2, got '0'"),
        (("layers:99",), "freeze: layers:N needs N from 1 to 2, got '99'"),
        (("layers:x",), "freeze: layers:N needs N from 1 to 2, got 'x'"),
        (("layers:-1",), "freeze: layers:N needs N from 1 to 2, got '-1'"),
        (("*",), r"freeze: \* leaves nothing to train"),
        (("backbone", "head"), r"freeze: backbone head leaves nothing to train"),
    ],
)
def test_a_useless_freeze_is_refused(freeze, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        make_train_step(network(), make_optimizer(Optimizer(), 1, network()), cross_entropy, freeze=freeze)


def batches_of(count, epochs, devices=1):
    """Packed batches of random examples in three classes, and an empty one of each shape."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(3, 20, count))])
    tokens = rng.integers(5, 60, offsets[-1]).astype(np.int32)
    examples = Examples(tokens, np.zeros_like(tokens), offsets, rng.integers(0, 3, count).astype(np.int32), 0)
    plan = plan_training(examples.lengths, 8, epochs, 0, 16, devices, packed=True)
    return [packed_batch.batch for packed_batch in StoredBatches(examples, plan).batches()], plan.empty_batches


def start(freeze, learning_rate=1e-2, total_steps=5, axis_name=None):
    optimizer = make_optimizer(Optimizer(learning_rate=learning_rate), total_steps, network())
    step = make_train_step(network(), optimizer, cross_entropy, axis_name=axis_name, freeze=freeze)
    return step, step.init(network().init(jax.random.PRNGKey(0)), jax.random.PRNGKey(0))


def jitted_run(freeze):
    step, state = start(freeze)
    before, jitted = state.params, jax.jit(step)
    for batch in batches_of(8, epochs=5)[0]:
        state, _ = jitted(state, batch)
    return before, state


def engine_run(freeze):
    step, state = start(freeze, axis_name=AXIS)
    before = jax.tree.map(np.array, state.params)
    batches, shapes = batches_of(8, epochs=5, devices=2)
    devices = all_devices()
    state = devices.place(state)
    engine = CompiledTrainStep(devices, network(), step, state, shapes)
    for batch in batches:
        state, _ = engine(state, batch)
    return before, state


@pytest.mark.parametrize("run", [jitted_run, engine_run])
@pytest.mark.parametrize("freeze", SOME)
def test_training_moves_all_but_the_frozen(run, freeze):
    """Weight decay included, which moves a parameter without any gradient."""
    before, state = run(freeze)
    assert int(state.step) == 5
    assert jax.tree.structure(state.params) == jax.tree.structure(before)
    after = by_path(state.params)
    kept = {path for path, leaf in by_path(before).items() if np.array_equal(leaf, after[path])}
    assert kept == {path for path in after if FREEZES[freeze](path)}


@pytest.mark.parametrize("freeze", SOME)
def test_the_frozen_have_no_gradient_and_no_optimizer_state(freeze):
    step, state = start(freeze)
    _, unfrozen_state = start(())
    grads, _ = jax.eval_shape(step.gradient, state, batches_of(8, epochs=1)[0][0])
    trained = {path: leaf.shape for path, leaf in by_path(state.params).items() if not FREEZES[freeze](path)}
    assert {path: leaf.shape for path, leaf in by_path(grads).items()} == trained
    assert by_path(step.trainable(state.params)).keys() == trained.keys()

    def leaves_and_numbers(tree):
        leaves = jax.tree.leaves(tree)
        return np.array([len(leaves), sum(leaf.size for leaf in leaves)])

    frozen = [leaf for path, leaf in by_path(state.params).items() if FREEZES[freeze](path)]
    saved = leaves_and_numbers(unfrozen_state.opt_state) - leaves_and_numbers(state.opt_state)
    np.testing.assert_array_equal(saved, 2 * leaves_and_numbers(frozen))  # Adam's two moments


def test_a_head_learns_on_a_frozen_backbone():
    batches, _ = batches_of(8, epochs=100)
    step, state = start(("backbone",), learning_rate=0.3, total_steps=len(batches))
    jitted, losses = jax.jit(step), []
    for batch in batches:
        state, metrics = jitted(state, batch)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_a_whole_run_keeps_a_frozen_backbone(tiny_model, reviews, tmp_path):
    config = FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(reviews), text=("title", "body"), label="stars"),
        epochs=1,
        max_length=48,
        batch_size=8,
        optimizer=Optimizer(learning_rate=1e-2),
        freeze=("backbone",),
    )
    result = finetune(config, tmp_path / "run", tracker=MemoryTracker())
    before, after = (by_path(from_pretrained(folder)[1]) for folder in (tiny_model, result.model_dir))
    for path, leaf in before.items():
        np.testing.assert_array_equal(after[path], leaf)
    fresh = from_pretrained(tiny_model, "classification", labels=("bad", "good"))[1]
    assert not np.array_equal(after["classifier/w"], fresh["classifier"]["w"])
