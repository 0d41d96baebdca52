"""The fused kernel, interpreted: the plain formula's results, gradients and dropout, over packed rows of any length."""

import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import bertjax.model.attention.self_attention
import bertjax.tasks.network
from bertjax.batch import padded_batch
from bertjax.config import Execution
from bertjax.data.batching.packing import Layout, pack_batch
from bertjax.devices.data_parallel import all_devices
from bertjax.errors import ConfigError
from bertjax.model.attention.fused_attention import fused_attention
from bertjax.model.dropout import TokenPlaces, drop_weights, weight_dropout
from bertjax.tasks import make_model
from tests.support.models import TINY

ROWS, HEADS, RATE = 2, 2, 0.25
KEY = jax.random.PRNGKey(5)
BENCHMARK = Path(__file__).parents[3] / "scripts" / "benchmark_attention.py"
KERNEL_CALL = "__gpu$xla.gpu.triton"
EPSILON = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 3e-3}  # of the largest number
WIDE = replace(TINY, hidden_size=32, num_heads=2, initializer_range=0.2, num_layers=3)


def packed_row(length):
    """Segments of two rows: three examples and padding, one of them with an empty slot; a whole row where short."""
    if length < 4:
        return np.ones((ROWS, length), np.int32)
    cuts = [length // 5, length // 2, length - length // 8]
    row = np.searchsorted(cuts, np.arange(length), side="right") + 1
    return np.stack([np.where(row == 4, 0, row), np.where(row == 2, 0, row)]).astype(np.int32)


def places_of(segments):
    first = np.array([[(row == slot).argmax() for slot in row] for row in segments])
    positions = np.arange(segments.shape[1]) - first
    return TokenPlaces(jnp.asarray(segments + np.array([[0], [7]]), jnp.int32), jnp.asarray(positions, jnp.int32))


def dropout_of(places, key=KEY):
    make = hk.transform(lambda: weight_dropout(RATE, HEADS, places, places, False)).apply
    return make({}, key)


def kept(places, key=KEY):
    """The plain path's scales of the weights: 0, or 1 / (1 - rate)."""
    length = places.positions.shape[1]
    ones = jnp.ones((ROWS, HEADS, length, length), jnp.float32)
    return np.asarray(hk.transform(lambda: drop_weights(RATE, ones, places, places, False)).apply({}, key))


def vectors(length, size, dtype, count=4):
    drawn = np.random.default_rng(0).normal(size=(count, ROWS, HEADS, length, size)).astype(np.float32)
    return [jnp.asarray(x, dtype) for x in drawn]


def truth(query, key, value, gradient, segments, scales):
    """Output and gradients by PyTorch, in float64; zeros for padding."""
    query, key, value, gradient = (
        torch.tensor(np.asarray(x, np.float64), requires_grad=True) for x in (query, key, value, gradient)
    )
    same = torch.tensor(segments[:, :, None] == segments[:, None, :])[:, None]
    scores = (query @ key.mT * query.shape[-1] ** -0.5).masked_fill(~same, -torch.inf)
    real = torch.tensor(segments != 0)[:, None, :, None]
    output = (torch.softmax(scores, -1) * torch.tensor(scales, dtype=torch.float64)) @ value * real
    return [x.detach().numpy() for x in (output, *torch.autograd.grad(output, (query, key, value), gradient))]


@pytest.mark.parametrize(
    ("length", "size", "dtype", "dropped"),
    [
        (1, 32, "float32", True),
        (17, 64, "float32", False),
        (70, 32, "bfloat16", True),
        (97, 64, "float16", True),
        (513, 32, "float32", True),
    ],
)
def test_output_and_gradients_are_those_of_the_formula(length, size, dtype, dropped):
    segments = packed_row(length)
    places = places_of(segments)
    *arrays, gradient = vectors(length, size, dtype)
    dropout = dropout_of(places) if dropped else None

    def attend(query, key, value):
        return fused_attention(query, key, value, jnp.asarray(segments), dropout, interpret=True)

    output, pull = jax.jit(lambda *arrays: jax.vjp(attend, *arrays))(*arrays)
    computed = [output, *jax.jit(pull)(gradient)]
    expected = truth(*arrays, gradient, segments, kept(places) if dropped else np.ones(1))
    assert all(of.dtype == dtype for of in computed)
    for one, other in zip([np.asarray(of, np.float64) for of in computed], expected, strict=True):
        np.testing.assert_allclose(one, other, atol=EPSILON[dtype] * max(1, np.abs(other).max()))
        assert not one[np.broadcast_to(segments[:, None, :] == 0, one.shape[:3])].any()  # padding: nothing, exactly


def test_the_same_weights_are_dropped():
    """With unit vectors for values, the output is the weights themselves."""
    segments = np.ones((ROWS, 64), np.int32)
    places = places_of(segments)
    query, key = vectors(64, 64, "float32", 2)
    values = jnp.broadcast_to(jnp.eye(64, dtype=jnp.float32), query.shape)
    weights = fused_attention(query, key, values, jnp.asarray(segments), dropout_of(places), interpret=True)
    np.testing.assert_array_equal(np.asarray(weights) > 0, kept(places) > 0)


def test_blocks_of_other_examples_are_not_visited():
    """Numbers that are not finite in the blocks of another example would spread, were they multiplied."""
    segments = np.repeat([[1, 2]], 128, axis=1).repeat(ROWS, axis=0).astype(np.int32)
    query, key, value, gradient = (x.at[:, :, 128:].set(jnp.nan) for x in vectors(256, 32, "float32"))
    output, pull = jax.vjp(
        lambda *x: fused_attention(*x, jnp.asarray(segments), None, interpret=True), query, key, value
    )
    for one in (output, *pull(gradient)):
        assert np.isfinite(one[:, :, :128]).all()


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [("float32", "float32"), ("float32", "tensorfloat32"), ("bfloat16", "default"), ("float16", "default")],
)
def test_it_lowers_for_a_gpu(dtype, precision):
    """150 positions are three blocks, a number that Triton's own tiles cannot have."""
    segments = packed_row(150)
    dropout = dropout_of(places_of(segments))

    def gradient(words, *arrays):
        def loss(*arrays):
            of_seed = dropout._replace(words=words)
            output = fused_attention(*arrays, jnp.asarray(segments), of_seed, interpret=False)
            return output.astype(jnp.float32).sum()

        return jax.grad(loss, argnums=(0, 1, 2))(*arrays)

    arrays = vectors(150, 64, dtype, 3)
    with jax.default_matmul_precision(precision):
        programs = [lowered_for_gpu(gradient, dropout.words, *arrays)]
        programs.append(lowered_for_gpu(jax.vmap(gradient, (0, None, None, None)), dropout.words[None], *arrays))
    for program in programs:
        assert program.count(KERNEL_CALL) == 3  # forward, queries' gradient, keys' and values' gradient
        assert square_arrays(program, 150) == set()


