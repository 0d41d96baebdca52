"""Every optimizer does what its paper, or PyTorch, does: ten steps beside an implementation that is not Optax's."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers

from bertjax.errors import ConfigError
from bertjax.tasks import make_model, parameter_shapes
from bertjax.training.optim.ema import evaluation_params
from bertjax.training.optim.optimizer import _DIRECTIONS, decay_mask, learning_rate_shares, make_optimizer
from bertjax.training.optim.schedules import learning_rate_schedule
from bertjax.training.settings.optimizer_defaults import OPTIMIZERS
from bertjax.training.settings.options import Optimizer
from bertjax.training.train_state import TrainState
from tests.support.models import TINY

MODEL = make_model(TINY, "classification", ("a", "b"))
MODULE = "bert/layer_1/intermediate"
STEPS = 10


def start(seed=0):
    """A weight matrix and a bias, and the gradients of ten steps."""
    rng = np.random.default_rng(seed)
    shapes = {"w": (16, 32), "b": (32,)}
    params = {name: rng.normal(scale=0.1, size=shape).astype(np.float32) for name, shape in shapes.items()}
    grads = [{name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(STEPS)]
    return params, grads


def run_ours(settings, module=MODULE):
    """Parameters after ten steps, those to evaluate, and the learning rates."""
    params, grads = start()
    optimizer = make_optimizer(settings, STEPS, MODEL)
    moved = {module: jax.tree.map(jnp.asarray, params)}
    state = optimizer.init(moved)
    update = jax.jit(optimizer.update)
    for grad in grads:
        updates, state = update({module: grad}, state, moved)
        moved = optax.apply_updates(moved, updates)
    evaluated = evaluation_params(TrainState(moved, state, jnp.zeros(()), jnp.zeros(())))
    return moved[module], evaluated[module]


def rates_of(settings):
    schedule = learning_rate_schedule(settings, STEPS)
    return [float(schedule(step)) for step in range(STEPS)]


def clipped(grads, largest):
    norm = np.sqrt(sum(np.square(grad.astype(np.float64)).sum() for grad in grads.values()))
    return {name: grad * min(1.0, largest / norm) for name, grad in grads.items()}


def assert_close(ours, theirs, atol):
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, atol=atol, rtol=0, err_msg=name)


def run_torch(settings, make):
    """Ten steps of a torch optimizer; `make` takes groups with and without decay."""
    params, grads = start()
    leaves = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in params.items()}
    optimizer = make(
        [
            {"params": [leaves["w"]], "weight_decay": settings.resolved().weight_decay},
            {"params": [leaves["b"]], "weight_decay": 0.0},
        ]
    )
    for rate, grad in zip(rates_of(settings), grads, strict=True):
        for name, leaf in leaves.items():
            leaf.grad = torch.tensor(grad[name])
        torch.nn.utils.clip_grad_norm_(list(leaves.values()), settings.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return {name: leaf.detach().numpy() for name, leaf in leaves.items()}


def run_formula(settings, direction):
    """Ten steps by hand in float64: `direction(name, t, param, grad, memory)` is uphill, decay included."""
    params, grads = start()
    params = {name: value.astype(np.float64) for name, value in params.items()}
    memory = {name: {} for name in params}
    for t, (rate, grad) in enumerate(zip(rates_of(settings), grads, strict=True), start=1):
        limited = clipped(grad, settings.clip_norm)
        for name in params:
            params[name] = params[name] - rate * direction(name, t, params[name], limited[name], memory[name])
    return params


def adam(grad, memory, t, b1=0.9, b2=0.999, eps=1e-8):
    memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * grad
    memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * grad**2
    return memory["m"] / (1 - b1**t) / (np.sqrt(memory["v"] / (1 - b2**t)) + eps)


def test_the_published_and_the_built_are_the_same():
    assert OPTIMIZERS.keys() == _DIRECTIONS.keys()


# torch adds 1e-6 to the norm when it clips, so clipped gradients differ in the seventh digit


def test_adamw():
    settings = Optimizer(learning_rate=0.1, warmup=0.2, weight_decay=0.3, clip_norm=0.5)
    theirs = run_torch(settings, lambda groups: torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.999), eps=1e-8))
    assert_close(run_ours(settings)[0], theirs, atol=2e-5)


def test_sgd_with_momentum():
    settings = Optimizer("sgd", learning_rate=0.1)
    theirs = run_torch(settings, lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9))
    assert_close(run_ours(settings)[0], theirs, atol=1e-6)


def test_adafactor():
    """Not factored, because neither side of the matrix has 128 entries: transformers' factors anything."""
    settings = Optimizer("adafactor", learning_rate=0.01, warmup=0.0, schedule="constant", clip_norm=1.0)
    params, grads = start()
    leaf = torch.nn.Parameter(torch.tensor(params["b"]))
    theirs = transformers.Adafactor([leaf], lr=0.01, relative_step=False, scale_parameter=True, decay_rate=-0.8)
    for grad in grads:
        leaf.grad = torch.tensor(clipped(grad, 1.0)["b"], dtype=torch.float32)
        theirs.step()
    # The second moment's decay is 1 - t^-0.8 in both.
    assert_close(run_ours(settings)[0], {"b": leaf.detach().numpy()}, atol=2e-6)


