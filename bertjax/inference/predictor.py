"""`Predictor`: a model folder as a function from texts, or rows of a table, to answers in words."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bertjax.config import Execution
from bertjax.data.encode.examples import Examples
from bertjax.data.rows.cells import BadCell
from bertjax.data.rows.labelled_rows import Row, Rows
from bertjax.data.rows.labelled_rows import Text as RowText
from bertjax.errors import DataError
from bertjax.inference.loaded_model import LoadedModel, load_model
from bertjax.prediction.batcher import bucketed_batches
from bertjax.prediction.devices import all_devices
from bertjax.prediction.predict import Forward, predict
from bertjax.tasks import find_format, find_postprocess, find_task
from bertjax.tasks.postprocess import AnswerOptions, Prediction

Text = str | list[str] | tuple[str, str | Sequence[str]] | Mapping[str, Any]
"""A text, a pair of texts, or a row: the cells of the columns that the model was trained on. Where words are labelled,
a list of words; of a multiple choice, a question and the list of its candidates."""

_EVERY_ANSWER = AnswerOptions()


class Prepared(NamedTuple):
    """Texts that are ready for the network.

    Attributes:
      rows: the texts, preprocessed, each with a placeholder in the place of its label.
      examples: made of them; a long text may be several.
    """

    rows: Rows
    examples: Examples

    @property
    def num_tokens(self) -> int:
        """Tokens of all examples, special ones included."""
        return int(self.examples.offsets[-1])


class Predictor:
    """A model that answers in words. It does to a text what was done to the training rows, except that it drops no row:
    each gets its answer, even one in which the preprocessing leaves no text.

    It computes on all devices. Batches are packed and come in a few shapes; each compiles when it is first met.

    Attributes:
      model: the network, with its task and label names.
    """

    def __init__(self, loaded: LoadedModel):
        """See `load`, which reads a folder.

        Raises:
          ConfigError: the model's task says nothing of a whole text.
        """
        self.model = loaded.model
        self._postprocess = find_postprocess(loaded.model.task)
        self._format = find_format(loaded.model.task)
        self._loaded = loaded
        self._tokenizing = Lock()  # a fast tokenizer has its longest length as a state
        self._devices = all_devices()
        self._forward = partial(Forward(self._devices, loaded.model), self._devices.place(loaded.params))

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
        loaded = load_model(name, execution)
        longest = min(max_length or loaded.max_length, loaded.model.config.max_position_embeddings)
        return cls(loaded._replace(max_length=longest))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the rows that the model was trained on; none where it was saved without them."""
        return self._format.text_columns(self._loaded.table) if self._loaded.preprocessing.text else ()

    def __call__(
        self, texts: Sequence[Text] | pd.DataFrame, options: AnswerOptions = _EVERY_ANSWER
    ) -> list[Prediction]:
        """The answer to each text, to each pair of texts, or to each row: a frame, or mappings by column.

        For a classification: `{"label": ..., "probability": ..., "probabilities": {label: probability}}`; see
        `bertjax.tasks.postprocess` for the other tasks.

        Args:
          texts: texts, pairs or rows.
          options: what is asked of the answers.

        Raises:
          DataError: something that is no text, a row without a column or without text, or texts and pairs in one call.
        """
        if len(texts) == 0:
            return []
        prepared = self.prepare(texts)
        (scores,) = self.compute([prepared])
        return self.answer(prepared, scores, options)

    def logits(self, texts: Sequence[Text] | pd.DataFrame) -> np.ndarray:
        """The scores behind the answers (`Task.scores`), float32: [N, L] logits in the order of the texts; where tokens
        are scored, [total tokens, L].

        Raises:
          DataError: as from a call.
        """
        if len(texts) == 0:
            return np.empty((0, len(self.model.labels)), np.float32)
        return self.compute([self.prepare(texts)])[0]

    def prepare(self, texts: Sequence[Text] | pd.DataFrame) -> Prepared:
        """Reads, preprocesses and tokenizes one or more texts: the first of the three steps of a call.

        Raises:
          DataError: as from a call.
        """
        rows = self._rows(texts)
        with self._tokenizing:
            return Prepared(rows, self._loaded.encode(rows, "the texts"))

    def compute(self, prepared: Sequence[Prepared]) -> list[np.ndarray]:
        """The scores (`Task.scores`) of texts that were prepared one by one, in joint batches: the second step.

        Args:
          prepared: one or more.

        Returns:
          For each of them [n, ...] float32, one entry an example, or a token where tokens are scored.
        """
        examples = [part.examples for part in prepared]
        scores = predict(
            self._forward, self._devices.count, self.model.task, examples[0].joined(examples[1:]), bucketed_batches
        )
        of_tokens = find_task(self.model.task).scores_of == "tokens"
        counts = [int(part.offsets[-1]) if of_tokens else part.num_examples for part in examples]
        return np.split(scores, np.cumsum(counts)[:-1])

    def answer(
        self, prepared: Prepared, scores: np.ndarray, options: AnswerOptions = _EVERY_ANSWER
    ) -> list[Prediction]:
        """The answers that scores say: the last step.

        Args:
          prepared: the texts.
          scores: of their examples, as `compute` returns them.
          options: what is asked of the answers.
        """
        return self._postprocess.answers(scores, prepared.rows, prepared.examples, self.model.labels, options)

    def _rows(self, texts: Sequence[Text] | pd.DataFrame) -> Rows:
        """Preprocessed texts as rows, each with a placeholder in the place of its label."""
        if isinstance(texts, str):
            raise DataError(f"a predictor takes a list of texts; give [{texts[:40]!r}]")
        entries = _records(texts) if isinstance(texts, pd.DataFrame) else texts
        rows = [self._row(entry, number) for number, entry in enumerate(entries, start=1)]
        pairs = [row.pair for row in rows if row.pair is not None]
        if pairs and len(pairs) < len(rows):
            raise DataError(f"{len(pairs)} of {len(rows)} texts are pairs; give pairs or single texts, not both")
        return Rows([row.text for row in rows], pairs or None, [row.label for row in rows], list(range(len(rows))))

    def _row(self, entry: Text, number: int) -> Row:
        try:
            text, pair = self._read(entry, number) if isinstance(entry, Mapping) else self._format.plain(entry)
        except BadCell as error:
            raise DataError(f"{'row' if isinstance(entry, Mapping) else 'text'} {number} {error}") from None
        label = self._format.placeholder(text, self.model.labels)
        return Row(self._preprocessed(text), None if pair is None else self._preprocessed(pair), label)

    def _read(self, cells: Mapping[str, Any], number: int) -> tuple[RowText, RowText | None]:
        """The texts of a row, as training made them of its columns."""
        columns = self.columns
        if not columns:
            raise DataError("the model was saved without the names of its columns; give texts instead of rows")
        missing = [repr(column) for column in columns if column not in cells]
        if missing:
            raise DataError(
                f"row {number} has no {', '.join(missing)}; the model reads {', '.join(map(repr, columns))} (None "
                f"stands for an empty cell)"
            )
        return self._format.read_texts(cells, self._loaded.table)

    def _preprocessed(self, text: RowText) -> RowText:
        preprocessing = self._loaded.preprocessing
        return preprocessing(text) if isinstance(text, str) else tuple(map(preprocessing, text))


def _records(frame: pd.DataFrame) -> list[Mapping[str, Any]]:
    return [dict(zip(map(str, frame.columns), row, strict=True)) for row in frame.itertuples(index=False, name=None)]
