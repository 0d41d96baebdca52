"""Masked language modelling: plain text, of which random words are masked in each epoch."""

from itertools import chain

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.masking import NO_WORD, DynamicMasking
from bertjax.data.encode.tokenize import in_windows
from bertjax.data.rows.cells import read_text
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.task_formats.task_format import Encoding, TaskFormat
from bertjax.errors import CheckpointError


def _encode(rows: Rows, source: str, encoding: Encoding) -> Examples:
    """Examples of at most the longest length; a longer text becomes several, and nothing of it is lost."""
    tokenizer = encoding.tokenizer
    if tokenizer.mask_token_id is None:
        raise CheckpointError("the tokenizer has no [MASK] token, without which no word can be hidden")
    windows = in_windows(tokenizer, rows.texts, None, encoding.max_length, 0, encoding.progress)
    word_ids = chain.from_iterable(window.word_ids for window in windows.parts)
    words = np.array([NO_WORD if word is None else word for word in word_ids], np.int32)
    replacements = np.setdiff1d(list(tokenizer.get_vocab().values()), tokenizer.all_special_ids).astype(np.int32)
    return Examples(
        *windows.tokens,
        labels=np.full(len(words), UNLABELLED, np.int32),
        truncated=0,
        labels_of="tokens",
        row_of=windows.text_of,
        special_tokens=tokenizer.num_special_tokens_to_add(),
        masking=DynamicMasking(
            words,
            encoding.masking.mask_share,
            encoding.masking.whole_words,
            tokenizer.mask_token_id,
            replacements,
            encoding.seed,
        ),
    )


MASKED_LM = TaskFormat(
    task="masked_lm",
    text_columns=lambda table: table.text,
    read_texts=lambda cells, table: (read_text(cells, table.text), None),
    read_label=lambda cells, table, texts: None,
    encode=_encode,
    label_columns=lambda table: (),
)