def test_adafactor_keeps_rows_and_columns_of_a_large_matrix():
    optimizer = make_optimizer(Optimizer("adafactor"), STEPS, MODEL)
    state = optimizer.init({MODULE: {"w": jnp.zeros((256, 512))}})
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 256 + 512 + 20


def test_lamb():
    settings = Optimizer("lamb", learning_rate=0.02, weight_decay=0.1)

    def direction(name, t, param, grad, memory):
        update = adam(grad, memory, t, eps=1e-6) + (0.1 * param if name == "w" else 0)
        return update * np.linalg.norm(param) / np.linalg.norm(update)

    assert_close(run_ours(settings)[0], run_formula(settings, direction), atol=1e-6)


def test_lion():
    settings = Optimizer("lion", learning_rate=0.01)

    def direction(name, t, param, grad, memory):
        update = np.sign(0.9 * memory.get("m", 0) + 0.1 * grad) + (0.05 * param if name == "w" else 0)
        memory["m"] = 0.99 * memory.get("m", 0) + 0.01 * grad
        return update

    assert_close(run_ours(settings)[0], run_formula(settings, direction), atol=1e-6)


def test_schedule_free_adamw():
    settings = Optimizer("schedule_free_adamw", learning_rate=0.02, weight_decay=0.1, warmup=0.0)
    params, grads = start()
    for name, decay in (("w", 0.1), ("b", 0.0)):
        z = x = y = params[name].astype(np.float64)
        v = 0.0
        for t, grad in enumerate((clipped(grads_of_all, 1.0)[name] for grads_of_all in grads), start=1):
            v = 0.999 * v + 0.001 * grad**2
            z = z - 0.02 * (grad / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * y)
            x = (1 - 1 / t) * x + z / t  # a constant rate weighs each step the same
            y = 0.1 * z + 0.9 * x
        trained, evaluated = run_ours(settings)
        assert_close(trained, {name: y}, atol=1e-6)
        assert_close(evaluated, {name: x}, atol=2e-6)


def muon(name, t, param, grad, memory):
    if name == "b":
        return adam(grad, memory, t)
    memory["m"] = 0.95 * memory.get("m", 0) + 0.05 * grad
    ahead = 0.95 * memory["m"] / (1 - 0.95 ** (t + 1)) + 0.05 * grad / (1 - 0.95**t)  # Nesterov
    x = ahead / np.linalg.norm(ahead)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return 0.2 * np.sqrt(32) * x + 0.1 * param


def test_muon():
    settings = Optimizer("muon", learning_rate=0.01)
    # Five products of matrices in float32
    assert_close(run_ours(settings)[0], run_formula(settings, muon), atol=2e-5)


@pytest.mark.parametrize("module", ["classifier", "bert/embeddings/word"])
def test_muon_leaves_the_head_and_embeddings_to_adam(module):
    name = "embeddings" if "embeddings" in module else "w"
    optimizer = make_optimizer(Optimizer("muon", weight_decay=0.0, warmup=0.0), STEPS, MODEL)
    params = {module: {name: jnp.ones((8, 4))}}
    updates, _ = optimizer.update({module: {name: jnp.full((8, 4), 1e-3)}}, optimizer.init(params), params)
    np.testing.assert_allclose(updates[module][name], -1e-4, rtol=1e-3)  # the sign, at the learning rate


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_explicit_settings_override_the_published(name):
    published = dict(OPTIMIZERS[name])
    resolved = Optimizer(name).resolved()
    assert {setting: getattr(resolved, setting) for setting in published} == published
    assert resolved.resolved() == resolved
    assert Optimizer(name, learning_rate=7.0, weight_decay=0.5).resolved().learning_rate == 7.0


def test_without_a_limit_gradients_are_not_clipped():
    assert_close(run_ours(Optimizer("sgd", clip_norm=None))[0], run_ours(Optimizer("sgd", clip_norm=0))[0], atol=0)
    limited, free = (run_ours(Optimizer("sgd", clip_norm=norm))[0]["b"] for norm in (1.0, None))
    assert np.abs(limited - free).max() > 0.01


