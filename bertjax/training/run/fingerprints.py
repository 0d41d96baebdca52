"""Fingerprints of a run: what its numbers depend on, compared when it is resumed."""

from collections.abc import Mapping
from typing import Any

from bertjax.settings import flatten
from bertjax.tasks import Model
from bertjax.training.run.prepare import Prepared
from bertjax.training.settings.finetune_config import FineTuneConfig


def input_hashes(prepared: Prepared) -> dict[str, str]:
    """Hashes of the rows of each side and of the pretrained weights."""
    return {f"{rows.side}_rows": rows.digest for rows in prepared.datasets} | {"weights": prepared.weights}


def fingerprints(config: FineTuneConfig, prepared: Prepared) -> dict[str, Any]:
    """Flat settings and input hashes of a run."""
    return flatten(config) | input_hashes(prepared)


def model_identity(model: Model) -> Mapping[str, Any]:
    """What a checkpoint's model must have in common with the one it is restored into, as JSON values."""
    return {
        "task": model.task,
        "labels": list(model.labels),
        "pooling": model.pooling,
        "layers": model.config.num_layers,
        "heads": model.config.num_heads,
        "hidden_act": model.config.hidden_act,
    }
