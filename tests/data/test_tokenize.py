"""Tokens are those of the checkpoint's own tokenizer, whatever was saved with it."""

import numpy as np
import pytest

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.encode.tokenize import tokenize
from bertjax.errors import CheckpointError


def ids(examples, i):
    return examples.token_ids[examples.offsets[i] : examples.offsets[i + 1]].tolist()


def test_truncation_and_padding_saved_with_a_tokenizer_are_reset(minilm):
    """The real one has both set to 128."""
    long = "word " * 300
    examples = tokenize(load_tokenizer(minilm), ["short", long], None, np.zeros(2, np.int32), max_length=512)
    assert examples.lengths.tolist() == [3, 302]
    assert examples.truncated == 0


def test_long_texts_are_cut_and_counted(minilm):
    tokenizer = load_tokenizer(minilm)
    examples = tokenize(tokenizer, ["short", "word " * 300], None, np.zeros(2, np.int32), max_length=10)
    assert examples.lengths.tolist() == [3, 10]
    assert examples.truncated == 1
    assert ids(examples, 1)[-1] == tokenizer.sep_token_id
    assert tokenize(tokenizer, ["word " * 300], None, np.zeros(1, np.int32), 512).lengths.tolist() == [302]


def test_pairs_are_two_segments(tiny_model):
    examples = tokenize(load_tokenizer(tiny_model), ["good film"], ["bad"], np.zeros(1, np.int32), 16)
    assert ids(examples, 0) == [2, 5, 7, 3, 6, 3]
    assert examples.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1]


def test_no_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        load_tokenizer(tmp_path)
