"""What a network accepts: a bad batch is refused in one line, or its numbers are NaN; never those of another token."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bertjax.batch import Batch, empty_batch, padded_batch
from bertjax.devices.data_parallel import AXIS, all_devices
from bertjax.errors import BatchError, UserError
from bertjax.losses import cross_entropy
from bertjax.prediction.forward import Forward
from bertjax.tasks import make_model
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import make_train_step
from tests.support.models import TINY

MODEL = make_model(TINY, "classification", ("a", "b", "c"))  # 64 word pieces, 48 positions, 2 segment types


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.PRNGKey(0))


def good() -> Batch:
    """Two examples of six tokens, one a row."""
    return padded_batch(np.ones((2, 6)), np.arange(5, 17).reshape(2, 6))


def ones(*shape: int) -> Batch:
    return padded_batch(np.ones(shape), np.ones(shape))


def first_row_with(leaf: str, value: int) -> Batch:
    """The good batch with one wrong entry, in its first row."""
    changed = getattr(good(), leaf).copy()
    changed[0, -1] = value
    return good()._replace(**{leaf: changed})


@jax.jit
def compiled_logits(params, batch):
    return MODEL.apply(params, None, batch).logits


def on_host(params, batch):
    return MODEL.apply(params, None, batch).logits


def on_device(params, batch):
    return MODEL.apply(params, None, jax.tree.map(jnp.asarray, batch)).logits


OUT_OF_RANGE = [
    ("token_ids", 64, "the network has 64 word pieces of the vocabulary"),
    ("token_ids", -1, "the network has 64 word pieces of the vocabulary"),
    ("token_type_ids", 2, "the network has 2 segment types"),
    ("token_type_ids", -1, "the network has 2 segment types"),
    ("position_ids", 48, "the network has 48 positions; cut the text to fewer tokens"),
    ("position_ids", -1, "the network has 48 positions; cut the text to fewer tokens"),
    ("example_starts", 6, "the network has 6 tokens of a row"),
    ("example_starts", -1, "the network has 6 tokens of a row"),
]
NO_TOKENS = "a batch needs rows of one token or more, got token_ids of shape"
BAD_SHAPES = {
    f"{NO_TOKENS} [0, 6]": ones(0, 6),
    f"{NO_TOKENS} [2, 0]": ones(2, 0),
    f"{NO_TOKENS} [6]": good()._replace(token_ids=np.ones(6, np.int32)),
    "token_type_ids has shape [1, 6], token_ids [2, 6]": good()._replace(token_type_ids=np.ones((1, 6), np.int32)),
    "position_ids has shape [2, 5], token_ids [2, 6]": good()._replace(position_ids=np.ones((2, 5), np.int32)),
    "segment_ids has shape [2, 1], token_ids [2, 6]": good()._replace(segment_ids=np.ones((2, 1), np.int32)),
    "example_starts has shape [1, 1], expected one slot or more in 2 rows": good()._replace(
        example_starts=np.zeros((1, 1), np.int32)
    ),
    "example_starts has shape [2], expected one slot or more in 2 rows": good()._replace(
        example_starts=np.zeros(2, np.int32)
    ),
    "example_starts has shape [2, 0], expected one slot or more in 2 rows": good()._replace(
        example_starts=np.zeros((2, 0), np.int32)
    ),
    "token_ids holds float32, expected integers": good()._replace(token_ids=np.ones((2, 6), np.float32)),
}


@pytest.mark.parametrize("apply", [on_host, on_device])
@pytest.mark.parametrize(("leaf", "value", "limit"), OUT_OF_RANGE)
def test_an_index_out_of_range_is_refused(params, apply, leaf, value, limit):
    with pytest.raises(UserError) as error:
        apply(params, first_row_with(leaf, value))
    assert type(error.value) is BatchError
    assert str(error.value) == f"{leaf} has {value}, {limit}"


@pytest.mark.parametrize("value", [2, -1])
def test_a_segment_without_a_slot_is_refused(params, value):
    with pytest.raises(
        BatchError, match=f"segment_ids has {value}, the network has 2 segments, padding and one for each"
    ):
        on_host(params, first_row_with("segment_ids", value))


@pytest.mark.parametrize("apply", [on_host, on_device])
def test_a_text_longer_than_the_positions_is_refused(params, apply):
    with pytest.raises(BatchError, match="^position_ids has 49, the network has 48 positions; cut the text to fewer"):
        apply(params, ones(1, 50))


@pytest.mark.parametrize("apply", [on_host, on_device, compiled_logits])
@pytest.mark.parametrize("message", BAD_SHAPES)
def test_shapes_are_refused_inside_of_jit_too(params, apply, message):
    """Broadcasting would make numbers of most of them."""
    with pytest.raises(UserError) as error:
        apply(params, BAD_SHAPES[message])
    assert type(error.value) is BatchError
    assert str(error.value) == message


# A compiled function knows no values.
@pytest.mark.parametrize(("leaf", "value"), [(leaf, v) for leaf, v, _ in OUT_OF_RANGE])
def test_inside_of_jit_an_index_out_of_range_gives_nan_and_spares_other_rows(params, leaf, value):
    logits = compiled_logits(params, first_row_with(leaf, value))
    assert np.isnan(logits[0]).all()
    np.testing.assert_array_equal(logits[1], compiled_logits(params, good())[1])


def test_a_good_batch_passes(params):
    """The last word piece, segment type, position and start there are, too."""
    batch = good()
    for leaf, value in (("token_ids", 63), ("token_type_ids", 1), ("position_ids", 47), ("example_starts", 5)):
        getattr(batch, leaf)[0, -1] = value
    logits = on_host(params, batch)
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(on_device(params, batch), logits)
    np.testing.assert_allclose(compiled_logits(params, batch), logits, atol=2e-7)  # other fusions round differently


def test_a_compiled_engine_refuses_a_bad_batch(params):
    """Its code is compiled, but its batches come from the host."""
    step = make_train_step(MODEL, optax.sgd(0.1), cross_entropy, axis_name=AXIS)
    state = step.init(params, jax.random.PRNGKey(0))
    devices = all_devices()
    state = devices.place(state)
    forward = Forward(devices, MODEL)
    engine = CompiledTrainStep(devices, MODEL, step, state, [empty_batch(2, 6, 1)])
    for leaf, value, limit in OUT_OF_RANGE:
        batch = first_row_with(leaf, value)
        for run in (lambda batch: engine(state, batch), lambda batch: forward(state.params, batch)):
            with pytest.raises(BatchError) as error:
                run(batch)
            assert str(error.value) == f"{leaf} has {value}, {limit}"
    assert np.isfinite(forward(state.params, good())).all()
    _, metrics = engine(state, good())
    assert np.isfinite(metrics["loss"])
