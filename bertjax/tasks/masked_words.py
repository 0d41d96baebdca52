"""Fill-mask: the most likely words for each `[MASK]` of a text, from a masked language model."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from transformers import PreTrainedTokenizerFast

from bertjax.batch import Batch
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.tokenize import tokenize
from bertjax.data.rows.cells import shown
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.task_formats import Encoding
from bertjax.data.task_formats.masked_lm_format import MASKED_LM
from bertjax.data.task_formats.task_format import plain_text
from bertjax.errors import CheckpointError, DataError
from bertjax.model import heads
from bertjax.model.heads import BertOutput
from bertjax.tasks.readout import Readout

MOST_WORDS = 32  # listed for a mask, at most
_CONTINUES = "##"  # of a piece that goes on with the word before it
_BEGINS = {"ByteLevel": "Ġ", "Metaspace": "▁"}  # kind of decoder -> the mark of a piece that begins a word instead


class MaskedText(NamedTuple):
    """A text with masks, and the way back from its scores.

    Attributes:
      text: the text.
      places: first character and the one behind the last of each mask.
      tokens: [masks] the token of each, among those of all examples.
      tokenizer: knows the words.
    """

    text: str
    places: list[tuple[int, int]]
    tokens: np.ndarray
    tokenizer: PreTrainedTokenizerFast

    def words(self, scores: np.ndarray) -> Iterator[tuple[list[str], list[float]]]:
        """The likeliest words for each mask, best first, and their probabilities.

        Args:
          scores: [total tokens, 2 K], see `top_words`.
        """
        for best in scores[self.tokens]:
            log_probabilities, ids = np.split(best, 2)
            with np.errstate(under="ignore"):
                probabilities = np.exp(log_probabilities)
            yield _pieces(self.tokenizer, ids.astype(int).tolist()), probabilities.tolist()

    def filled(self, words: Sequence[str]) -> str:
        """The text with a word for each mask."""
        parts, done = [], 0
        for (start, end), word in zip(self.places, words, strict=True):
            before = self.text[done:start]
            parts += [before.rstrip(), word.removeprefix(_CONTINUES)] if word.startswith(_CONTINUES) else [before, word]
            done = end
        return "".join([*parts, self.text[done:]])


def _pieces(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[Any]:
    """Tokens as word pieces, whatever the tokenizer's own marks: `##` before one that goes on with a word.

    None for a row of a vocabulary's padding, which the tokenizer has no piece for.
    """
    tokens = tokenizer.convert_ids_to_tokens(ids)
    begins = _BEGINS.get(type(tokenizer.backend_tokenizer.decoder).__name__)
    if begins is None:
        return tokens
    special = set(tokenizer.all_special_ids)
    texts = (tokenizer.decode([i]).strip() for i in ids)  # bytes and marks as characters
    return [
        None if token is None else text if token.startswith(begins) or i in special else _CONTINUES + text
        for token, text, i in zip(tokens, texts, ids, strict=True)
    ]


def top_words(output: BertOutput, batch: Batch) -> Float[Array, "B T K2"]:
    """Of each token the log-probabilities of the K likeliest words, and then their indices, which float32 holds."""
    log_probabilities = jax.nn.log_softmax(output.logits.astype(jnp.float32))
    best, words = jax.lax.top_k(log_probabilities, min(MOST_WORDS, log_probabilities.shape[-1]))
    return jnp.concatenate([best, words.astype(jnp.float32)], axis=-1)


def _encode(rows: Rows, source: str, encoding: Encoding) -> Examples:
    tokenizer, mask = encoding.tokenizer, encoding.tokenizer.mask_token
    if mask is None:
        raise CheckpointError("the tokenizer has no [MASK] token, so there is no word to find")
    unlabelled = np.zeros(len(rows.texts), np.int32)
    examples = tokenize(tokenizer, rows.texts, None, unlabelled, encoding.max_length)
    masked = np.flatnonzero(examples.token_ids == tokenizer.mask_token_id)
    of_texts = np.split(masked, np.searchsorted(masked, examples.offsets[1:-1]))
    places = [[match.span() for match in re.finditer(re.escape(mask), text)] for text in rows.texts]
    for number, (text, of_text, tokens) in enumerate(zip(rows.texts, places, of_texts, strict=True), start=1):
        if not of_text:
            raise DataError(f"{source}: text {number}, {shown(text)}, has no {mask} to find a word for")
        if len(of_text) != len(tokens):
            raise DataError(
                f"{source}: of the {len(of_text)} {mask} of text {number}, {shown(text)}, {len(tokens)} are within its "
                f"first {encoding.max_length} tokens; split the text"
            )
    masked_texts = zip(rows.texts, places, of_texts, strict=True)
    return examples._replace(reference=[MaskedText(*of_text, tokenizer) for of_text in masked_texts])


MASKED_WORD_READOUT = Readout(
    heads.masked_lm, top_words, "tokens", MASKED_LM._replace(plain=plain_text, sample="[MASK]", encode=_encode)
)
