"""The weight table: strict in both directions, and every mismatch in one message."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.config import BertConfig
from bertjax.errors import CheckpointError
from bertjax.pretrained.convert import Exceptions, to_haiku, to_hugging_face
from bertjax.tasks import make_model, parameter_shapes
from tests.conftest import TINY

MODEL = make_model(TINY, "classification", ("a", "b"))
TEMPLATE = parameter_shapes(MODEL)


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return to_hugging_face(MODEL.init(jax.random.PRNGKey(0)))


def same(left, right) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, left, right))


def test_there_and_back_is_bitwise_the_same(tensors):
    assert same(to_hugging_face(to_haiku(tensors, TEMPLATE).params), tensors)


@given(st.integers(1, 3), st.sampled_from([1, 2, 4]), st.integers(1, 5))
def test_round_trip_for_any_architecture(layers, heads, labels):
    config = BertConfig(
        vocab_size=11, hidden_size=4 * heads, num_layers=layers, num_heads=heads, intermediate_size=7,
        max_position_embeddings=5,
    )  # fmt: skip
    template = parameter_shapes(make_model(config, "classification", tuple(map(str, range(labels)))))
    rng = np.random.default_rng(layers)
    params = {
        module: {name: rng.normal(size=leaf.shape).astype(np.float32) for name, leaf in leaves.items()}
        for module, leaves in template.items()
    }
    assert same(to_haiku(to_hugging_face(params), template).params, params)


def test_names_are_those_of_transformers(tensors):
    from transformers import BertConfig as TheirConfig
    from transformers import BertForSequenceClassification

    theirs = BertForSequenceClassification(TheirConfig(**{**TINY.to_hugging_face(), "num_labels": 2}))
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items() if "position_ids" not in name}
    assert {name: tensor.shape for name, tensor in tensors.items()} == shapes


def test_bare_names_old_names_and_constants_load(tensors):
    bare = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in bare.items()}
    old = {name.replace("LayerNorm.bias", "LayerNorm.beta"): tensor for name, tensor in old.items()}
    old["embeddings.position_ids"] = np.arange(48)[None]
    old["cls.predictions.bias"] = np.zeros(64, np.float32)
    assert same(to_haiku(old, TEMPLATE).params, to_haiku(tensors, TEMPLATE).params)


def test_half_precision_becomes_float32(tensors):
    halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(to_haiku(halves, TEMPLATE).params))


def test_all_mismatches_are_in_one_error(tensors):
    broken = dict(tensors)
    del broken["bert.embeddings.LayerNorm.bias"]
    broken["classifier.weight"] = np.zeros((3, 16), np.float32)
    broken["bert.pooler.dense.bias"] = np.zeros(16, np.int32)
    broken["bert.encoder.layer.2.output.dense.bias"] = np.zeros(16, np.float32)
    with pytest.raises(CheckpointError) as error:
        to_haiku(broken, TEMPLATE)
    message = str(error.value)
    assert "bert.embeddings.LayerNorm.bias is missing" in message
    assert "classifier.weight is [3, 16], expected [2, 16]" in message
    assert "bert.pooler.dense.bias is int32, expected float32, float16 or bfloat16" in message
    assert "bert.encoder.layer.2.output.dense.bias is not expected" in message


def test_fresh_modules_are_left_out(tensors):
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier")}
    params, missing = to_haiku(without, TEMPLATE, Exceptions(fresh={"classifier"}))
    assert "classifier" not in params
    assert missing == (("classifier", "b"), ("classifier", "w"))


def test_a_parameter_without_a_rule_is_an_error():
    with pytest.raises(CheckpointError, match="no rule carries the parameter bert/adapter/w"):
        to_hugging_face({"bert/adapter": {"w": np.zeros(1)}})
