"""Checks of tokenized texts: too many unknown tokens, or segments that the network does not have."""

import logging

import numpy as np
from transformers import PreTrainedTokenizerFast

from bertjax.config import BertConfig
from bertjax.data.encode.examples import Examples, ExampleStore
from bertjax.errors import CheckpointError

logger = logging.getLogger(__name__)

_TOLD_FROM = 0.2  # share of [UNK]; with the right vocabulary it is a few thousandths
_SAMPLE = 10_000  # examples; a share needs no more, and they may be on the disk


def warn_of_unknown(tokenizer: PreTrainedTokenizerFast, examples: ExampleStore, source: str) -> None:
    """Warns where a large share of a table's tokens is [UNK], the network's word for all that it cannot read."""
    share = unknown_share(tokenizer, examples)
    if share >= _TOLD_FROM:
        logger.warning(
            "%s: %.0f%% of the tokens are %s, which the model's vocabulary does not have; choose a model of these "
            "texts' language and letters", source, 100 * share, tokenizer.unk_token,
        )  # fmt: skip


def unknown_share(tokenizer: PreTrainedTokenizerFast, examples: ExampleStore) -> float:
    """The share of [UNK] among the tokens of the texts, from 0 to 1; of examples evenly spaced where there are many."""
    count = examples.num_examples
    indices = np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64))
    unknown, of_texts = count_unknown(tokenizer, examples.take(indices).token_ids)
    return unknown / max(of_texts, 1)


def count_unknown(tokenizer: PreTrainedTokenizerFast, token_ids: np.ndarray) -> tuple[int, int]:
    """How many of some tokens are [UNK], and how many are of texts at all, not [CLS], [SEP] and the like."""
    unk = tokenizer.unk_token_id
    others = [i for i in tokenizer.all_special_ids if i != unk]
    of_texts = len(token_ids) - int(np.isin(token_ids, others).sum())
    return 0 if unk is None else int((token_ids == unk).sum()), of_texts


def check_segments(examples: Examples, config: BertConfig, source: str) -> None:
    """Checks that the network has a segment embedding for each text of a pair.

    Raises:
      CheckpointError: it has too few.
    """
    segments = 1 + int(examples.token_type_ids.max())
    if config.type_vocab_size and segments > config.type_vocab_size:
        raise CheckpointError(
            f"{source} has pairs of texts, which the tokenizer gives {segments} segment types; the network has "
            f"type_vocab_size {config.type_vocab_size}; choose another model, or join the texts into one column"
        )
