"""The optimizer of a config, built from Optax: clipping, direction, weight decay, per-parameter learning rates.

Only AdamW has its own update, `fused_adamw`, since nearly every run uses it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import optax

from bertjax.errors import ConfigError
from bertjax.model.precision import under_standard_rules
from bertjax.tasks import TASKS, Model, Params, parameter_shapes
from bertjax.training.optim.ema import averaged
from bertjax.training.optim.fused_adamw import LeafSettings, fused_adamw
from bertjax.training.optim.param_filters import parameter_paths, selected
from bertjax.training.optim.schedules import descend, learning_rate_schedule, next_rate
from bertjax.training.settings.options import Optimizer

Transform: TypeAlias = optax.GradientTransformation
_ADAFACTOR_CLIP = 1.0  # root mean square of an update; Shazeer and Stern, section 6
_MUON_SIZE = 0.2  # root mean square of an update, that of AdamW's; Liu et al. 2025, section 2.2


def make_optimizer(config: Optimizer, total_steps: int, model: Model) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a run. Its update accepts the extra argument of `fused_adamw`, whether it uses it or not.

    Args:
      config: the settings of the optimizer.
      total_steps: number of steps of the run, for the schedule.
      model: the network whose layers, head and parameter paths the config names.

    Raises:
      ConfigError: a name that matches nothing in the model, or a warmup as long as the run.
    """
    settings = config.resolved()
    schedule = learning_rate_schedule(settings, total_steps)
    step = optax_chain(settings, schedule, model)
    if settings.name == "adamw":
        leaves = partial(
            _leaf_settings, settings, learning_rate_shares(settings, model), decay_mask(model, settings.no_decay)
        )
        step = fused_adamw(step, settings, partial(next_rate, schedule), leaves)
    if settings.ema_decay is not None:
        step = averaged(step, settings.ema_decay)
    return optax.GradientTransformationExtraArgs(*map(under_standard_rules(), optax.with_extra_args_support(step)))


def optax_chain(settings: Optimizer, schedule: optax.Schedule, model: Model) -> Transform:
    """The optimizer of resolved settings as a chain of Optax, without weight averaging."""
    decay = optax.add_decayed_weights(settings.weight_decay, decay_mask(model, settings.no_decay))
    step = optax.chain(
        _DIRECTIONS[settings.name](settings, decay, model),
        _scaled(learning_rate_shares(settings, model)),
        descend(settings, schedule),
    )
    if settings.name == "schedule_free_adamw":
        step = optax.contrib.schedule_free(step, schedule, b1=settings.b1)
    if settings.clip_norm:
        step = optax.chain(optax.clip_by_global_norm(settings.clip_norm), step)
    return step


def decay_mask(model: Model, no_decay: Sequence[str] = Optimizer.no_decay) -> Callable[[Params], Params]:
    """A mask of the parameters that weight decay applies to: parameters -> True or False for each.

    Args:
      model: the network.
      no_decay: entries of `selected` without weight decay; by default all but embeddings and weight matrices
        (BERT, appendix A.2).
    """
    kept = selected("no_decay", no_decay, model)
    return lambda params: jax.tree.map_with_path(lambda path, _: _name(path) not in kept, params)


def learning_rate_shares(config: Optimizer, model: Model) -> Mapping[str, float]:
    """Path of a parameter -> a factor of its learning rate (layer-wise learning rate decay).

    With `layer_decay` d and N layers, layer i has d^(N - i) and embeddings have d^(N + 1); the modules above the layers
    have 1 (Clark et al. 2020, section 3.3; Bao et al. 2022). The head has a rate of its own with `head_learning_rate`.

    Raises:
      ConfigError: a rate for the head of a model that has none.
    """
    settings = config.resolved()
    peak, head_peak = settings.learning_rate, settings.head_learning_rate
    assert peak is not None, "resolved settings have one"
    num_layers, heads = model.config.num_layers, TASKS[model.task].head_modules
    if head_peak is not None and not heads:
        raise ConfigError(f"head_learning_rate: task {model.task!r} has no head; leave it out")

    def share(path: str) -> float:
        if path.rpartition("/")[0] in heads and head_peak is not None:
            return head_peak / peak
        if path.startswith("bert/embeddings/"):
            return settings.layer_decay ** (num_layers + 1)
        layer = re.match(r"bert/layer_(\d+)/", path)
        return settings.layer_decay ** (num_layers - int(layer.group(1))) if layer else 1.0

    return {path: share(path) for path in parameter_paths(parameter_shapes(model))}


