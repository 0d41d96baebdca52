"""`Predictor`: a trained model as a function from texts, or rows of a table, to labels and probabilities."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import count, islice
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from bertjax.config import Execution, Pooling
from bertjax.data.batching.prefetch import prefetched
from bertjax.data.encode.examples import Examples
from bertjax.data.rows.labelled_rows import Rows
from bertjax.devices.data_parallel import all_devices
from bertjax.errors import ConfigError
from bertjax.inference.explanations.explain_options import ExplainOptions
from bertjax.inference.explanations.explainer import Explainer
from bertjax.inference.explanations.explanation import Explanation
from bertjax.inference.loaded_model import LoadedModel, load_model
from bertjax.inference.readout_network import ReadoutNetwork
from bertjax.inference.text_reader import Text
from bertjax.tasks import find_postprocess, find_readout, find_task, find_vectors
from bertjax.tasks.postprocess import AnswerOptions, Prediction

_EVERY_ANSWER = AnswerOptions()
_BY_GRADIENTS = ExplainOptions()
_CHUNK = 2048  # texts that are tokenized and computed together
T = TypeVar("T")


class Prepared(NamedTuple):
    """Texts that are ready for the network.

    Attributes:
      rows: the texts, preprocessed, with placeholders for their labels.
      examples: tokenized; a long text may be several.
      vectors: whether they are to be embedded instead of answered.
    """

    rows: Rows
    examples: Examples
    vectors: bool = False

    @property
    def num_tokens(self) -> int:
        """Tokens of all examples, special ones included."""
        return int(self.examples.offsets[-1])


class Predictor:
    """A trained model with its tokenizer and preprocessing. Texts are treated as the training rows were, but none is
    dropped, not even one that the preprocessing leaves empty.

    It runs on all devices, on packed batches of a few shapes; each is compiled on its first use, or in `warm_up`.
    Thread-safe.

    Attributes:
      model: the network, with its task and label names.
    """

    def __init__(self, loaded: LoadedModel):
        """See `load`, which reads a folder."""
        self.model = loaded.model
        self._loaded = loaded
        self._task = find_task(self.model.task)
        devices, tokenizing = all_devices(), Lock()
        params = devices.place(loaded.params)
        network = partial(ReadoutNetwork, devices, params, loaded, tokenizing)
        self._explainer = Explainer(devices, params, loaded, tokenizing)
        self._answers = network(find_readout(self.model.task)) if self._task.postprocess else None
        self._vectors = network(find_vectors(self.model.task)) if self._task.pooling else None

    @classmethod
    def load(
        cls,
        name: str | Path,
        max_length: int | None = None,
        execution: Execution | None = None,
        pooling: Pooling | None = None,
    ) -> "Predictor":
        """The predictor of a model folder, such as `model/` of a run.

        Args:
          name: a folder, a hub id, a name of the catalog, or `models:/NAME@ALIAS` of MLflow's registry.
          max_length: longer texts are truncated to so many tokens; default: as in training, else all the network takes.
          execution: how to run the network, such as `Execution(precision="bfloat16")`.
          pooling: how a text becomes one vector, for a bare encoder whose folder does not say so; most sentence
            encoders use the mean.

        Raises:
          UserError: there is no such model, or it does not fit.
        """
        loaded = load_model(name, execution, pooling=pooling)
        longest = min(max_length or loaded.max_length, loaded.model.config.max_length)
        return cls(loaded._replace(max_length=longest))

    @property
    def columns(self) -> tuple[str, ...]:
        """The text columns of the training rows; empty if the folder does not name them."""
        network = self._answers or self._vectors
        return () if network is None else network.reader.columns

    @property
    def max_length(self) -> int:
        """Longest text in tokens."""
        return self._loaded.max_length

    @property
    def has_vectors(self) -> bool:
        """Whether `embed` works for this model."""
        return self._vectors is not None and self._loaded.pooling_known

    @property
    def computed_tokens(self) -> int:
        """Tokens of all batches so far, with their padding."""
        return sum(network.computed_tokens for network in (self._answers, self._vectors) if network is not None)

    @property
    def num_compiled(self) -> int:
        """Programs that were compiled, one for each shape of batches."""
        return sum(network.num_compiled for network in (self._answers, self._vectors) if network is not None)

    def __call__(
        self, texts: Sequence[Text] | pd.DataFrame, options: AnswerOptions = _EVERY_ANSWER
    ) -> list[Prediction]:
        """The answer to each text, to each pair of texts, or to each row: a frame, or mappings by column.

        For a classification: `{"label": ..., "probability": ..., "probabilities": {label: probability}}`; see
        `bertjax.tasks.postprocess` and `bertjax.tasks.text_answers` for the other tasks.

        Args:
          texts: texts, pairs or rows, any number.
          options: what is asked of the answers.

        Raises:
          DataError: something that is no text, a row without a column or without text, or texts and pairs in one call.
          ConfigError: the model's task says nothing of a whole text, or an option means nothing for it.
        """
        self.check_options(options)
        rows = self._network().reader.rows(texts)
        computed = self._computed(rows.take(indices) for indices in _chunks(range(len(rows.texts))))
        return [answer for prepared, scores in computed for answer in self.answer(prepared, scores, options)]

    def stream(self, texts: Iterable[Text], options: AnswerOptions = _EVERY_ANSWER) -> Iterator[Prediction]:
        """The answers to any number of texts, in order, with few of them in memory at a time.

        Reading and tokenizing, the forward pass, and the consumer of the answers run concurrently.

        Args:
          texts: iterated in another thread.
          options: of the answers.

        Raises:
          DataError, ConfigError: as from a call, after the answers to the texts before.
        """
        self.check_options(options)
        firsts, reader = count(1, _CHUNK), self._network().reader
        chunks = (reader.rows(chunk, first) for first, chunk in zip(firsts, _chunks(texts), strict=False))
        for prepared, scores in self._computed(chunks):
            yield from self.answer(prepared, scores, options)

    def embed(self, texts: Sequence[Text] | pd.DataFrame) -> np.ndarray:
        """The vectors of texts, or of pairs of texts that the model reads together.

        Returns:
          [N, D] float32, each of length 1, so that a dot product is a cosine.

        Raises:
          DataError: as from a call.
          ConfigError: the model makes no vector of a text, or a bare encoder was loaded without its pooling.
        """
        rows = self._network(vectors=True).reader.rows(texts)
        chunks = (rows.take(indices) for indices in _chunks(range(len(rows.texts))))
        vectors = [part for _, part in self._computed(chunks, vectors=True)]
        return np.concatenate([np.empty((0, self.model.config.hidden_size), np.float32), *vectors])

    def logits(self, texts: Sequence[Text] | pd.DataFrame) -> np.ndarray:
        """The scores behind the answers (`Task.scores`), float32: [N, L] logits in the order of the texts, before the
        model's temperature; where tokens are scored, [total tokens, L].

        Raises:
          DataError, ConfigError: as from a call.
        """
        rows = self._network().reader.rows(texts)
        if not rows.texts:
            return np.empty((0, len(self.model.labels)), np.float32)
        return self.compute([self._encoded(rows)])[0]

    def explain(
        self, texts: Sequence[Text] | pd.DataFrame, options: ExplainOptions = _BY_GRADIENTS
    ) -> list[Explanation]:
        """Why the model answers each text as it does: a weight for each of its words.

        Args:
          texts: texts, pairs or rows.
          options: the method, and the label whose score is explained.

        Raises:
          DataError: as from a call.
          ConfigError: the model's task has no explanations, or not of this label or by this method.
        """
        self._explainer.check(options)
        rows = self._network().reader.rows(texts)
        if not rows.texts:
            return []
        prepared = self._encoded(rows)
        return self.explain_answers(rows, self.answer(prepared, self.compute([prepared])[0]), options)

    def check_explained(self, options: ExplainOptions) -> None:
        """Checks that answers can be explained as the options ask.

        Raises:
          ConfigError: as from `explain`, but for labels.
        """
        self._explainer.check(options)

    def explain_answers(
        self, rows: Rows, answers: Sequence[Prediction], options: ExplainOptions = _BY_GRADIENTS
    ) -> list[Explanation]:
        """`explain` for answers that are there already.

        Args:
          rows: texts as `prepare` reads them.
          answers: to them.
          options: as for `explain`.

        Raises:
          ConfigError: as from `explain`.
        """
        return self._explainer.explain(rows, answers, options)

    def warm_up(self, longest: int | None = None, most_texts: int | None = None, vectors: bool = False) -> int:
        """Compiles in advance, so that texts up to a length need not wait for it.

        Args:
          longest: tokens of the longest text; default: `max_length`.
          most_texts: texts per call, at most; default: any number.
          vectors: also for `embed`, if the model supports it.

        Returns:
          The number of compiled programs.

        Raises:
          ConfigError: a length that is not from 1 to `max_length`.
        """
        longest = self.max_length if longest is None else longest
        if not 1 <= longest <= self.max_length:
            raise ConfigError(
                f"a text has from 1 to {self.max_length} tokens; there is none of {longest} to warm up for"
            )
        if self._answers is not None:
            self._answers.compile(longest, most_texts)
        if self._vectors is not None and vectors and self.has_vectors:
            self._vectors.compile(longest, most_texts)
        return self.num_compiled

    def check_options(self, options: AnswerOptions) -> None:
        """Checks that answers can be had as the options ask.

        Raises:
          ConfigError: an option that means nothing for the task, or a task that says nothing of a whole text.
        """
        find_postprocess(self.model.task).check(options, self.model.task)

    def prepare(self, texts: Sequence[Text] | pd.DataFrame, vectors: bool = False) -> Prepared:
        """Reads, preprocesses and tokenizes one or more texts: the first of the three steps of a call.

        Args:
          texts: texts, pairs or rows.
          vectors: for `embed`, not for an answer.

        Raises:
          DataError, ConfigError: as from a call, or from `embed`.
        """
        return self._encoded(self._network(vectors).reader.rows(texts), vectors)

    def compute(self, prepared: Sequence[Prepared]) -> list[np.ndarray]:
        """The scores (`Task.scores`) or vectors of several prepared sets of texts, in joint batches: the second step.

        Args:
          prepared: one or more.

        Returns:
          For each of them [n, ...] float32, one entry an example, or a token where tokens are scored.
        """
        groups: dict[Any, list[int]] = {}
        for i, part in enumerate(prepared):
            groups.setdefault((part.vectors, part.examples.kind), []).append(i)
        computed: list[Any] = [None] * len(prepared)
        for (vectors, _), members in groups.items():
            network = self._network(vectors)
            for i, scores in zip(members, network.scores([prepared[i].examples for i in members]), strict=True):
                computed[i] = scores
        return computed

    def answer(
        self, prepared: Prepared, scores: np.ndarray, options: AnswerOptions = _EVERY_ANSWER
    ) -> list[Prediction]:
        """Postprocesses scores to answers: the last step.

        Args:
          prepared: the texts.
          scores: of their examples, as `compute` returns them.
          options: what is asked of the answers; see `check_options`.
        """
        return self._loaded.answers(scores, prepared.rows, prepared.examples, options)

    def _computed(self, chunks: Iterable[Rows], vectors: bool = False) -> Iterator[tuple[Prepared, np.ndarray]]:
        """Chunks of rows, encoded in one thread and computed in another, a few chunks ahead."""
        encoded = prefetched((self._encoded(rows, vectors) for rows in chunks), depth=1)
        return prefetched(((prepared, self.compute([prepared])[0]) for prepared in encoded), depth=1)

    def _encoded(self, rows: Rows, vectors: bool = False) -> Prepared:
        return Prepared(rows, self._network(vectors).encode(rows), vectors)

    def _network(self, vectors: bool = False) -> ReadoutNetwork:
        """The network as it is read for answers, or for vectors.

        Raises:
          ConfigError: the model gives none.
        """
        if not vectors:
            find_postprocess(self.model.task)
            assert self._answers is not None, "made where there is a postprocess"
            return self._answers
        find_vectors(self.model.task)
        assert self._vectors is not None, "made where there are vectors"
        if not self._loaded.pooling_known:
            raise ConfigError(
                "the model was saved without saying how its vectors are pooled; give pooling: mean (most sentence "
                "encoders), cls or pooler"
            )
        return self._vectors


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """The items in lists of `_CHUNK`, the last one perhaps shorter."""
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, _CHUNK)), [])
