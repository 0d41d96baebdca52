"""`Readout`: a way to read a network, from rows to scores. Each task has one; vectors and masked words have others."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bertjax.batch import Batch, LabelsOf
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.tokenize import tokenize
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.task_formats.task_format import Encoding
from bertjax.model import heads
from bertjax.model.bert import ForwardOptions
from bertjax.model.heads import BertOutput, HeadConfig


class Readout(NamedTuple):
    """How a network is read.

    Attributes:
      head: (config, batch, options) -> BertOutput, in a Haiku transform, of parameters that the model has.
      scores: (output, batch) -> what is read, [B, E, ...] or [B, T, ...].
      scores_of: the axis that they lie on.
      encode: (rows, source, encoding) -> examples; raises DataError.
    """

    head: Callable[[HeadConfig, Batch, ForwardOptions], BertOutput]
    scores: Callable[[BertOutput, Batch], Any]
    scores_of: LabelsOf
    encode: Callable[[Rows, str, Encoding], Examples]


def _encode_texts(rows: Rows, source: str, encoding: Encoding) -> Examples:
    unlabelled = np.zeros(len(rows.texts), np.int32)
    return tokenize(encoding.tokenizer, rows.texts, rows.pairs, unlabelled, encoding.max_length)


VECTORS = Readout(heads.sentence_embedding, lambda output, batch: output.pooled_output, "examples", _encode_texts)
"""One vector of length 1 a text, or a pair of texts."""
