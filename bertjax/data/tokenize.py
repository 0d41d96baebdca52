"""Text to word pieces, with the checkpoint's own fast tokenizer, kept ragged: padding is the batch's business."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from bertjax.data.examples import Examples
from bertjax.errors import CheckpointError


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The fast tokenizer in a model folder.

    Truncation and padding that were saved with it are reset: some checkpoints carry those of another job.

    Raises:
      CheckpointError: no tokenizer can be read from the folder.
    """
    if not any((Path(folder) / file).is_file() for file in ("tokenizer.json", "vocab.txt")):
        # transformers would make up a tokenizer without a vocabulary.
        raise CheckpointError(f"{folder} has no tokenizer (neither tokenizer.json nor vocab.txt)")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), use_fast=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder} has no tokenizer that can be read: {str(error).splitlines()[0]}") from None
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def tokenize(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    labels: np.ndarray,
    max_length: int,
) -> Examples:
    """Encodes texts, or pairs of texts as two segments, cut to `max_length` tokens (the longer of a pair first)."""
    encoded = tokenizer(
        list(texts),
        None if pairs is None else list(pairs),
        truncation=False,
        padding=False,
        return_token_type_ids=True,
        return_attention_mask=False,
        verbose=False,
    )
    whole = sum(len(ids) > max_length for ids in encoded["input_ids"])
    if whole:
        encoded = tokenizer(
            list(texts),
            None if pairs is None else list(pairs),
            truncation="longest_first",
            max_length=max_length,
            padding=False,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        tokenizer.backend_tokenizer.no_truncation()
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return Examples(
        token_ids=np.concatenate([np.asarray(ids, np.int32) for ids in encoded["input_ids"]]),
        token_type_ids=np.concatenate([np.asarray(ids, np.int32) for ids in encoded["token_type_ids"]]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        labels=labels,
        truncated=whole,
    )