@pytest.mark.parametrize(
    ("layers", "remat", "calls"),
    [
        ("unrolled", False, 2 * 3),  # the last layer computes only the positions that are read
        ("unrolled", True, 2 * 4),  # the forward kernel again
        ("stacked", True, 4),
    ],
)
def test_a_network_lowers_for_a_gpu(monkeypatch, layers, remat, calls):
    monkeypatch.setattr(bertjax.tasks.network, "check_execution", lambda execution: None)
    monkeypatch.setattr(bertjax.model.attention.self_attention, "on_gpu", lambda: True)
    execution = Execution(attention="pallas", precision="bfloat16", layers=layers, remat=remat)
    model = make_model(replace(WIDE, execution=execution), "classification", ("a", "b", "c"))
    gradient = jax.grad(lambda params: (model.apply(params, KEY, packed(), deterministic=False).logits ** 2).sum())
    assert lowered_for_gpu(gradient, model.init(KEY)).count(KERNEL_CALL) == calls


def lowered_for_gpu(function, *arguments):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


def square_arrays(program, length):
    """The shapes in a program with two axes of `length` or more."""
    shapes = {tuple(map(int, shape.split("x"))) for shape in re.findall(r"tensor<(\d+(?:x\d+)*)x\w+>", program)}
    assert max(map(len, shapes)) >= 4
    return {shape for shape in shapes if sum(axis >= length for axis in shape) > 1}


