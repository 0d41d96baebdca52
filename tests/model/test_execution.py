"""How a network is run (`Execution`) changes its speed and its memory, and no result beyond rounding."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.lax import Precision
from transformers import BertModel

import bertjax.tasks
from bertjax.batch import UNLABELLED, Batch, padded_batch
from bertjax.config import Execution
from bertjax.data.batching.packing import Layout, pack_batch
from bertjax.devices.data_parallel import split_rows
from bertjax.errors import ConfigError
from bertjax.model.precision import matmul_precision, policy_of, product, to_compute
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.tasks import TASKS, make_model, parameter_shapes
from tests.support.models import TINY

MODES = ("unrolled", "stacked")
LENGTHS = np.array([7, 3, 10, 5])
# Weights large enough that attention is far from uniform: at BERT's own scale a layer hardly mixes its tokens.
WIDE = replace(TINY, initializer_range=0.2)
ROUNDING = 1e-6  # of the largest number: the same operations, which XLA fuses into other loops


def network(task="classification", num_layers=3, config=WIDE, **execution):
    config = replace(config, num_layers=num_layers, execution=Execution(**execution))
    model = make_model(config, task, ("a", "b", "c") if TASKS[task].names else ())
    return model, model.init(jax.random.PRNGKey(0))


def packed(task="classification") -> Batch:
    """Four ragged examples with the labels of a task, two a row; behind them an empty slot and padding."""
    rng = np.random.default_rng(0)
    mask = (np.arange(10) < LENGTHS[:, None]).astype(int)
    ids = rng.integers(5, 60, mask.shape) * mask
    labels = {
        "classification": rng.integers(0, 3, 4),
        "masked_lm": np.where(mask, ids, UNLABELLED),
        "question_answering": np.stack([LENGTHS // 2, LENGTHS - 1], axis=1),
    }
    labels_of = "tokens" if task == "masked_lm" else "examples"
    batch = padded_batch(mask, ids, labels=labels[task], labels_of=labels_of)
    return pack_batch(batch, [[0, 1], [2, 3]], Layout(rows=2, row_length=18, slots=3), labels_of)


def mean_loss(model, params, batch, rng_key=None):
    """With dropout where there is a key; of two halves of a batch, the mean is that of the whole."""
    output = model.apply(params, rng_key, batch, deterministic=rng_key is None)
    return (TASKS[model.task].loss(output, batch) * batch.example_weights).mean()


def on_request(model, params, batch):
    return model.apply(params, None, batch, return_hidden_states=True, return_attentions=True)


def logits_and_gradient(model, params, batch):
    return model.apply(params, None, batch).logits, jax.grad(lambda params: mean_loss(model, params, batch))(params)


def assert_close(left, right):
    def compare(a, b):
        np.testing.assert_allclose(a, b, atol=ROUNDING * max(1, np.abs(b).max()))

    jax.tree.map(compare, jax.device_get(left), jax.device_get(right))


def equations(jaxpr):
    """Every equation of a jaxpr and of the jaxprs in it: the bodies of scans, of remat, of nested calls."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                body = getattr(inner, "jaxpr", inner)
                if hasattr(body, "eqns"):
                    yield from equations(body)


def equations_of(function, *arguments):
    return list(equations(jax.make_jaxpr(function)(*arguments).jaxpr))


@pytest.mark.parametrize("num_layers", [1, 2, 5, 12])  # one layer leaves nothing to scan; twelve have two-digit names
def test_stacked_equals_unrolled(num_layers):
    unrolled, params = network(num_layers=num_layers)
    stacked, stacked_params = network(num_layers=num_layers, layers="stacked")
    assert parameter_shapes(stacked) == parameter_shapes(unrolled)
    chex.assert_trees_all_equal(stacked_params, params)
    batch = packed()
    assert_close(logits_and_gradient(stacked, params, batch), logits_and_gradient(unrolled, params, batch))
    assert_close(on_request(stacked, params, batch), on_request(unrolled, params, batch))


def test_stacked_layers_are_compiled_once():
    """What stacking is for: the program does not grow with the number of layers."""

    def size(num_layers, layers):
        model, params = network(num_layers=num_layers, layers=layers)
        program = equations_of(lambda params: model.apply(params, None, packed()).logits, params)
        return sum(equation.primitive.name == "dot_general" for equation in program)

    assert size(12, "stacked") == size(3, "stacked") < size(3, "unrolled") < size(12, "unrolled")