def test_average_of_the_parameters():
    settings = Optimizer("sgd", learning_rate=0.1, ema_decay=0.5)
    params, grads = start()
    trained, evaluated = run_ours(settings)
    assert_close(run_ours(Optimizer("sgd", learning_rate=0.1))[0], trained, atol=0)

    average = position = params["b"].astype(np.float64)
    velocity = 0.0
    for t, (rate, grad) in enumerate(zip(rates_of(settings), grads, strict=True), start=1):
        velocity = 0.9 * velocity + clipped(grad, 1.0)["b"]
        position = position - rate * velocity
        share = min(0.5, t / (t + 9))
        average = share * average + (1 - share) * position
    assert_close(evaluated, {"b": average}, atol=1e-6)


def test_biases_and_layer_norms_are_not_decayed():
    mask = decay_mask(MODEL)(parameter_shapes(MODEL))
    assert mask["bert/embeddings/word"] == {"embeddings": True}
    assert mask["bert/layer_0/attention/query"] == {"w": True, "b": False}
    assert mask["bert/layer_0/output_norm"] == {"scale": False, "offset": False}


def test_what_is_not_decayed_can_be_chosen():
    mask = decay_mask(MODEL, ("head", "layers:1", "*/position/*"))(parameter_shapes(MODEL))
    assert mask["classifier"] == {"w": False, "b": False}
    assert mask["bert/layer_0/output_norm"] == {"scale": False, "offset": False}
    assert mask["bert/layer_1/output_norm"] == {"scale": True, "offset": True}
    assert (mask["bert/embeddings/position"], mask["bert/embeddings/word"]) == (
        {"embeddings": False},
        {"embeddings": True},
    )


def test_each_layer_learns_slower_than_the_one_above():
    shares = learning_rate_shares(Optimizer(learning_rate=0.1, layer_decay=0.5, head_learning_rate=0.2), MODEL)
    assert shares["classifier/w"] == 2
    assert shares["pooler/w"] == 1
    assert shares["bert/layer_1/output/w"] == 0.5
    assert shares["bert/layer_0/attention/query/b"] == 0.25
    assert shares["bert/embeddings/norm/scale"] == 0.125
    assert set(learning_rate_shares(Optimizer(), MODEL).values()) == {1.0}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_slower_layer_moves_less(name):
    settings = Optimizer(name, learning_rate=1e-3, weight_decay=0.0)
    before = start()[0]["w"]
    whole, half = (
        run_ours(replace(settings, layer_decay=decay), "bert/layer_1/output")[1]["w"] - before for decay in (1.0, 0.5)
    )
    # LAMB and Adafactor measure a parameter's own size, which has moved less.
    np.testing.assert_allclose(half, whole / 2, atol=1e-2 * np.abs(whole).max())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "lionn"}, r"optimizer 'lionn' is unknown; did you mean 'lion'\?"),
        ({"name": "xyz"}, "optimizer 'xyz' is unknown; there are adamw, lamb"),
        ({"schedule": "cosin"}, r"schedule 'cosin' is unknown; did you mean 'cosine'\?"),
        ({"name": "lion", "eps": 1e-8}, "optimizer 'lion' has no eps; it has learning_rate, weight_decay, b1, b2"),
        ({"name": "adamw", "momentum": 0.9}, "optimizer 'adamw' has no momentum"),
        ({"name": "schedule_free_adamw", "schedule": "cosine"}, "keeps its rate constant; leave out schedule 'cosine'"),
        ({"name": "schedule_free_adamw", "ema_decay": 0.9}, "has an average of its own; leave out ema_decay"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"warmup": -1}, "warmup must not be negative, got -1"),
        ({"warmup": 2.5}, "or a whole number of them, got 2.5"),
        ({"layer_decay": 1.2}, r"layer_decay must be in \(0, 1\], got 1.2"),
        ({"layer_decay": 0.0}, r"layer_decay must be in \(0, 1\], got 0.0"),
        ({"ema_decay": 1.0}, r"ema_decay must be in \(0, 1\), got 1.0"),
        ({"clip_norm": -1.0}, "clip_norm must not be negative, got -1.0"),
        ({"b2": 1.0}, r"b2 must be in \[0, 1\), got 1.0"),
        ({"plateau_factor": 1.0}, r"plateau_factor must be in \(0, 1\), got 1.0"),
        ({"plateau_patience": 0}, "plateau_patience must be 1 or more, got 0"),
        ({"final_share": 2.0}, r"final_share must be in \[0, 1\], got 2.0"),
        ({"no_decay": ("bias",)}, "no_decay: 'bias' matches no parameter; paths read as bert/embeddings"),
        ({"no_decay": ("layers:9",)}, "no_decay: layers:N needs N from 1 to 2, got '9'"),
        ({"warmup": 10}, "warmup takes 10 of the 10 steps of the run; it must be shorter"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_optimizer(Optimizer(**settings), STEPS, MODEL)


def test_a_rate_for_the_head_of_a_model_without_one():
    with pytest.raises(ConfigError, match="head_learning_rate: task 'encoder' has no head; leave it out"):
        make_optimizer(Optimizer(head_learning_rate=1e-3), STEPS, make_model(TINY, "encoder"))