def _leaf_settings(
    settings: Optimizer, shares: Mapping[str, float], decays: Callable[[Params], Params], params: Params
) -> Any:
    """A `LeafSettings` for each parameter."""

    weight_decay = settings.weight_decay
    assert weight_decay is not None, "resolved settings have one"

    def of_leaf(path: Sequence[Any], is_decayed: bool) -> LeafSettings:
        return LeafSettings(shares[_name(path)], weight_decay if is_decayed else 0.0)

    return jax.tree.map_with_path(of_leaf, decays(params))


def _scaled(shares: Mapping[str, float]) -> Transform:
    if all(share == 1 for share in shares.values()):
        return optax.identity()
    return optax.stateless(
        lambda updates, _: jax.tree.map_with_path(lambda path, leaf: shares[_name(path)] * leaf, updates)
    )


def _name(path: Sequence[Any]) -> str:
    return "/".join(entry.key for entry in path)


def _adam(settings: Optimizer) -> Transform:
    return optax.scale_by_adam(b1=settings.b1, b2=settings.b2, eps=settings.eps)


def _adafactor(settings: Optimizer, decay: Transform, model: Model) -> Transform:
    del model
    return optax.chain(
        optax.scale_by_factored_rms(epsilon=settings.eps),
        optax.clip_by_block_rms(_ADAFACTOR_CLIP),
        optax.scale_by_param_block_rms(),
        decay,
    )


def _schedule_free(settings: Optimizer, decay: Transform, model: Model) -> Transform:
    """AdamW without its first moment, which the averaged iterates replace."""
    del model
    rms = optax.scale_by_rms(decay=settings.b2, eps=settings.eps, eps_in_sqrt=False, bias_correction=True)
    return optax.chain(rms, decay)


def _muon(settings: Optimizer, decay: Transform, model: Model) -> Transform:
    """Orthogonal momentum for the matrices of the layers; Adam for embeddings, vectors and the head."""
    heads = TASKS[model.task].head_modules

    def kind(path: Sequence[Any], _: Any) -> str:
        module, _, name = _name(path).rpartition("/")
        return "matrix" if name == "w" and module not in heads else "other"

    # The uphill direction; `descend` turns it around.
    muon = optax.contrib.muon(-1.0, beta=settings.momentum, eps=settings.eps, consistent_rms=_MUON_SIZE)
    directions = {"matrix": muon, "other": _adam(settings)}
    return optax.chain(optax.partition(directions, lambda params: jax.tree.map_with_path(kind, params)), decay)


# (settings, weight decay, model) -> the direction of an update, decay included; `descend` negates and scales it.
_DIRECTIONS: Mapping[str, Callable[[Optimizer, Transform, Model], Transform]] = {
    "adamw": lambda settings, decay, _: optax.chain(_adam(settings), decay),
    "lamb": lambda settings, decay, _: optax.chain(_adam(settings), decay, optax.scale_by_trust_ratio()),
    "adafactor": _adafactor,
    "lion": lambda settings, decay, _: optax.chain(optax.scale_by_lion(b1=settings.b1, b2=settings.b2), decay),
    "sgd": lambda settings, decay, _: optax.chain(optax.trace(decay=settings.momentum), decay),
    "schedule_free_adamw": _schedule_free,
    "muon": _muon,
}
