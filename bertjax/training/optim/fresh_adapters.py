"""Adds freshly initialised LoRA adapters to a network, by the settings of a run."""

import re
from dataclasses import replace

import jax
import numpy as np

from bertjax.config import Adapters
from bertjax.errors import ConfigError
from bertjax.model.lora import is_adapter
from bertjax.tasks import Model, Params, initialised, make_model, parameter_shapes
from bertjax.training.optim.param_filters import selected
from bertjax.training.settings.options import Lora

_WEIGHT = re.compile(r"(bert/layer_\d+/.+)/w")  # of a linear layer that may have an adapter


def with_adapters(model: Model, params: Params, settings: Lora, seed: int) -> tuple[Model, Params]:
    """The network with fresh adapters, which do not change its outputs yet; the same network for rank 0.

    Args:
      model: without adapters.
      params: its parameters.
      settings: of the adapters.
      seed: of their initialisation.

    Raises:
      ConfigError: a target that is no linear layer of the encoder, or a rank that saves nothing.
    """
    if not settings.rank:
        return model, params
    if settings.rank > model.config.hidden_size:
        raise ConfigError(f"lora.rank {settings.rank} is above {model.config.hidden_size}, the width of the layers")
    modules = frozenset[str]().union(*(_layers_of(target, model) for target in settings.targets))
    adapters = Adapters(settings.rank, settings.alpha / settings.rank, settings.dropout, modules)
    _check_scanned(adapters, model)
    config = replace(model.config, adapters=adapters)
    adapted = make_model(config, model.task, model.labels, model.pooling)

    fresh = tuple(
        (module, name) for module, leaves in parameter_shapes(adapted).items() if is_adapter(module) for name in leaves
    )
    params = dict(params)
    for (module, name), value in zip(fresh, initialised(adapted.init, fresh)(jax.random.key(seed)), strict=True):
        params[module] = {**params.get(module, {}), name: np.asarray(value)}
    return adapted, params


def _layers_of(target: str, model: Model) -> set[str]:
    matches = map(_WEIGHT.fullmatch, selected("lora.targets", (target,), model))
    modules = {match.group(1) for match in matches if match is not None}
    if not modules:
        raise ConfigError(
            f"lora.targets: {target!r} is no linear layer of the encoder; those are bert/layer_0/attention/query/w, "
            f"key, value and output, bert/layer_0/intermediate/w and bert/layer_0/output/w"
        )
    return modules


def _check_scanned(adapters: Adapters, model: Model) -> None:
    """Checks that all layers have the same adapters where they run as one scan."""
    if model.config.execution.layers != "stacked":
        return
    places = {re.sub(r"layer_\d+", "layer_0", module) for module in adapters.modules}
    if len(adapters.modules) != len(places) * model.config.num_layers:
        raise ConfigError("layers 'stacked' needs lora.targets to be the same in every layer; use 'unrolled'")
