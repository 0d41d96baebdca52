"""`Readout`: one use of a network, from rows to scores: a task's answers, text vectors, or words for masks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bertjax.batch import Batch, LabelsOf
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.tokenize import tokenize
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.task_formats import Encoding, TaskFormat
from bertjax.data.task_formats.masked_lm_format import MASKED_LM
from bertjax.data.task_formats.task_format import plain_text
from bertjax.model import heads
from bertjax.model.bert import ForwardOptions
from bertjax.model.heads import BertOutput, HeadConfig


class Readout(NamedTuple):
    """How a network is read.

    Attributes:
      head: (config, batch, options) -> BertOutput, in a Haiku transform, of parameters that the model has.
      scores: (output, batch) -> what is read, [B, E, ...] or [B, T, ...].
      scores_of: the axis that they lie on.
      format: how texts, and rows of a table, become examples.
    """

    head: Callable[[HeadConfig, Batch, ForwardOptions], BertOutput]
    scores: Callable[[BertOutput, Batch], Any]
    scores_of: LabelsOf
    format: TaskFormat


def vectors(task_format: TaskFormat | None) -> Readout:
    """One vector of length 1 for each row.

    Args:
      task_format: of the task; where its examples are groups of texts, or there is none, a row is a single text.
    """
    texts = MASKED_LM._replace(plain=plain_text) if task_format is None or task_format.grouped else task_format
    return Readout(
        heads.sentence_embedding,
        _pooled,
        "examples",
        texts._replace(encode=_encode_texts),
    )


def _pooled(output: BertOutput, batch: Batch) -> Any:
    del batch
    return output.pooled_output


def _encode_texts(rows: Rows, source: str, encoding: Encoding) -> Examples:
    unlabelled = np.zeros(len(rows.texts), np.int32)
    return tokenize(encoding.tokenizer, rows.texts, rows.pairs, unlabelled, encoding.max_length)
