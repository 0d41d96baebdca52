"""The weight table: strict in both directions, and every mismatch in one message."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.config import BertConfig
from bertjax.errors import CheckpointError
from bertjax.members.original_bert import BERT
from bertjax.pretrained.convert import Exceptions, to_haiku, to_hugging_face
from bertjax.tasks import make_model, parameter_shapes
from tests.support.models import TINY

MODEL = make_model(TINY, "classification", ("a", "b"))
TEMPLATE = parameter_shapes(MODEL)


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return to_hugging_face(MODEL.init(jax.random.PRNGKey(0)), BERT.weights)


def same(left, right) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, left, right))


def test_there_and_back_is_bitwise_the_same(tensors):
    assert same(to_hugging_face(to_haiku(tensors, TEMPLATE, BERT.weights).params, BERT.weights), tensors)


@given(st.integers(1, 3), st.sampled_from([1, 2, 4]), st.integers(2, 5))
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
    assert same(to_haiku(to_hugging_face(params, BERT.weights), template, BERT.weights).params, params)


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
    assert same(to_haiku(old, TEMPLATE, BERT.weights).params, to_haiku(tensors, TEMPLATE, BERT.weights).params)


def test_half_precision_becomes_float32(tensors):
    halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(to_haiku(halves, TEMPLATE, BERT.weights).params))


def test_all_mismatches_are_in_one_error(tensors):
    broken = dict(tensors)
    del broken["bert.embeddings.LayerNorm.bias"]
    broken["classifier.weight"] = np.zeros((3, 16), np.float32)
    broken["bert.pooler.dense.bias"] = np.zeros(16, np.int32)
    broken["bert.encoder.layer.2.output.dense.bias"] = np.zeros(16, np.float32)
    with pytest.raises(CheckpointError) as error:
        to_haiku(broken, TEMPLATE, BERT.weights)
    message = str(error.value)
    assert "bert.embeddings.LayerNorm.bias is missing" in message
    assert "classifier.weight is [3, 16], expected [2, 16]" in message
    assert "bert.pooler.dense.bias is int32, expected float32, float64, float16 or bfloat16" in message
    assert "bert.encoder.layer.2.output.dense.bias is not expected" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classifier.bias": np.array([np.nan, 1], np.float32)}, "classifier.bias has 1 NaN or infinite numbers"),
        ({"classifier.bias": np.array([np.inf, -np.inf], np.float16)}, "classifier.bias has 2 NaN or infinite"),
        ({"classifier.bias": np.array([1e300, 1])}, "classifier.bias has 1 NaN or infinite numbers"),
        ({"classifier.bias": np.zeros(2, np.int64)}, "classifier.bias is int64, expected float32, float64, float16 or"),
        ({"classifier.bias": np.zeros(2, bool)}, "classifier.bias is bool, expected float32"),
    ],
)
def test_numbers_that_are_none(tensors, change, message):
    with pytest.raises(CheckpointError, match=message):
        to_haiku({**tensors, **change}, TEMPLATE, BERT.weights)


def test_what_is_missing_can_be_allowed_by_name(tensors):
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith(("classifier", "bert.pooler"))}
    params, missing = to_haiku(
        without, TEMPLATE, BERT.weights, Exceptions(init_missing=["classifier.*", "pooler.dense.bias", "*.weight"])
    )
    assert ("classifier", "w") in missing
    assert ("pooler", "b") in missing
    assert "pooler" not in params
    with pytest.raises(CheckpointError, match="bert.pooler.dense.bias is missing"):
        to_haiku(without, TEMPLATE, BERT.weights, Exceptions(init_missing=["classifier.*"]))


def test_what_is_there_is_used_though_it_might_be_missing(tensors):
    params, missing = to_haiku(tensors, TEMPLATE, BERT.weights, Exceptions(init_missing=["classifier.*"]))
    assert missing == ()
    assert same(params["classifier"]["b"], tensors["classifier.bias"])


def test_what_is_too_much_can_be_dropped_by_name(tensors):
    more = {**tensors, "qa_outputs.weight": np.zeros((2, 16), np.float32), "adapter.weight": np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError, match="adapter.weight is not expected; qa_outputs.weight is not expected"):
        to_haiku(more, TEMPLATE, BERT.weights)
    assert same(
        to_haiku(more, TEMPLATE, BERT.weights, Exceptions(drop=["qa_*", "adapter.weight"])).params,
        to_haiku(tensors, TEMPLATE, BERT.weights).params,
    )


def test_a_dropped_tensor_that_is_needed_is_missing(tensors):
    with pytest.raises(CheckpointError, match=r"classifier.bias is missing"):
        to_haiku(tensors, TEMPLATE, BERT.weights, Exceptions(drop=["classifier.bias"]))


def test_a_pattern_that_matches_nothing_is_a_slip(tensors):
    with pytest.raises(CheckpointError) as error:
        to_haiku(tensors, TEMPLATE, BERT.weights, Exceptions(init_missing=["clasifier.*"], drop=["cls.*"]))
    assert "--init-missing clasifier.* matches no parameter of the network" in str(error.value)
    assert "--drop cls.* matches no tensor of the checkpoint" in str(error.value)


def test_other_problems_stand_in_the_same_error(tensors):
    with pytest.raises(CheckpointError, match=r"the tokenizer is too large; classifier.bias is missing"):
        to_haiku(tensors, TEMPLATE, BERT.weights, Exceptions(drop=["classifier.bias"]), ["the tokenizer is too large"])


MASKED_LM = make_model(TINY, "masked_lm")
MASKED_LM_TEMPLATE = parameter_shapes(MASKED_LM)
DECODER, WORDS = "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def masked_lm_tensors() -> dict[str, np.ndarray]:
    return to_hugging_face(MASKED_LM.init(jax.random.PRNGKey(0)), BERT.weights)


def test_a_tied_decoder_may_come_along_or_alone(masked_lm_tensors):
    expected = to_haiku(masked_lm_tensors, MASKED_LM_TEMPLATE, BERT.weights).params
    both = {
        **masked_lm_tensors,
        DECODER: masked_lm_tensors[WORDS],
        "cls.predictions.decoder.bias": np.zeros(64, np.float32),
    }
    alone = {name: tensor for name, tensor in both.items() if name not in (WORDS, "cls.predictions.bias")}
    assert same(to_haiku(both, MASKED_LM_TEMPLATE, BERT.weights).params, expected)
    assert same(to_haiku(alone, MASKED_LM_TEMPLATE, BERT.weights).params, expected)


def test_a_tied_decoder_that_differs_is_refused_unless_dropped(masked_lm_tensors):
    untied = {**masked_lm_tensors, DECODER: masked_lm_tensors[WORDS] + 1}
    with pytest.raises(CheckpointError, match=f"{DECODER} differs from {WORDS}, to which the network ties it"):
        to_haiku(untied, MASKED_LM_TEMPLATE, BERT.weights)
    dropped = to_haiku(untied, MASKED_LM_TEMPLATE, BERT.weights, Exceptions(drop=[DECODER]))
    assert same(dropped.params, to_haiku(masked_lm_tensors, MASKED_LM_TEMPLATE, BERT.weights).params)
    # Without a head that reads it, it is one more tensor of pre-training.
    encoder = parameter_shapes(make_model(TINY, "encoder", pooling="mean"))
    to_haiku(untied, encoder, BERT.weights)


def test_fresh_modules_are_left_out(tensors):
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier")}
    params, missing = to_haiku(without, TEMPLATE, BERT.weights, Exceptions(fresh={"classifier"}))
    assert "classifier" not in params
    assert missing == (("classifier", "b"), ("classifier", "w"))


def test_a_parameter_without_a_rule_is_an_error():
    with pytest.raises(CheckpointError, match="no rule carries the parameter bert/adapter/w"):
        to_hugging_face({"bert/adapter": {"w": np.zeros(1)}}, BERT.weights)
