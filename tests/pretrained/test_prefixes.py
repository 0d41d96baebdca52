"""Prefixes that `DataParallel`, Lightning and `torch.compile` leave: gone where every tensor has them, else named."""

import logging

import jax
import numpy as np
import pytest

from bertjax.errors import CheckpointError
from bertjax.members.original_bert import BERT
from bertjax.pretrained.convert import to_hugging_face
from bertjax.pretrained.prefixes import without_prefix
from bertjax.tasks import make_model
from tests.support.models import TINY


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    model = make_model(TINY, "classification", ("a", "b"))
    return to_hugging_face(model.init(jax.random.PRNGKey(0)), BERT.weights)


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod.model.", "net.text_encoder.", "student."]
)
@pytest.mark.parametrize("bare", [False, True], ids=["with bert.", "without bert."])
def test_a_prefix_of_every_tensor_is_left_out_and_said(tensors, caplog, prefix, bare):
    caplog.set_level(logging.INFO)
    names = {name: name.removeprefix("bert.") if bare else name for name in tensors}
    stored = {prefix + names[name]: tensor for name, tensor in tensors.items()}
    assert without_prefix(stored, BERT.weights) == {names[name]: tensor for name, tensor in tensors.items()}
    assert caplog.messages == ([f"the prefix {prefix!r} of every tensor was left out"] if prefix else [])


def test_a_prefix_of_some_tensors_is_named_in_one_line(tensors):
    stored = {f"model.{name}": tensor for name, tensor in tensors.items()} | {"loss.weight": np.ones(2, np.float32)}
    with pytest.raises(CheckpointError, match=r"have the prefix 'model.', and loss.weight do not; leave those out"):
        without_prefix(stored, BERT.weights)
    dropped = without_prefix(stored, BERT.weights, drop=["loss.*"])
    assert set(dropped) == {*tensors, "loss.weight"}  # for `to_haiku` to drop


def test_several_networks_in_a_file(tensors):
    stored = {f"{who}.{name}": tensor for who in ("query", "passage") for name, tensor in tensors.items()}
    with pytest.raises(CheckpointError, match=r"holds 2 networks, under the prefixes 'passage.', 'query.'; leave all"):
        without_prefix(stored, BERT.weights)
    kept = without_prefix(stored, BERT.weights, drop=["passage.*"])
    assert {name: kept[name] is tensor for name, tensor in tensors.items()} == dict.fromkeys(tensors, True)
