"""Text to word pieces, with the checkpoint's own fast tokenizer, kept ragged: batches add the padding."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding
from transformers import BatchEncoding, PreTrainedTokenizerFast

from bertjax.data.encode.examples import Examples


class Ragged(NamedTuple):
    """Tokens of texts, end to end, as in `Examples`."""

    token_ids: np.ndarray
    token_type_ids: np.ndarray
    offsets: np.ndarray


class Windows(NamedTuple):
    """Texts in windows of limited length."""

    tokens: Ragged  # tokens of all windows, each an example
    text_of: np.ndarray  # [N] index of each window's text; the windows of a text follow one another
    parts: Sequence[Encoding]  # the tokenizer's encoding of each window, with words and characters

    def by_text(self, count: int) -> list[list[Encoding]]:
        """The windows of each of so many texts."""
        found: list[list[Encoding]] = [[] for _ in range(count)]
        for text, part in zip(self.text_of.tolist(), self.parts, strict=True):
            found[text].append(part)
        return found


def tokenize(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    labels: np.ndarray,
    max_length: int,
) -> Examples:
    """Encodes texts, or pairs of texts as two segments, cut to `max_length` tokens (the longer of a pair first)."""
    whole, encoded = _encoded(tokenizer, texts, pairs, max_length)
    truncated = sum(len(ids) > max_length for ids in whole["input_ids"])
    tokens = _ragged(encoded["input_ids"], encoded["token_type_ids"])
    special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    return Examples(*tokens, labels, truncated, special_tokens=special)


def tokenize_in_place(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> list[tuple[Encoding, Encoding]]:
    """The tokens of `tokenize` with their places in the texts: of each text, or pair, the whole of it, and what is left
    when it is cut."""
    whole, cut = _encoded(tokenizer, texts, pairs, max_length)
    return list(zip(whole.encodings, cut.encodings, strict=True))


def _encoded(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> tuple[BatchEncoding, BatchEncoding]:
    """The encoded texts, whole and cut; the same value twice where none is too long."""
    encode = partial(
        tokenizer,
        list(texts),
        None if pairs is None else list(pairs),
        padding=False,
        return_token_type_ids=True,
        return_attention_mask=False,
    )
    whole = encode(truncation=False, verbose=False)
    if all(len(ids) <= max_length for ids in whole["input_ids"]):
        return whole, whole
    cut = encode(truncation="longest_first", max_length=max_length)
    tokenizer.backend_tokenizer.no_truncation()
    return whole, cut


def in_windows(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str] | Sequence[Sequence[str]],
    pairs: Sequence[str] | None,
    max_length: int,
    overlap: int,
    split_into_words: bool = False,
) -> Windows:
    """Encodes whole texts, as several windows where they have more than `max_length` tokens.

    Args:
      tokenizer: a fast tokenizer.
      texts: texts, or lists of words.
      pairs: second texts, of which each window has a part; each window has the whole first text then.
      max_length: longest window, in tokens.
      overlap: tokens that neighbouring windows share.
      split_into_words: whether each text is a list of words.
    """
    encoded = tokenizer(
        [list(text) for text in texts] if split_into_words else list(texts),
        None if pairs is None else list(pairs),
        truncation=True if pairs is None else "only_second",
        max_length=max_length,
        stride=overlap,
        is_split_into_words=split_into_words,
        padding=False,
        return_overflowing_tokens=True,
        return_token_type_ids=True,
        return_attention_mask=False,
    )
    tokenizer.backend_tokenizer.no_truncation()
    return Windows(
        _ragged(encoded["input_ids"], encoded["token_type_ids"]),
        np.asarray(encoded["overflow_to_sample_mapping"], np.int64),
        encoded.encodings,
    )


def _ragged(token_ids: Sequence[Sequence[int]], token_type_ids: Sequence[Sequence[int]]) -> Ragged:
    lengths = [len(ids) for ids in token_ids]
    return Ragged(
        token_ids=np.concatenate([np.asarray(ids, np.int32) for ids in token_ids]),
        token_type_ids=np.concatenate([np.asarray(ids, np.int32) for ids in token_type_ids]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
