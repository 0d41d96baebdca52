"""Settings: dotted keys go both ways, unknown ones are refused."""

import pytest

from bertjax.errors import ConfigError
from bertjax.settings import flatten, override
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer


def test_override_with_its_own_flat_keys_changes_nothing():
    config = FineTuneConfig(epochs=7, optimizer=Optimizer(learning_rate=3e-5))
    assert override(FineTuneConfig(), flatten(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer.learning_rat": 1.0}, r"learning_rat; did you mean optimizer.learning_rate\?"),
        ({"lr": 1.0}, "unknown setting lr; there are model, data.train"),
        ({"epochs": "many"}, "epochs cannot be 'many'"),
        ({"packing": "maybe"}, "packing cannot be 'maybe'"),
        ({"optimizer.clip_norm": True}, "clip_norm cannot be True"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"optimizer.warmup": 1.5}, r"warmup is a share of the steps, in \[0, 1\), or a whole number of them, got 1.5"),
        ({"max_length": 2}, "max_length must be 3 or more"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(ConfigError, match=message):
        override(FineTuneConfig(), values)


def test_json_types_are_taken():
    config = override(FineTuneConfig(), {"data.text": ["a", "b"], "optimizer.weight_decay": 0, "dropout_rate": None})
    assert (config.data.text, config.optimizer.weight_decay, config.dropout_rate) == (("a", "b"), 0.0, None)
