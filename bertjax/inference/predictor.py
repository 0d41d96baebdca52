"""`Predictor`: a model folder as a function from texts, or rows of a table, to labels with probabilities."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerFast

from bertjax.config import Execution, read_config_json
from bertjax.data.batching.shape_buckets import bucketed_batches
from bertjax.data.encode.tokenize import load_tokenizer, tokenize
from bertjax.data.rows.cells import BadCell, read_texts
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.errors import DataError
from bertjax.model_folder import from_pretrained, stored_max_length, stored_preprocessing
from bertjax.predictions import Prediction, readout_of
from bertjax.pretrained.files import resolve_model
from bertjax.tasks import Model, Params

Text = str | tuple[str, str] | Mapping[str, Any]
"""A text, a pair of texts, or a row: the cells of the columns that the model was trained on."""


class Predictor:
    """Says what a model thinks of texts. It does to a row what was done to those it was trained on, but for the steps
    that drop rows: each gets its answer, also one in which the others leave no text.

    Batches are packed and come in a few shapes; each compiles when it is first met.

    Attributes:
      model: the network, with its task and label names.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        tokenizer: PreTrainedTokenizerFast,
        preprocessing: Preprocessing,
        max_length: int,
    ):
        """See `load`, which finds all of this in a folder.

        Raises:
          ConfigError: the model's task says nothing of a text as a whole.
        """
        self.model = model
        self._readout = readout_of(model.task)
        self._params = jax.device_put(params)
        self._tokenizer = tokenizer
        self._preprocessing = preprocessing
        self._max_length = max_length
        self._forward = jax.jit(lambda params, batch: model.apply(params, None, batch, deterministic=True).logits)

    @classmethod
    def load(cls, name: str | Path, max_length: int | None = None, execution: Execution | None = None) -> "Predictor":
        """The predictor of a model folder, such as `model/` of a run.

        Args:
          name: a folder, a hub id, a name of the catalog, or `models:/NAME@ALIAS` of MLflow's registry.
          max_length: longest text in tokens, what is longer is cut; default: as in training, else what the network
            takes.
          execution: how to run the network.

        Raises:
          UserError: there is no such model, it does not fit, or its task predicts no texts.
        """
        folder = resolve_model(str(name))
        stored = read_config_json(folder)
        model, params = from_pretrained(folder, execution=execution)
        return cls(
            model,
            params,
            load_tokenizer(folder),
            stored_preprocessing(stored),
            min(max_length or stored_max_length(stored), model.config.max_position_embeddings),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the rows that the model was trained on; none where it was saved without them."""
        return (*self._preprocessing.text, *self._preprocessing.text_pair)

    def __call__(self, texts: Sequence[Text] | pd.DataFrame) -> list[Prediction]:
        """What the model says of each text, of each pair of texts, or of each row: a frame, or mappings by column.

        For a classification: `{"label": ..., "probability": ..., "probabilities": {label: probability}}`; see
        `bertjax.predictions` for the other tasks.

        Raises:
          DataError: something that is no text, a row without a column or without text, or texts and pairs in one call.
        """
        return [self._readout.read(row, self.model.labels) for row in self.logits(texts)]

    def logits(self, texts: Sequence[Text] | pd.DataFrame) -> np.ndarray:
        """The head's outputs: [N, L] float32, in the order of the texts.

        Raises:
          DataError: as from a call.
        """
        firsts, seconds = _parts(_rows(texts) if isinstance(texts, pd.DataFrame) else texts, self._preprocessing)
        logits = np.empty((len(firsts), len(self.model.labels)), np.float32)
        if not firsts:
            return logits
        examples = tokenize(
            self._tokenizer,
            [self._preprocessing(text) for text in firsts],
            None if seconds is None else [self._preprocessing(text) for text in seconds],
            np.zeros(len(firsts), np.int32),
            self._max_length,
        )
        for packed_batch in bucketed_batches(examples):
            computed = np.asarray(self._forward(self._params, packed_batch.batch))
            real = packed_batch.example_ids >= 0
            logits[packed_batch.example_ids[real]] = computed[real]
        return logits


def _parts(texts: Sequence[Text], preprocessing: Preprocessing) -> tuple[list[str], list[str] | None]:
    """The first texts, and the second ones where there are pairs."""
    if isinstance(texts, str):
        raise DataError(f"a predictor takes a list of texts; give [{texts[:40]!r}]")
    firsts: list[str] = []
    seconds: list[str] = []
    for number, entry in enumerate(texts, start=1):
        text = _joined(entry, preprocessing, number) if isinstance(entry, Mapping) else entry
        pair = (text,) if isinstance(text, str) else text
        if not isinstance(pair, tuple) or len(pair) not in (1, 2) or not all(isinstance(text, str) for text in pair):
            raise DataError(f"text {number} must be a string, a pair of strings or a row of columns, got {entry!r}")
        firsts.append(pair[0])
        seconds += pair[1:]
    if seconds and len(seconds) < len(firsts):
        raise DataError(f"{len(seconds)} of {len(firsts)} texts are pairs; give pairs or single texts, not both")
    return firsts, seconds or None


def _rows(frame: pd.DataFrame) -> list[Mapping[str, Any]]:
    return [dict(zip(map(str, frame.columns), row, strict=True)) for row in frame.itertuples(index=False, name=None)]


def _joined(cells: Mapping[str, Any], preprocessing: Preprocessing, number: int) -> str | tuple[str, str]:
    """The text of a row, or both, as training made them of its columns."""
    columns = (*preprocessing.text, *preprocessing.text_pair)
    if not columns:
        raise DataError("the model was saved without the names of its columns; give texts instead of rows")
    missing = [repr(column) for column in columns if column not in cells]
    if missing:
        raise DataError(
            f"row {number} has no {', '.join(missing)}; the model reads {', '.join(map(repr, columns))} (None stands "
            f"for an empty cell)"
        )
    try:
        first, second = read_texts(cells, preprocessing)
    except BadCell as error:
        raise DataError(f"row {number} {error}") from None
    return first if second is None else (first, second)
