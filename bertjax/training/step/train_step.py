"""The training step, a pure function: (state, batch) -> (state, metrics).

It has two halves, `gradient` and `update`, which can be compiled separately. The update does not depend on the batch,
so a new batch shape compiles only the gradient, and the optimizer compiles once.

A step whose loss or gradient is not finite is skipped: it changes nothing but the step count, and sets the metric
`skipped`. The caller decides how many may be skipped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array

from bertjax.batch import Batch
from bertjax.config import Execution
from bertjax.losses import Loss, Losses
from bertjax.model.heads import BertOutput
from bertjax.model.precision import in_32_bits, matmul_precision, under_standard_rules
from bertjax.tasks import Model, Params
from bertjax.training.optim.fused_adamw import squares_of
from bertjax.training.optim.optimizer_state import LearningRateState, find
from bertjax.training.optim.param_filters import frozen_paths
from bertjax.training.settings.options import Regularization
from bertjax.training.step.regularization import anchored, mixed, regularized_loss
from bertjax.training.step.word_gradient import gradient_shaped, partly_trained, read_words
from bertjax.training.train_state import Metrics, TrainState

Gradient: TypeAlias = Callable[[TrainState, Batch], tuple[Params, Metrics]]

_PLAIN = Regularization()


@dataclass(frozen=True)
class TrainStep:
    """A training step as two functions; calling it runs both, and it can be passed to `jax.jit`.

    Attributes:
      init: (params, rng_key) -> the state before the first step.
      trainable: params -> the parameters that are not frozen, whose structure gradients and optimizer state have (with
        fewer word embeddings where the optimizer's state has `TrainedWords`).
      gradient: (state, batch) -> (grads, metrics). The metrics are `loss`, and `squares`: [number of leaves] the sum of
        squares of each leaf of the gradient, computed with the gradient so that the update need not read it twice.
      update: (state, grads, loss, squares) -> (state, metrics); computes `squares` if they are not given. The metrics
        are `grad_norm`, the global norm before clipping; `learning_rate`, if the optimizer's state has it; `skipped`,
        1 if the loss or the gradient was not finite, and parameters and optimizer state keep their bits; and `squares`,
        for `not_finite_parameters`. All but the last are scalars.
    """

    init: Callable[[Params, Array], TrainState]
    trainable: Callable[[Params], Params]
    gradient: Gradient
    update: Callable[..., tuple[TrainState, Metrics]]

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, loss_metrics = self.gradient(state, batch)
        state, update_metrics = self.update(state, grads, loss_metrics["loss"], loss_metrics["squares"])
        return state, loss_metrics | update_metrics


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    axis_name: str | None = None,
    freeze: Sequence[str] = (),
    accumulate: int = 1,
    regularization: Regularization = _PLAIN,
    token_loss: Loss | None = None,
) -> TrainStep:
    """The training step for a model, an optimizer and a loss.

    The loss is the weighted mean over the whole batch on all devices. Empty slots have weight 0, so neither packing nor
    padding nor gradient accumulation changes it. The token loss is the mean over all real tokens.

    Args:
      model: the network.
      optimizer: the Optax transform.
      loss: (output, batch) -> losses of the shape of the batch's weights.
      axis_name: the mapped device axis that the step runs under, or None on one device.
      freeze: the parameters to freeze, see `selected`; they have no gradient and no optimizer state.
      accumulate: number of gradient accumulation steps, which divide a device's rows, so that activations take the
        memory of one part.
      regularization: R-Drop and mixout.
      token_loss: (output with hidden states, batch) -> losses per token [B, T], whose mean is added.

    Raises:
      ConfigError: a pattern of `freeze` that matches nothing, nothing left to train, or a quantised network.
    """
    model.config.execution.check_trainable()
    frozen = frozen_paths(model, freeze)
    update = make_update(optimizer, frozen, model.config.execution, anchors=bool(regularization.mixout))
    gradient = make_gradient(model.apply, loss, frozen, axis_name, accumulate, regularization, token_loss)
    return TrainStep(update.init, update.trainable, gradient, update.update)


def make_gradient(
    apply: Callable[..., BertOutput],
    loss: Loss,
    frozen: frozenset[str],
    axis_name: str | None,
    accumulate: int,
    regularization: Regularization,
    token_loss: Loss | None,
) -> Gradient:
    """`TrainStep.gradient`; `frozen` are the paths of frozen parameters, for the others see `make_train_step`."""
    losses = regularized_loss(apply, loss, regularization.r_drop, token_loss)
    mixout = regularization.mixout

    def weights_of(batch: Batch) -> Losses:
        is_real = None if token_loss is None else (batch.segment_ids != 0).astype(np.float32)
        return Losses(batch.example_weights, is_real)

    @in_32_bits()
    def gradient(state: TrainState, batch: Batch) -> tuple[Params, Metrics]:
        rng_key = jax.random.fold_in(_typed(state.rng_key), state.step)
        moving, fixed = _split(frozen, state.params)
        moving, words = gradient_shaped(moving, state.opt_state), partly_trained(state)
        totals = _sum_over(axis_name, jax.tree.map(jnp.sum, weights_of(batch)))

        def share_of_mean_loss(moving: Params, rng_key: Array, part: Batch) -> Array:
            if mixout:
                rng_key, mixout_key = jax.random.split(rng_key)
                moving = mixed(moving, state.opt_state, mixout_key, mixout)
            moving, word_embeddings = read_words(moving, words, part.token_ids)
            params = hk.data_structures.merge(moving, fixed)
            each = losses(params, rng_key, part, word_embeddings)
            means = jax.tree.map(_weighted_mean, each, weights_of(part), totals)
            return sum(jax.tree.leaves(means), start=jnp.zeros(()))

        share_and_grads = jax.value_and_grad(share_of_mean_loss)
        if accumulate == 1:
            share = share_and_grads(moving, rng_key, batch)
        else:
            share = _accumulated(lambda part: share_and_grads(moving, rng_key, part), batch, accumulate)
        mean_loss, grads = _sum_over(axis_name, share)
        return grads, {"loss": mean_loss, "squares": squares_of(grads)}

    return gradient


class Update(NamedTuple):
    """The functions of a `TrainStep` that do not run the network."""

    init: Callable[[Params, Array], TrainState]
    trainable: Callable[[Params], Params]
    update: Callable[..., tuple[TrainState, Metrics]]


def make_update(
    optimizer: optax.GradientTransformation, frozen: frozenset[str], execution: Execution, anchors: bool
) -> Update:
    """The optimizer's half of a `TrainStep`.

    Args:
      optimizer: the Optax transform.
      frozen: the paths of the frozen parameters.
      execution: sets the precision of the optimizer's matrix products.
      anchors: whether the state keeps the pretrained weights, for mixout.
    """
    optimizer = optax.with_extra_args_support(anchored(optimizer) if anchors else optimizer)
    begun = jax.jit(optimizer.init)  # one program instead of one for each shape of leaf

    def trainable(params: Params) -> Params:
        return _split(frozen, params)[0]

    @under_standard_rules()
    def init(params: Params, rng_key: Array) -> TrainState:
        return TrainState(params, begun(trainable(params)), jnp.zeros((), jnp.int32), rng_key)

    @under_standard_rules()
    def update(
        state: TrainState, grads: Params, loss: Array, squares: Array | None = None
    ) -> tuple[TrainState, Metrics]:
        moving, fixed = _split(frozen, state.params)
        squares = squares_of(grads) if squares is None else squares
        skipped = ~(jnp.isfinite(squares).all() & jnp.isfinite(loss))

        def moved(moving: Params, opt_state: Any) -> tuple[Params, Any]:
            with matmul_precision(execution):  # Muon's products
                updates, opt_state = optimizer.update(grads, opt_state, moving, squares=squares)
            return optax.apply_updates(moving, updates), opt_state

        moving, opt_state = unless(skipped, moved, moving, state.opt_state)
        metrics = {"grad_norm": jnp.sqrt(squares.sum()), "skipped": skipped.astype(jnp.float32), "squares": squares}
        if (rate := find(opt_state, LearningRateState)) is not None:
            metrics["learning_rate"] = rate.learning_rate
        params = hk.data_structures.merge(moving, fixed)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), metrics

    return Update(init, trainable, update)


def _split(frozen: frozenset[str], params: Params) -> tuple[Params, Params]:
    """Splits parameters into those that are trained and those that are frozen."""
    return hk.data_structures.partition(lambda module, name, _: f"{module}/{name}" not in frozen, params)


def chosen(skipped: Array, moved: Callable[..., Any], *state: Any) -> Any:
    """The updated state, or the old one if `skipped`, by a select in each leaf; nothing waits for the condition.

    XLA may have to hold both states.
    """
    return jax.tree.map(partial(jnp.where, skipped), state, moved(*state))


def looped(skipped: Array, moved: Callable[..., Any], *state: Any) -> Any:
    """The same by a loop of one or zero iterations. XLA updates its carry in place, but the host of a GPU waits for the
    condition."""
    start = (skipped, state)
    return lax.while_loop(lambda turn: ~turn[0], lambda turn: (jnp.ones((), bool), moved(*turn[1])), start)[1]


def unless(skipped: Array, moved: Callable[..., Any], *state: Any) -> Any:
    """`moved` of the state, or the state if `skipped`, in the form that suits the platform."""
    return lax.platform_dependent(*state, cpu=partial(looped, skipped, moved), default=partial(chosen, skipped, moved))


def seed_key(seed: int) -> Array:
    """The key of a run as raw key data, which a checkpoint can store."""
    return jax.random.key_data(jax.random.key(seed))


def _typed(rng_key: Array) -> Array:
    """A typed key, from one or from raw key data, which the user's `JAX_LEGACY_PRNG_KEY` may forbid as a key."""
    return rng_key if jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(rng_key)


def not_finite_parameters(trainable: Params, metrics: Mapping[str, Any]) -> list[str]:
    """The paths of the `trainable` parameters whose gradient was not finite, such as `bert/layer_0/output/w`."""
    paths = ["/".join(entry.key for entry in path) for path, _ in jax.tree.leaves_with_path(trainable)]
    return [path for path, sum_ in zip(paths, np.asarray(metrics["squares"]), strict=True) if not np.isfinite(sum_)]


def _accumulated(function: Callable[[Batch], Any], batch: Batch, parts: int) -> Any:
    """Gradient accumulation: sums part -> pytree over equal parts of a batch's rows, one after the other."""
    split = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), batch)

    def add(sums: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(part)), None

    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], split))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return lax.scan(add, zeros, split)[0]


def _weighted_mean(losses: Array, weights: Array | np.ndarray, total: Array) -> Array:
    """The part of the whole batch's mean that these losses, perhaps of one device, contribute; 0 without labels."""
    return (losses * weights).sum() / jnp.where(total > 0, total, 1)


def _sum_over(axis_name: str | None, tree: Any) -> Any:
    """The sum over devices, omitted on a single one, where XLA would copy every gradient for it."""
    if axis_name is None or lax.axis_size(axis_name) == 1:
        return tree
    return lax.psum(tree, axis_name)
