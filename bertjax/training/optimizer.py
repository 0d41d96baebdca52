"""The optimizer of a config, out of Optax."""

import jax
import optax

from bertjax.tasks import Params
from bertjax.training.options import Optimizer

_NOT_DECAYED = ("b", "scale", "offset")  # Haiku's names of biases and of a layer norm's parameters


def learning_rate_schedule(config: Optimizer, total_steps: int) -> optax.Schedule:
    """Linear from 0 to the peak over the warmup, linear to 0 over the rest; the last step still moves."""
    warmup_steps = round(config.warmup * total_steps)
    rise = optax.linear_schedule(0.0, config.learning_rate, warmup_steps) if warmup_steps else None
    fall = optax.linear_schedule(config.learning_rate, 0.0, total_steps - warmup_steps)
    return fall if rise is None else optax.join_schedules([rise, fall], [warmup_steps])


def make_optimizer(config: Optimizer, total_steps: int) -> optax.GradientTransformation:
    """Clipping by global norm, then AdamW; biases and layer norms are not decayed (BERT, appendix A.2)."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate_schedule(config, total_steps),
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=decay_mask,
        ),
    )


def decay_mask(params: Params) -> Params:
    """True for the parameters that weight decay applies to: embeddings and weight matrices."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key not in _NOT_DECAYED, params)
