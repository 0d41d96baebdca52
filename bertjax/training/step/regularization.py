"""Regularization: what a training step adds to its forward pass so that a network keeps to what it has in common with
itself, or with where it started from. Both are off by default.

R-Drop (Liang et al. 2021, equation 4) asks for two forward passes with dropout masks of their own to agree. Mixout (Lee
et al. 2020, equation 6) puts pretrained weights in the place of some weights, where dropout would put zeros.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from bertjax.batch import Batch
from bertjax.losses import Loss, divergence
from bertjax.tasks import Model, Params
from bertjax.training.optim.optimizer_state import AnchoredState, find


def losses_of(model: Model, loss: Loss, r_drop: float) -> Callable[[Params, Array, Batch], Any]:
    """(params, rng_key, batch) -> a loss for each of the batch's weights, dropout on.

    With `r_drop` a it is the mean loss of two passes plus a / 2 times their divergence: half of the paper's sum, of
    the size that the loss of one pass has.

    Args:
      model: the network.
      loss: of one pass.
      r_drop: weight of the divergence; 0 is one pass.
    """

    def output(params: Params, rng_key: Array, batch: Batch) -> Any:
        return model.apply(params, rng_key, batch, deterministic=False)

    def of_one(params: Params, rng_key: Array, batch: Batch) -> Any:
        return loss(output(params, rng_key, batch), batch)

    def of_two(params: Params, rng_key: Array, batch: Batch) -> Any:
        first, second = (output(params, jax.random.fold_in(rng_key, i), batch) for i in range(2))
        return (loss(first, batch) + loss(second, batch) + r_drop * divergence(first, second)) / 2

    return of_two if r_drop else of_one


def anchored(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same optimizer, which keeps the matrices of the layers as they were at the start."""

    def init(params: Params) -> AnchoredState:
        # A copy, because buffers of the state are given up to the next state, each of them once.
        return AnchoredState(optimizer.init(params), jax.tree.map(jnp.array, _matrices(params)))

    def update(grads: Params, state: AnchoredState, params: Params) -> tuple[Params, AnchoredState]:
        updates, inner = optimizer.update(grads, state.inner, params)
        return updates, state._replace(inner=inner)

    return optax.GradientTransformation(init, update)


def mixed(params: Params, opt_state: Any, rng_key: Array, rate: float) -> Params:
    """The parameters of a forward pass with mixout.

    Each weight w of the layers' matrices is, with probability p, the one w0 it started from. What comes out is shifted
    and scaled, (mix - p w0) / (1 - p), so that its mean is w.

    Args:
      params: those that are trained.
      opt_state: of an optimizer that is `anchored`.
      rng_key: of the choice.
      rate: p, in (0, 1).
    """
    state = find(opt_state, AnchoredState)
    assert state is not None, "the optimizer is anchored"
    now, start = _matrices(params), state.anchor
    leaves, treedef = jax.tree.flatten(now)
    keys = jax.tree.unflatten(treedef, list(jax.random.split(rng_key, len(leaves))))

    def mix(weight: Array, first: Array, key: Array) -> Array:
        back = jax.random.bernoulli(key, rate, weight.shape)
        return (jnp.where(back, first, weight) - rate * first) / (1 - rate)

    changed = jax.tree.map(mix, now, start, keys)
    return {module: {**own, **changed.get(module, {})} for module, own in params.items()}


def _matrices(params: Params) -> Mapping[str, Mapping[str, Any]]:
    """The weight matrices of the layers: what the published code mixes, and has pretrained weights for."""
    return {
        module: {"w": leaves["w"]}
        for module, leaves in params.items()
        if module.startswith("bert/layer_") and "w" in leaves
    }
