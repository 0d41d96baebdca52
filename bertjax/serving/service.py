"""`Service`: what a server does, without HTTP: predict, evaluate, embed, and change the model."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from bertjax.config import Execution
from bertjax.data.rows.labelled_rows import Rows
from bertjax.errors import ConfigError, DataError, UserError, first_line
from bertjax.evaluation.evaluate_table import encode_records
from bertjax.inference.explanations.explain_options import ExplainOptions
from bertjax.inference.loaded_model import LoadedModel
from bertjax.inference.predictor import Predictor, Prepared, Text
from bertjax.metrics.reports import Report
from bertjax.serving.limits import ServiceSettings
from bertjax.serving.model_slot import ModelSlot, ServedModel, split_prepared
from bertjax.serving.request_batcher import BatchLimits, ComputeFailed, QueueFull
from bertjax.serving.service_metrics import ServiceMetrics
from bertjax.tasks import find_task
from bertjax.tasks.postprocess import AnswerOptions, Prediction

_TEXTS_OF_AN_EXPLANATION = 64  # that take as long to compute

_EXPLANATION = ("method", "label", "explained", "words", "gap", "cut_words")  # of an answer's explanation

T = TypeVar("T")
Rule = Callable[[list[Prediction], Sequence[Text]], list[Prediction]]
"""(predictions, what each was said of) -> the predictions that are answered."""


class TooMuch(UserError):
    """A request with more or longer texts than a service takes."""


class NotServed(UserError):
    """Something that the model in service does not do."""


class NotReady(RuntimeError):
    """There is no model yet, or the service is about to end."""


class OutOfTime(RuntimeError):
    """A request could not be answered in time."""


class Service:
    """A model that answers the requests of many clients. It belongs to one event loop.

    Attributes:
      slot: the model in service.
      settings: the service's limits.
      metrics: what it counts.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        settings: ServiceSettings,
        rule: Rule | None = None,
        execution: Execution | None = None,
    ):
        """Loads nothing yet; see `start`.

        Args:
          addresses: names -> where each model is; `start` puts the first one in service.
          settings: limits.
          rule: has the last word on predictions.
          execution: how to run the networks.
        """
        self.settings, self.metrics = settings, ServiceMetrics()
        limits = BatchLimits(settings.batch_wait_ms / 1000, settings.batch_tokens, settings.queue_tokens)
        self.slot = ModelSlot(addresses, limits, self.metrics, self._check, settings.embed, settings.pooling, execution)
        self._rule = rule
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="texts")
        self._explaining = ThreadPoolExecutor(1, thread_name_prefix="explanations")
        self._texts = 0
        self._is_closing = False

    async def start(self, loaded: LoadedModel | None = None) -> None:
        """Puts the first model in service.

        Args:
          loaded: the model, where it has been read already.

        Raises:
          UserError: it cannot be used.
        """
        await self.slot.put(next(iter(self.slot.addresses)), loaded)

    def close(self) -> None:
        """Takes no more requests; those on their way are answered."""
        if self._is_closing:
            return
        self._is_closing = True
        self.slot.close()
        self.metrics.close()
        self._threads.shutdown(wait=False)
        self._explaining.shutdown(wait=False)

    def model(self) -> ServedModel:
        """The model in service.

        Raises:
          NotReady: there is none.
        """
        if self._is_closing:
            raise NotReady("the server is about to end")
        if self.slot.current is None:
            raise NotReady("the model is not ready yet")
        return self.slot.current

    def measured(self) -> bytes:
        """The metrics in Prometheus' text format."""
        if (model := self.slot.current) is not None:
            self.metrics.queue_tokens.set(model.batcher.waiting_tokens)
        return self.metrics.exposition()

    async def predict(
        self, model: ServedModel, texts: Sequence[Text], options: AnswerOptions, explain: bool = False
    ) -> list[Prediction]:
        """The answer to each text.

        Args:
          model: as `model` gave it at the beginning of the request.
          texts: texts, pairs or rows; one or more.
          options: what is asked of the answers.
          explain: whether each answer has its `explanation`.

        Raises:
          UserError: something that the model cannot read or answer.
          QueueFull, OutOfTime: the request may come again later.
          ComputeFailed: the model, or the rule, failed.
        """
        check_texts(texts, self.settings)
        options = self._with_defaults(options)
        model.predictor.check_options(options)
        if explain:
            self._check_explained(model, len(texts))

        async def answers() -> list[Prediction]:
            prepared = await self._tokenized(model.predictor.prepare, texts)
            scores = await self._scores(model, prepared)
            said = await self._in_thread(model.predictor.answer, prepared, scores, options)
            ruled = await self._in_thread(self._ruled, said, texts)
            return [
                {**answer, "explanation": await self._explanation(model, prepared.rows.take([i]), said[i])}
                for i, answer in enumerate(ruled)
            ] if explain else ruled  # fmt: skip

        return await self._limited(len(texts) * (_TEXTS_OF_AN_EXPLANATION if explain else 1), answers())

    def _check_explained(self, model: ServedModel, num_texts: int) -> None:
        """Raises a `NotServed` or `TooMuch` where texts are not explained."""
        try:
            model.predictor.check_explained(ExplainOptions())
        except ConfigError as error:
            raise NotServed(str(error)) from None
        if num_texts > self.settings.max_explained:
            raise TooMuch(
                f"the request asks to explain {num_texts} texts; the most is {self.settings.max_explained}, as each "
                f"takes as long as dozens of answers"
            )

    async def _explanation(self, model: ServedModel, rows: Rows, answer: Prediction) -> dict[str, Any]:
        """Of one text at a time, so that what is computed ends soon after its request does."""
        explain = model.predictor.explain_answers
        (found,) = await asyncio.get_running_loop().run_in_executor(self._explaining, explain, rows, [answer])
        return {key: value for key, value in found.to_json().items() if key in _EXPLANATION}

    async def evaluate(self, model: ServedModel, records: Sequence[Mapping[str, Any]]) -> tuple[Report, int]:
        """How predictions compare with the labels of rows: the report, and how many rows it is of.

        Args:
          model: as `model` gave it at the beginning of the request.
          records: the cells of each row by column, the label among them; one or more.

        Raises:
          UserError, QueueFull, OutOfTime, ComputeFailed: as `predict`.
        """
        check_texts(records, self.settings)
        task = find_task(model.predictor.model.task)
        if task.evaluator is None or task.postprocess is None or task.postprocess.readout is not None:
            raise NotServed(f"a server does not evaluate models of task {model.predictor.model.task!r}")

        async def report() -> tuple[Report, int]:
            rows, examples = await self._tokenized(encode_records, model.loaded, records, "the body")
            scores = await self._scores(model, Prepared(rows, examples))
            return await self._in_thread(model.loaded.report, scores, examples), len(rows.texts)

        return await self._limited(len(records), report())

    async def embed(self, model: ServedModel, texts: Sequence[Text]) -> np.ndarray:
        """A vector of length 1 for each text: float32 [N, D].

        Raises:
          NotServed: the model gives no vectors.
          UserError, QueueFull, OutOfTime, ComputeFailed: as `predict`.
        """
        check_texts(texts, self.settings)
        if not model.gives_vectors:
            hint = "; the server gives them if it is started with --embed" if model.predictor.has_vectors else ""
            raise NotServed(f"the model in service gives no vectors{hint}")

        async def vectors() -> np.ndarray:
            return await self._scores(model, await self._tokenized(model.predictor.prepare, texts, True))

        return await self._limited(len(texts), vectors())

    def _check(self, predictor: Predictor) -> None:
        """Raises a UserError where the service's default options mean nothing for a model."""
        if self.settings.threshold is not None:
            predictor.check_options(AnswerOptions(threshold=self.settings.threshold))

    def _with_defaults(self, options: AnswerOptions) -> AnswerOptions:
        threshold = self.settings.threshold if options.threshold is None else options.threshold
        if self._rule is not None and options.threshold is not None:
            raise DataError("the server decides by a rule of its own; leave out threshold")
        return AnswerOptions(options.top_k, threshold)

    def _ruled(self, predictions: list[Prediction], texts: Sequence[Text]) -> list[Prediction]:
        if self._rule is None:
            return predictions
        try:
            return self._rule(predictions, texts)
        except Exception as error:
            raise ComputeFailed(f"the server's rule failed: {first_line(error)}") from error

    async def _tokenized(self, function: Callable[..., T], *arguments: Any) -> T:
        started = time.perf_counter()
        tokenized = await self._in_thread(function, *arguments)
        self.metrics.tokenizing_seconds.observe(time.perf_counter() - started)
        return tokenized

    async def _scores(self, model: ServedModel, prepared: Prepared) -> np.ndarray:
        parts = await model.batcher.submit(split_prepared(prepared, self.settings.batch_tokens))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _limited(self, num_texts: int, answer: Coroutine[Any, Any, T]) -> T:
        """What a request waits for, within the limits on texts and time.

        Raises:
          QueueFull, OutOfTime: it is beyond them.
        """
        if self._texts and self._texts + num_texts > self.settings.queue_texts:
            answer.close()
            raise QueueFull(f"{self._texts} texts are on their way; try again later")
        self._count_texts(num_texts)
        try:
            async with asyncio.timeout(self.settings.time_limit_seconds):
                return await answer
        except TimeoutError:
            seconds = self.settings.time_limit_seconds
            raise OutOfTime(f"the answer was not ready within {seconds:g} seconds; try again later") from None
        finally:
            self._count_texts(-num_texts)

    def _count_texts(self, change: int) -> None:
        self._texts += change
        self.metrics.texts.set(self._texts)


def check_texts(texts: Sequence[Text], settings: ServiceSettings) -> None:
    """Checks how many and how long the texts of a request are, and that there is something in them.

    Raises:
      TooMuch: too many, or one that is too long.
      DataError: an empty one.
    """
    if len(texts) > settings.max_texts:
        raise TooMuch(f"the request has {len(texts)} texts; the most is {settings.max_texts}")
    for number, text in enumerate(texts, start=1):
        if (length := _length(text)) > settings.max_text_chars:
            raise TooMuch(f"text {number} has {length} characters; the most is {settings.max_text_chars}")
        parts = [text] if isinstance(text, str) else text if isinstance(text, tuple) else []
        if not all(part.strip() for part in parts if isinstance(part, str)):
            raise DataError(f"text {number} is empty")


def _length(text: Any) -> int:
    """Characters of a text, of a pair or of a row's cells."""
    if isinstance(text, str):
        return len(text)
    parts = text.values() if isinstance(text, Mapping) else text if isinstance(text, list | tuple) else ()
    return sum(map(_length, parts))
