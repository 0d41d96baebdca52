"""R-Drop and mixout: regularization of the training forward pass, off by default.

R-Drop (Liang et al. 2021, equation 4) penalises the divergence of two forward passes with different dropout masks.
Mixout (Lee et al. 2020, equation 6) replaces random weights by their pretrained values, where dropout has zeros.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from bertjax.batch import Batch
from bertjax.losses import Loss, Losses, divergence
from bertjax.model.heads import BertOutput
from bertjax.tasks import Params
from bertjax.training.optim.optimizer_state import AnchoredState, find


def regularized_loss(
    apply: Callable[..., BertOutput], loss: Loss, r_drop: float, token_loss: Loss | None
) -> Callable[[Params, Array, Batch, Any], Losses]:
    """The losses of the training forward pass: (params, rng_key, batch, word_embeddings) -> `Losses`, with dropout.

    With `r_drop` a > 0, the mean loss of two passes plus a / 2 times their divergence, which is half of the paper's sum
    and so has the scale of a single pass's loss.
    """

    def output(params: Params, rng_key: Array, batch: Batch, word_embeddings: Any) -> Any:
        hidden = token_loss is not None
        return apply(
            params, rng_key, batch, deterministic=False, return_hidden_states=hidden, word_embeddings=word_embeddings
        )

    def one_pass(params: Params, rng_key: Array, batch: Batch, word_embeddings: Any) -> Losses:
        made = output(params, rng_key, batch, word_embeddings)
        return Losses(loss(made, batch), None if token_loss is None else token_loss(made, batch))

    def two_passes(params: Params, rng_key: Array, batch: Batch, word_embeddings: Any) -> Losses:
        first, second = (output(params, jax.random.fold_in(rng_key, i), batch, word_embeddings) for i in range(2))
        of_labels = (loss(first, batch) + loss(second, batch) + r_drop * divergence(first, second)) / 2
        return Losses(
            of_labels, None if token_loss is None else (token_loss(first, batch) + token_loss(second, batch)) / 2
        )

    return two_passes if r_drop else one_pass


def anchored(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """An optimizer whose state keeps the pretrained weight matrices of the layers, for `mixed`."""

    def init(params: Params) -> AnchoredState:
        # A copy, since the same buffer cannot be donated twice.
        return AnchoredState(optimizer.init(params), jax.tree.map(jnp.array, _matrices(params)))

    inner_update = optax.with_extra_args_support(optimizer).update

    def update(grads: Params, state: AnchoredState, params: Params, **extra: Any) -> tuple[Params, AnchoredState]:
        updates, inner = inner_update(grads, state.inner, params, **extra)
        return updates, state._replace(inner=inner)

    return optax.GradientTransformationExtraArgs(init, update)


def mixed(params: Params, opt_state: Any, rng_key: Array, rate: float) -> Params:
    """The parameters of a forward pass with mixout.

    With probability p, each weight w of the layers' matrices is replaced by its pretrained value w0. The result is
    shifted and scaled, (mix - p w0) / (1 - p), so that its expectation is w.

    Args:
      params: the trained parameters.
      opt_state: the state of an `anchored` optimizer.
      rng_key: chooses the weights.
      rate: p, in (0, 1).
    """
    state = find(opt_state, AnchoredState)
    assert state is not None, "the optimizer is anchored"
    matrices = _matrices(params)
    leaves, treedef = jax.tree.flatten(matrices)
    keys = jax.tree.unflatten(treedef, list(jax.random.split(rng_key, len(leaves))))

    def mix(weight: Array, pretrained: Array, key: Array) -> Array:
        is_replaced = jax.random.bernoulli(key, rate, weight.shape)
        return (jnp.where(is_replaced, pretrained, weight) - rate * pretrained) / (1 - rate)

    changed = jax.tree.map(mix, matrices, state.anchor, keys)
    return {module: {**leaves, **changed.get(module, {})} for module, leaves in params.items()}


def _matrices(params: Params) -> Mapping[str, Mapping[str, Any]]:
    """The weight matrices of the layers: the parameters that the published code mixes."""
    return {
        module: {"w": leaves["w"]}
        for module, leaves in params.items()
        if module.startswith("bert/layer_") and "w" in leaves
    }
