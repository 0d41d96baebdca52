"""Some layers of a checkpoint as a network of its own: what transformers computes with these layers."""

import numpy as np
import pytest
import torch

from bertjax.batch import padded_batch
from bertjax.errors import ConfigError
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import keep_layers
from tests.support.members import their_folder, their_model

TOKENS = np.array([[2, 9, 7, 20, 3], [2, 11, 5, 3, 0]])


@pytest.mark.parametrize("kept", [(0, 3), (2,), (0, 1, 2, 3)])
def test_the_network_is_transformers_with_these_layers(tmp_path, kept):
    theirs = their_model("bert", "classification", 0.3, num_hidden_layers=4).eval()
    theirs.save_pretrained(tmp_path / "whole")
    model, params = keep_layers(*from_pretrained(tmp_path / "whole"), kept)
    save_pretrained(tmp_path / "part", model, params)
    model, params = from_pretrained(tmp_path / "part")

    theirs.bert.encoder.layer = torch.nn.ModuleList(theirs.bert.encoder.layer[i] for i in kept)
    mask = TOKENS != 0
    with torch.no_grad():
        expected = theirs(torch.tensor(TOKENS), torch.tensor(mask.astype(int))).logits
    output = model.apply(params, None, padded_batch(mask, TOKENS))
    np.testing.assert_allclose(output.logits[:, 0], expected, rtol=1e-5, atol=1e-5)
    assert model.labels == ("no", "maybe", "yes")


@pytest.mark.parametrize("kept", [(), (1, 0), (0, 0), (0, 2), (-1,)])
def test_layers_that_are_not_there(tiny_model, kept):
    with pytest.raises(ConfigError, match="layers to keep are ascending numbers from 0 to 1, got "):
        keep_layers(*from_pretrained(tiny_model), kept)


def test_layers_that_differ_by_their_number(tmp_path):
    model, params = from_pretrained(their_folder("modernbert", tmp_path / "modern"))
    with pytest.raises(ConfigError, match="layers of modernbert, which differ by their number, cannot be taken out"):
        keep_layers(model, params, (0,))
