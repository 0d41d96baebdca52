"""`BertConfig` reads what Hugging Face writes, and refuses what it would compute differently."""

import json

import pytest

from bertjax.config import BertConfig, read_config_json
from bertjax.errors import ConfigError


def test_round_trip_through_hugging_face_keys():
    config = BertConfig(hidden_size=384, num_layers=6, hidden_act="relu", layer_norm_eps=1e-7, attention_dropout_rate=0)
    assert BertConfig.from_hugging_face(config.to_hugging_face()) == config


def test_agrees_with_transformers(tmp_path):
    from transformers import BertConfig as TheirConfig

    theirs = TheirConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, attention_probs_dropout_prob=0.3)
    theirs.save_pretrained(tmp_path)
    ours = BertConfig.from_hugging_face(read_config_json(tmp_path))
    assert (ours.hidden_size, ours.num_layers, ours.num_heads, ours.attention_dropout_rate) == (48, 3, 4, 0.3)
    assert ours.layer_norm_eps == theirs.layer_norm_eps


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model_type": "gpt2"},
            "model_type 'gpt2' is not supported; bertjax reads model_type 'bert' .BERT, Mini.* and 'mpnet'",
        ),
        ({}, 'config.json has no model_type; if it is a BERT, add "model_type": "bert" to it'),
        ({"model_type": "bert", "hidden_act": "mish"}, "hidden_act 'mish' is unknown"),
        ({"model_type": "bert", "position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"model_type": "bert", "is_decoder": True}, "is_decoder"),
        ({"model_type": "bert", "hidden_size": 100, "num_attention_heads": 12}, "not a multiple"),
        ({"model_type": "bert", "hidden_size": "wide"}, "hidden_size must be int"),
        ({"model_type": "bert", "hidden_dropout_prob": 1.5}, r"must be in \[0, 1\)"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(ConfigError, match=message):
        BertConfig.from_hugging_face(values)


@pytest.mark.parametrize("text", ["{", json.dumps([1])])
def test_broken_config_json(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="JSON"):
        read_config_json(tmp_path)


def test_missing_config_json(tmp_path):
    with pytest.raises(ConfigError, match="has no config"):
        read_config_json(tmp_path)