@pytest.mark.parametrize("how", ["pmap", "shard_map", "vmap"])
def test_devices_and_seeds_change_no_number(how):
    """Each device computes its rows; under vmap each seed has its own rows and drops its own weights."""
    segments = packed_row(40)
    places = places_of(segments)
    dropouts = [dropout_of(places, jax.random.PRNGKey(seed)) for seed in range(2)]
    rows = (jnp.asarray(segments), dropouts[0].query_counts, dropouts[0].key_counts, *vectors(40, 32, "float32"))

    def attend(words, rows):
        segments, queries, keys, *arrays, gradient = rows
        dropout = dropouts[0]._replace(words=words, query_counts=queries, key_counts=keys)
        output, pull = jax.vjp(lambda *arrays: fused_attention(*arrays, segments, dropout, True), *arrays)
        return output, *pull(gradient)

    alone = [jax.jit(attend)(dropout.words, rows) for dropout in dropouts]
    if how == "vmap":
        words = jnp.stack([dropout.words for dropout in dropouts])
        together = jax.jit(jax.vmap(attend))(words, jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), rows))
        computed = [jax.tree.map(lambda leaf, seed=seed: leaf[seed], together) for seed in range(2)]
        assert np.abs(computed[0][0] - computed[1][0]).max() > 0.1
    else:
        devices = all_devices(how)
        assert devices.count == 2
        dealt = devices.deal(jax.device_get(rows))
        mapped = devices.map(attend, summed=False)
        computed = [devices.collect(mapped(devices.place(dropout.words), dealt)) for dropout in dropouts]
    for one, other in zip(computed, alone, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-6)


def packed():
    """Four ragged examples, two a row; behind them an empty slot and padding."""
    mask = (np.arange(10) < np.array([7, 3, 10, 5])[:, None]).astype(int)
    batch = padded_batch(mask, mask * 9, labels=np.array([0, 1, 2, 0]), labels_of="examples")
    return pack_batch(batch, [[0, 1], [2, 3]], Layout(rows=2, row_length=18, slots=3), "examples")


@pytest.mark.parametrize(("layers", "remat", "num_layers"), [("unrolled", False, 2), ("stacked", True, 3)])
def test_a_network_trains_alike_with_either(monkeypatch, layers, remat, num_layers):
    """The same keys are taken in the same order, so the losses' gradients agree with dropout everywhere."""
    monkeypatch.setattr(bertjax.tasks.network, "check_execution", lambda execution: None)

    def gradient(attention):
        execution = Execution(attention=attention, layers=layers, remat=remat)
        model = make_model(replace(WIDE, num_layers=num_layers, execution=execution), "classification", ("a", "b", "c"))
        params = model.init(KEY)
        return jax.jit(
            jax.grad(lambda params: (model.apply(params, KEY, packed(), deterministic=False).logits ** 2).sum())
        )(params)

    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(other).max())),
        gradient("pallas"),
        gradient("xla"),
    )


def test_a_machine_without_a_gpu_is_told_so():
    with pytest.raises(ConfigError) as error:
        make_model(replace(WIDE, execution=Execution(attention="pallas")), "classification", ("a", "b"))
    assert str(error.value) == "attention 'pallas' needs an NVIDIA GPU, the devices here are cpu; use 'xla'"


def test_what_auto_takes(monkeypatch):
    def chosen(attention, heads=2):
        return bertjax.model.attention.self_attention.chosen_attention(
            replace(WIDE, num_heads=heads, execution=Execution(attention=attention))
        )

    assert chosen("auto") == "xla"
    monkeypatch.setattr(bertjax.model.attention.self_attention, "on_gpu", lambda: True)
    # A kernel that was not measured there is taken by name only.
    assert [chosen(name) for name in ("auto", "xla", "pallas", "cudnn")] == ["xla", "xla", "pallas", "cudnn"]
    with pytest.raises(
        ConfigError, match="attention 'pallas' computes heads of 16, 32, 64, 128 numbers, .* have 8; use"
    ):
        chosen("pallas", heads=4)


def test_the_benchmark_compares_the_same_weights_in_both_precisions():
    benchmark = runpy.run_path(str(BENCHMARK))
    result = benchmark["measured"](16, 2, 0.0, 1, WIDE, tokens=32)
    assert 0 < result["error"]["xla"] < benchmark["TOLERANCE"]


def test_the_benchmark_says_that_there_is_no_gpu():
    ended = subprocess.run([sys.executable, BENCHMARK], capture_output=True, text=True, check=True)
    assert ended.stdout == "not measured: no GPU\n"