@pytest.mark.parametrize("layers", MODES)
def test_remat_changes_nothing(layers):
    """Dropout included: the backward pass draws the masks of the forward pass again."""
    plain, params = network(layers=layers)
    remat, _ = network(layers=layers, remat=True)
    assert_close(on_request(remat, params, packed()), on_request(plain, params, packed()))

    def loss_and_gradient(model):
        return jax.value_and_grad(lambda params: mean_loss(model, params, packed(), jax.random.PRNGKey(1)))(params)

    assert_close(loss_and_gradient(remat), loss_and_gradient(plain))


@pytest.mark.parametrize("layers", MODES)
def test_remat_computes_each_layer_again(layers):
    def recomputed(remat):
        model, params = network(layers=layers, remat=remat)
        program = equations_of(jax.grad(lambda params: mean_loss(model, params, packed())), params)
        bodies = [equation.params["jaxpr"] for equation in program if equation.primitive.name == "remat2"]
        return [sum(inner.primitive.name == "erf" for inner in equations(body)) for body in bodies]

    assert recomputed(False) == []
    # One body for each compiled layer, with its GELU in it: three layers, or a scanned one and the last.
    assert recomputed(True) == [1] * (3 if layers == "unrolled" else 2)


@pytest.mark.parametrize("layers", MODES)
@pytest.mark.parametrize("task", ["classification", "masked_lm", "question_answering"])
def test_transforms(task, layers):
    """jit, grad, vmap over parameters and pmap over devices give what the plain call gives."""
    model, params = network(task, num_layers=2, layers=layers)
    other = model.init(jax.random.PRNGKey(1))
    batch = packed(task)
    logits, gradient = plain = logits_and_gradient(model, params, batch)

    assert_close(jax.jit(lambda params, batch: logits_and_gradient(model, params, batch))(params, batch), plain)

    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, other)
    mapped = jax.jit(jax.vmap(lambda params: model.apply(params, None, batch).logits))(both)
    assert_close(mapped, jnp.stack([logits, model.apply(other, None, batch).logits]))

    over_devices = jax.pmap(lambda params, batch: logits_and_gradient(model, params, batch), in_axes=(None, 0))
    on_devices = over_devices(params, jax.tree.map(lambda leaf: split_rows(leaf, 2), batch))
    assert on_devices[0].devices() == set(jax.devices()[:2])
    shares, gradients = jax.device_get(on_devices)
    assert_close(shares.reshape(logits.shape), logits)
    assert_close(jax.tree.map(lambda leaf: leaf.mean(axis=0), gradients), gradient)

    # Along the gradient the loss rises at the rate of its length.
    length = float(jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradient))))
    ahead, behind = (
        mean_loss(model, jax.tree.map(lambda p, g, by=by: p + by * g / length, params, gradient), batch)
        for by in (1e-2, -1e-2)
    )
    np.testing.assert_allclose((ahead - behind) / 2e-2, length, rtol=2e-3)  # the third derivative, and float32


@pytest.mark.parametrize("layers", MODES)
def test_bfloat16_leaves_parameters_gradients_and_outputs_in_float32(layers):
    model, params = network(layers=layers, precision="bfloat16")
    results = [jax.eval_shape(lambda p, f=f: f(model, p, packed()), params) for f in (on_request, logits_and_gradient)]
    leaves = jax.tree.leaves((params, results))
    assert {leaf.dtype.name for leaf in leaves} == {"float32"}


def test_bfloat16_rounds_every_parameter_but_those_of_layer_norms_and_embeddings():
    model, params = network(precision="bfloat16")
    for module, leaves in to_compute(policy_of(model.config.execution), params).items():
        unrounded = "norm" in module or "embeddings" in module
        assert {leaf.dtype.name for leaf in leaves.values()} == {"float32" if unrounded else "bfloat16"}


@pytest.mark.parametrize("layers", MODES)
def test_bfloat16_is_for_products_and_never_for_norms_and_softmax(layers):
    model, params = network(layers=layers, precision="bfloat16")
    program = equations_of(lambda params: model.apply(params, None, packed()).logits, params)

    def input_dtypes(primitive):
        return [{v.aval.dtype.name for v in eqn.invars} for eqn in program if eqn.primitive.name == primitive]

    compiled = 3 if layers == "unrolled" else 2
    # A layer has four projections, two products of attention and two of the feed-forward; pooler and classifier follow.
    assert input_dtypes("dot_general") == [{"bfloat16"}] * (8 * compiled + 2)
    assert input_dtypes("exp") == [{"float32"}] * compiled
    assert input_dtypes("rsqrt") == [{"float32"}] * (2 * compiled + 1)  # two norms a layer, one of the embeddings
    assert all("bfloat16" not in dtypes for dtypes in input_dtypes("reduce_sum"))


