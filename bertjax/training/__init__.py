"""Training, bottom up: `settings`, `optim`, `step`, `checkpoint`, `loop`, `run`, `multi`.

`make_train_step` and `make_optimizer` are for users with their own training loop. They are imported on first use, so
that reading a config does not start JAX.
"""

from typing import Any

from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer

__all__ = ["FineTuneConfig", "Optimizer", "TrainState", "make_optimizer", "make_train_step"]

_LAZY = {
    "TrainState": "bertjax.training.train_state",
    "make_train_step": "bertjax.training.step.train_step",
    "make_optimizer": "bertjax.training.optim.optimizer",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
