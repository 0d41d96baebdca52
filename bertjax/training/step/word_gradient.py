"""The gradient of the word embeddings with rows for the trained vocabulary entries only (see `trained_words`).

n words trained   V vocabulary   W width of the embeddings   B rows   T tokens in a row
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int

from bertjax.errors import ConfigError
from bertjax.model.layers import look_up
from bertjax.tasks import Params
from bertjax.training.optim.optimizer_state import find
from bertjax.training.optim.trained_words import MODULE, NAME, TrainedWords
from bertjax.training.train_state import TrainState


class WordTable(NamedTuple):
    """The word embeddings, and the index of each word among those that are trained; n for the others."""

    values: Float32[Array, "V W"]
    places: Int[Array, " V"]


def partly_trained(state: TrainState) -> WordTable | None:
    """The word embeddings of a state that trains only some of them; None if it trains all of them, or none."""
    words = find(state.opt_state, TrainedWords)
    return None if words is None else WordTable(state.params[MODULE][NAME], words.places)


def gradient_shaped(moving: Params, opt_state: Any) -> Params:
    """The trained parameters, in the shapes of their gradients: the word embeddings are replaced by an array [n, W] if
    only some are trained. Its values, those of the moments, do not matter."""
    words = find(opt_state, TrainedWords)
    return moving if words is None else {**moving, MODULE: words.adam.mu[MODULE]}


def read_words(
    moving: Params, table: WordTable | None, token_ids: Array | np.ndarray
) -> tuple[Params, Float32[Array, "B T W"] | None]:
    """The trained parameters with all word embeddings, and the embeddings of the tokens; None if the network is to look
    them up itself.

    Args:
      moving: of `gradient_shaped`; its word embeddings receive the gradient.
      table: of `partly_trained`.
      token_ids: [B, T].
    """
    if table is None:
        return moving, None
    rows = moving[MODULE][NAME]
    return {**moving, MODULE: {NAME: _constant(rows, table.values)}}, _embeddings(rows, table, jnp.asarray(token_ids))


@jax.custom_vjp
def _embeddings(rows: Float32[Array, "n W"], table: WordTable, token_ids: Int[Array, "B T"]) -> Float32[Array, "B T W"]:
    """Embeddings of tokens, whose gradient goes to `rows`; NaN for a word that is not trained."""
    is_trained = table.places[token_ids] < len(rows)
    return jnp.where(is_trained[:, :, None], look_up(table.values, token_ids), jnp.nan)


def _embeddings_forward(
    rows: Float32[Array, "n W"], table: WordTable, token_ids: Int[Array, "B T"]
) -> tuple[Float32[Array, "B T W"], Any]:
    return _embeddings(rows, table, token_ids), (rows, table.places[token_ids])


def _embeddings_backward(saved: Any, gradient: Float32[Array, "B T W"]) -> tuple[Float32[Array, "n W"], None, None]:
    rows, places = saved
    return jnp.zeros_like(rows).at[places].add(gradient, mode="drop"), None, None


_embeddings.defvjp(_embeddings_forward, _embeddings_backward)


@jax.custom_vjp
def _constant(rows: Float32[Array, "n W"], table: Float32[Array, "V W"]) -> Float32[Array, "V W"]:
    """The table, which must not receive a gradient."""
    return table


def _constant_forward(rows: Float32[Array, "n W"], table: Float32[Array, "V W"]) -> tuple[Float32[Array, "V W"], None]:
    return table, None


def _constant_backward(saved: None, gradient: Array) -> Any:
    raise ConfigError(
        "a head that reads the table of word embeddings gives all of them a gradient: see Task.reads_words"
    )


_constant.defvjp(_constant_forward, _constant_backward)