@pytest.mark.parametrize("layers", MODES)
def test_every_product_of_a_bfloat16_gradient_takes_bfloat16(layers):
    """A float32 gradient of the attention's scores would make four products of each layer float32 ones."""
    model, params = network(layers=layers, precision="bfloat16")
    program = equations_of(lambda params: logits_and_gradient(model, params, packed()), params)
    inputs = [{v.aval.dtype.name for v in eqn.invars} for eqn in program if eqn.primitive.name == "dot_general"]
    # The forward pass alone, and the gradient's three for each of its products.
    compiled = 3 if layers == "unrolled" else 2
    assert len(inputs) >= 4 * 8 * compiled
    assert all(dtypes == {"bfloat16"} for dtypes in inputs)


def test_a_product_is_einsum_to_the_bit_in_float32():
    """Value and gradients."""
    left, right = jax.random.normal(jax.random.PRNGKey(0), (2, 3, 5, 4))
    formula = "BTK,BSK->BTS"

    def plain(left, right):
        return jnp.einsum(formula, left, right, precision="highest")

    def ours(left, right):
        return product(Execution(), formula, left, right)

    def all_of(function):
        with matmul_precision(Execution()):
            value, pullback = jax.vjp(function, left, right)
        return value, *pullback(jnp.cos(value))

    chex.assert_trees_all_equal(all_of(ours), all_of(plain))


@pytest.mark.parametrize("layers", MODES)
@pytest.mark.parametrize(
    ("precision", "expected"),
    [("float32", Precision.HIGHEST), ("tensorfloat32", Precision.HIGH), ("bfloat16", Precision.DEFAULT)],
)
def test_every_product_forward_and_backward_has_the_precision_asked_for(layers, precision, expected):
    """By default, a GPU rounds what it multiplies to 10 bits and a TPU to 7: that would be no float32."""
    model, params = network(layers=layers, precision=precision)
    program = equations_of(lambda params: logits_and_gradient(model, params, packed()), params)
    products = [eqn for eqn in program if eqn.primitive.name == "dot_general"]
    assert len(products) >= 3 * (8 * 2 + 2)  # a gradient takes two products for each of the forward pass
    assert {eqn.params["precision"] for eqn in products} == {(expected, expected)}


def test_a_cpu_knows_no_tensorfloat32():
    exact, params = network()
    rounded, _ = network(precision="tensorfloat32")
    for one, other in zip(
        jax.tree.leaves(logits_and_gradient(exact, params, packed())),
        jax.tree.leaves(logits_and_gradient(rounded, params, packed())),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_bfloat16_is_as_exact_as_torch(minilm):
    """Last hidden states of real weights beside torch's under autocast, both against float64."""
    rng = np.random.default_rng(0)
    mask = (np.arange(24) < rng.integers(4, 25, 12)[:, None]).astype(int)
    ids = rng.integers(999, 30000, mask.shape) * mask
    model, params = from_pretrained(minilm, execution=Execution(precision="bfloat16"))
    ours = model.apply(params, None, padded_batch(mask, ids), return_hidden_states=True).hidden_states[-1]

    def reference(dtype, autocast):
        network = BertModel.from_pretrained(minilm, dtype=dtype).eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = network(torch.tensor(ids), attention_mask=torch.tensor(mask))
        return output.last_hidden_state.double().numpy()

    exact = reference(torch.float64, autocast=False)

    def error(hidden_states):
        return np.linalg.norm((np.asarray(hidden_states, np.float64) - exact)[mask > 0])

    assert error(ours) < 1.1 * error(reference(torch.float32, autocast=True))  # 1.36 where GELU and sums were rounded


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
def test_bfloat16_keeps_the_direction_of_real_outputs(minilm, pooling):
    rng = np.random.default_rng(0)
    mask = (np.arange(64) < rng.integers(4, 65, 12)[:, None]).astype(int)
    batch = padded_batch(mask, rng.integers(999, 30000, mask.shape) * mask)

    def vectors(precision):
        model, params = from_pretrained(minilm, pooling=pooling, execution=Execution(precision=precision))
        return np.asarray(model.apply(params, None, batch).pooled_output)[:, 0]

    exact, rounded = vectors("float32"), vectors("bfloat16")
    norms = np.linalg.norm(exact, axis=-1) * np.linalg.norm(rounded, axis=-1)
    assert ((exact * rounded).sum(axis=-1) / norms >= 0.999).all()
    assert np.abs(exact - rounded).max() > 1e-4  # it was no float32 after all


@pytest.mark.parametrize("layers", MODES)
def test_layers_draw_their_own_dropout_masks(layers):
    """A scan that gave every layer one key would drop the same places in each of them.

    Here all that a layer adds is a constant, large where it is kept and 0 where it is dropped, so that the signs of
    its output are its mask.
    """
    config = replace(TINY, hidden_dropout_rate=0.5, attention_dropout_rate=0.0)
    model, params = network(num_layers=4, config=config, layers=layers)

    for module, leaves in params.items():
        if "/layer_" in module and "norm" not in module:
            is_output = "attention" not in module and module.endswith("output")
            params[module] = {"w": np.zeros_like(leaves["w"]), "b": np.full_like(leaves["b"], 1e3 if is_output else 0)}

    def masks(seed):
        rng_key = jax.random.PRNGKey(seed)
        output = model.apply(params, rng_key, packed(), deterministic=False, return_hidden_states=True)
        return np.asarray(output.hidden_states[1:] > 0)

    drawn = [*masks(0), *masks(1)]
    np.testing.assert_array_equal(masks(0), drawn[:4])
    agreement = [(one == other).mean() for i, one in enumerate(drawn) for other in drawn[:i]]
    # Two masks of 576 fair coins agree in half of them; 0.1 is five standard deviations.
    np.testing.assert_allclose(agreement, 0.5, atol=0.1)


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("bfloat16", "attention 'cudnn' needs an NVIDIA GPU, the devices here are cpu; use 'xla'"),
        ("float32", "attention 'cudnn' computes in bfloat16, not in float32; set the precision"),
    ],
)
def test_cudnn_is_refused_where_it_cannot_run(precision, message):
    with pytest.raises(ConfigError) as error:
        network(attention="cudnn", precision=precision)
    assert str(error.value) == message


