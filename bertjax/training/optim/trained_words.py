"""AdamW with moments only for the word embeddings that occur in the training texts.

The word embeddings are half of a small BERT's parameters, and fine-tuning sees about a quarter of the vocabulary. A
word that never occurs has zero gradient and zero moments, so AdamW changes its embedding by weight decay alone.
Therefore the gradient and the moments of the table have rows only for the words that occur; the parameters stay whole.

    n words trained   V vocabulary   W width of the embeddings
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from bertjax.data.encode.examples import Examples, ExampleStore
from bertjax.tasks import Params
from bertjax.training.optim.optimizer_state import find, replaced
from bertjax.training.train_state import TrainState

MODULE, NAME = "bert/embeddings/word", "embeddings"
_MULTIPLE = 1024  # n is rounded up to it, so that other splits of a data set reuse the compiled programs
_BLOCK = 1 << 20
_LARGEST_SHARE = 0.75  # of the vocabulary; above it too little is saved


class TrainedWords(NamedTuple):
    """The state of Adam with moments for some of the word embeddings.

    Attributes:
      adam: Adam's state; the moments of the word embeddings are [n, W].
      places: [V] int32 the row of each word in these; n for a word without moments.
    """

    adam: optax.ScaleByAdamState
    places: Array


def places_of(token_ids: np.ndarray, vocab_size: int, special: Sequence[int] = (0,)) -> np.ndarray | None:
    """`TrainedWords.places` for the words that occur, and some more up to a multiple of `_MULTIPLE`; None if they are
    too many to save anything.

    Args:
      token_ids: [total tokens] of all texts.
      vocab_size: V.
      special: further token ids that batches may have; padding is 0.
    """
    occurs = np.zeros(vocab_size, bool)
    occurs[list(special)] = True
    for start in range(0, len(token_ids), _BLOCK):  # in blocks, since NumPy copies indices to 64 bits
        occurs[token_ids[start : start + _BLOCK]] = True
    missing = -int(occurs.sum()) % _MULTIPLE
    count = int(occurs.sum()) + missing
    if count > _LARGEST_SHARE * vocab_size:
        return None
    occurs[np.flatnonzero(~occurs)[:missing]] = True
    return np.where(occurs, np.cumsum(occurs) - 1, count).astype(np.int32)


def with_occurring_words(
    state: TrainState, examples: ExampleStore, special: Sequence[int], platform: str
) -> TrainState:
    """The first state of AdamW with moments for the words that occur in the training texts, where that saves time.

    It does on a CPU; on other devices an update takes little of a step. All words keep their moments where the word
    embeddings are frozen, where rows are streamed, and where words are masked, since any word may replace them.

    Args:
      state: before the first step.
      examples: the training texts.
      special: see `places_of`.
      platform: of the devices, such as "cpu".
    """
    size = trained_words(state.opt_state)
    if platform != "cpu" or size is None or not isinstance(examples, Examples) or examples.masking is not None:
        return state
    places = places_of(examples.token_ids, size, special)
    return state if places is None else state._replace(opt_state=with_trained_words(state.opt_state, places))


def with_trained_words(opt_state: Any, places: np.ndarray) -> Any:
    """The state of AdamW before its first update, with moments only for the words that have a place."""
    return _with_moments(opt_state, lambda whole: jnp.zeros_like(whole, shape=(places.max(), whole.shape[1])), places)


def with_whole_moments(opt_state: Any) -> Any:
    """The optimizer state with moments for all word embeddings: zeros for those that had none."""
    words = find(opt_state, TrainedWords)
    if words is None:
        return opt_state
    places = jnp.asarray(words.places)
    return _with_moments(opt_state, lambda moments: spread(jnp.asarray(moments), places), None)


def spread(rows: Float[Array, "n W"], places: Int[Array, " V"]) -> Float[Array, "V W"]:
    """Scatters rows to the words that have a place; zeros for the others."""
    return rows.at[places].get(mode="fill", fill_value=0)


def on_words_of(opt_state: Any, fresh: Any) -> Any:
    """The optimizer state of a checkpoint, for a run that would start with `fresh`: unchanged if both have moments for
    the same words, else with moments for all words, since others may occur now."""
    before, now = (find(state, TrainedWords) for state in (opt_state, fresh))
    same = before is not None and now is not None and np.array_equal(before.places, now.places)
    return opt_state if same else with_whole_moments(opt_state)


def trained_words(opt_state: Any) -> int | None:
    """The number of word embeddings with moments; None if the optimizer has no moments of them."""
    adam = find(opt_state, optax.ScaleByAdamState)
    return None if adam is None or MODULE not in adam.mu else len(adam.mu[MODULE][NAME])


def as_saved(state: TrainState, count: int | None) -> TrainState:
    """A state of the structure and shapes of a checkpoint with moments for `count` words; its values do not matter."""
    if count is None or trained_words(state.opt_state) in (None, count):
        return state
    size = len(state.params[MODULE][NAME])
    places = None if count == size else np.zeros(size, np.int32)

    def moments(others: Any) -> np.ndarray:
        return np.zeros((count, others.shape[1]), others.dtype)

    return state._replace(opt_state=_with_moments(state.opt_state, moments, places))


def saved_words(arrays: Mapping[str, str]) -> int | None:
    """`trained_words` of a checkpoint, from its record of arrays: path -> dtype and shape."""
    described = next((text for path, text in arrays.items() if path.endswith(f"/mu/{MODULE}/{NAME}")), "")
    shape = re.search(r"\[(\d+),\d+\]", described)
    return int(shape.group(1)) if shape else None


def _with_moments(opt_state: Any, moments: Callable[[Any], Any], places: Any) -> Any:
    """Replaces the moments of the word embeddings; they are for all words if `places` is None."""
    adam = find(opt_state, optax.ScaleByAdamState)
    assert adam is not None, "it is a state of AdamW"

    def changed(tree: Params) -> Params:
        return {**tree, MODULE: {NAME: moments(tree[MODULE][NAME])}}

    adam = adam._replace(mu=changed(adam.mu), nu=changed(adam.nu))
    kind = optax.ScaleByAdamState if find(opt_state, TrainedWords) is None else TrainedWords
    return replaced(opt_state, kind, adam if places is None else TrainedWords(adam, places))
