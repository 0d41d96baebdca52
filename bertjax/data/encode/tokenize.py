"""Tokenizes texts with the checkpoint's own fast tokenizer, without padding."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from bertjax.data.encode.examples import Examples
from bertjax.stage_progress import UNSHOWN, StageProgress

_STAGE = "tokenizing"
_TEXTS_AT_ONCE = 2**12  # between two signs of progress; the same tokens for any number


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
    progress: StageProgress = UNSHOWN,
) -> Examples:
    """Encodes texts, or pairs of texts as two segments, cut to `max_length` tokens (the longer of a pair first)."""
    whole, encoded = _encoded(tokenizer, texts, pairs, max_length, progress)
    truncated = sum(len(part) > max_length for part in whole)
    special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    return Examples(*_ragged(encoded), labels, truncated, special_tokens=special)


def tokenize_in_place(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> list[tuple[Encoding, Encoding]]:
    """The tokens of `tokenize` with their places in the texts: of each text, or pair, the whole of it, and what is left
    when it is cut."""
    whole, cut = _encoded(tokenizer, texts, pairs, max_length, UNSHOWN)
    return list(zip(whole, cut, strict=True))


def _encoded(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    max_length: int,
    progress: StageProgress,
) -> tuple[list[Encoding], list[Encoding]]:
    """The encoded texts, whole and cut."""
    whole: list[Encoding] = []
    cut: list[Encoding] = []
    with progress.stage(_STAGE, "texts", len(texts)) as advance:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            encode = partial(
                tokenizer,
                list(texts[part]),
                None if pairs is None else list(pairs[part]),
                padding=False,
                return_token_type_ids=True,
                return_attention_mask=False,
            )
            of_part = shortened = encode(truncation=False, verbose=False).encodings
            if any(len(text) > max_length for text in of_part):
                shortened = encode(truncation="longest_first", max_length=max_length).encodings
                tokenizer.backend_tokenizer.no_truncation()
            whole += of_part
            cut += shortened
            advance(len(of_part))
    return whole, cut


def in_windows(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str] | Sequence[Sequence[str]],
    pairs: Sequence[str] | None,
    max_length: int,
    overlap: int,
    progress: StageProgress = UNSHOWN,
    split_into_words: bool = False,
) -> Windows:
    """Encodes whole texts, as several windows where they have more than `max_length` tokens.

    Args:
      tokenizer: a fast tokenizer.
      texts: texts, or lists of words.
      pairs: second texts, of which each window has a part; each window has the whole first text then.
      max_length: longest window, in tokens.
      overlap: tokens that neighbouring windows share.
      progress: shows how many texts are encoded.
      split_into_words: whether each text is a list of words.
    """
    parts: list[Encoding] = []
    text_of: list[np.ndarray] = []
    with progress.stage(_STAGE, "texts", len(texts)) as advance:
        for start in range(0, max(len(texts), 1), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            encoded = tokenizer(
                [list(text) for text in texts[part]] if split_into_words else list(texts[part]),
                None if pairs is None else list(pairs[part]),
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
            parts += encoded.encodings
            text_of.append(start + np.asarray(encoded["overflow_to_sample_mapping"], np.int64))
            advance(len(texts[part]))
    return Windows(_ragged(parts), np.concatenate(text_of), parts)


def _ragged(encoded: Sequence[Encoding]) -> Ragged:
    return Ragged(
        token_ids=np.concatenate([np.asarray(part.ids, np.int32) for part in encoded]),
        token_type_ids=np.concatenate([np.asarray(part.type_ids, np.int32) for part in encoded]),
        offsets=np.concatenate([[0], np.cumsum([len(part) for part in encoded])]).astype(np.int64),
    )