@pytest.fixture
def fused_calls(monkeypatch):
    """Computes with XLA what cuDNN's kernel would, which takes the same arguments; the list of the calls for cuDNN."""
    calls = []
    attend = jax.nn.dot_product_attention

    def stand_in(*arrays, implementation, **settings):
        calls.append(implementation)
        with jax.numpy_dtype_promotion("standard"):  # JAX's own code takes bfloat16 to float32
            return attend(*arrays, implementation="xla", **settings)

    monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
    monkeypatch.setattr(bertjax.tasks.network, "check_execution", lambda execution: None)
    return calls


@pytest.mark.parametrize("layers", MODES)
def test_fused_attention_has_the_layout_the_scale_and_the_mask_of_the_other(fused_calls, layers):
    batch = packed("question_answering")
    real = batch.segment_ids != 0  # what padding attends to is left open
    fused, params = network("question_answering", attention="cudnn", precision="bfloat16", layers=layers)
    steps, _ = network("question_answering", precision="bfloat16", layers=layers)

    def hidden_states(model, **wanted):
        return np.asarray(model.apply(params, None, batch, return_hidden_states=True, **wanted).hidden_states)[:, real]

    expected = hidden_states(steps)
    assert not fused_calls
    # The weights are rounded to bfloat16 (8 bits) after the softmax's division or before it, in each of three layers.
    np.testing.assert_allclose(hidden_states(fused), expected, atol=0.06)
    assert set(fused_calls) == {"cudnn"}
    assert layers == "stacked" or len(fused_calls) == 3

    fused_calls.clear()  # the kernel has no weights to return
    np.testing.assert_array_equal(hidden_states(fused, return_attentions=True), expected)
    assert not fused_calls


def test_fused_attention_refuses_dropout_of_its_weights(fused_calls):
    def train(rate):
        config = replace(WIDE, attention_dropout_rate=rate)
        model, params = network(config=config, attention="cudnn", precision="bfloat16")
        return model.apply(params, jax.random.PRNGKey(0), packed(), deterministic=False)

    with pytest.raises(ConfigError, match="cannot drop attention weights, and their dropout rate is 0.1; train with"):
        train(0.1)
    assert np.isfinite(train(0.0).logits).all()
    assert fused_calls


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("layers", MODES)
def test_outputs_on_request(layers, num_layers):
    model, params = network(layers=layers, num_layers=num_layers)
    batch = packed()
    output = on_request(model, params, batch)
    assert output.hidden_states.shape == (num_layers + 1, 2, 18, 16)
    assert output.attentions.shape == (num_layers, 2, 2, 18, 18)
    for asked in ({}, {"return_hidden_states": True}, {"return_attentions": True}):
        alone = jax.eval_shape(lambda params, asked=asked: model.apply(params, None, batch, **asked), params)
        assert (alone.hidden_states is not None) == ("return_hidden_states" in asked)
        assert (alone.attentions is not None) == ("return_attentions" in asked)
    real = batch.segment_ids != 0
    same_example = (batch.segment_ids[:, :, None] == batch.segment_ids[:, None, :])[real]  # [Q, S]
    weights = np.asarray(output.attentions).transpose(1, 3, 4, 0, 2)[real]  # [Q, S, N, H] of the real queries
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)  # sums of float32
    assert (weights[~same_example] == 0).all()
    assert (weights[same_example] > 0).all()
