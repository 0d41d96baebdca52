"""`Service`: what a server does, without HTTP: predict, evaluate, embed, and change the model."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from bertjax.config import Execution
from bertjax.errors import UserError
from bertjax.inference.loaded_model import LoadedModel
from bertjax.inference.predictor import Text
from bertjax.inference.service.limits import ServiceSettings
from bertjax.inference.service.model_slot import ModelSlot, ServedModel, split_prepared
from bertjax.inference.service.request_batcher import BatchLimits, QueueFull
from bertjax.inference.service.service_metrics import ServiceMetrics
from bertjax.tasks.postprocess import AnswerOptions, Prediction

T = TypeVar("T")
Rule = Callable[[list[Prediction], Sequence[Text]], list[Prediction]]
"""(predictions, the texts they are of) -> what is answered in their place."""


class TooMuch(UserError):
    """A request with more or longer texts than a server takes."""


class NotReady(RuntimeError):
    """The first model is still being loaded, or the server is about to end."""


class OutOfTime(RuntimeError):
    """A request was not answered in time."""


class Service:
    """A model that answers requests of many clients.

    Attributes:
      slot: the model in service.
      settings: its limits.
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
          addresses: names -> where each model is; the first one is put in service by `start`.
          settings: limits.
          rule: what has the last word on predictions.
          execution: how to run the networks.
        """
        self.settings, self.metrics = settings, ServiceMetrics()
        limits = BatchLimits(settings.batch_wait_ms / 1000, settings.batch_tokens, settings.queue_tokens)
        self.slot = ModelSlot(addresses, limits, self.metrics.observe_batch, execution)
        self._rule = rule
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="texts")
        self._texts = 0
        self._is_closing = False

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered."""
        return self.slot.current is not None and not self._is_closing

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
        self._is_closing = True

    async def predict(self, model: ServedModel, texts: Sequence[Text], options: AnswerOptions) -> list[Prediction]:
        """The answer to each text.

        Args:
          model: as `model()` gave it at the beginning of the request.
          texts: one or more.
          options: what is asked of the answers.

        Raises:
          UserError: something that the model cannot read.
          QueueFull, OutOfTime: the request may come again later.
          ComputeFailed: the model failed.
        """
        check_size(texts, self.settings)

        async def answers() -> list[Prediction]:
            started = time.perf_counter()
            prepared = await self._in_thread(model.predictor.prepare, texts)
            self.metrics.tokenizing_seconds.observe(time.perf_counter() - started)
            parts = await model.scores.submit(split_prepared(prepared, self.settings.batch_tokens))
            scores = parts[0] if len(parts) == 1 else np.concatenate(parts)
            return await self._in_thread(lambda: self._ruled(model.predictor.answer(prepared, scores, options), texts))

        return await self._limited(len(texts), answers())

    async def embed(self, model: ServedModel, texts: Sequence[str]) -> np.ndarray:
        """A vector for each text: float32 [N, D].

        Raises:
          UserError, QueueFull, OutOfTime, ComputeFailed: as `predict`.
        """
        check_size(texts, self.settings)

        async def vectors() -> np.ndarray:
            return np.concatenate(await model.vectors.submit([texts]))

        return await self._limited(len(texts), vectors())

    def _ruled(self, predictions: list[Prediction], texts: Sequence[Text]) -> list[Prediction]:
        return predictions if self._rule is None else self._rule(predictions, texts)

    def model(self) -> ServedModel:
        """The model in service.

        Raises:
          NotReady: there is none yet, or the server is about to end.
        """
        if self._is_closing:
            raise NotReady("the server is about to end")
        if self.slot.current is None:
            raise NotReady("the model is being loaded")
        return self.slot.current

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _limited(self, num_texts: int, answer: Awaitable[T]) -> T:
        """What a request waits for, within the limits on texts and time."""
        if self._texts and self._texts + num_texts > self.settings.queue_texts:
            raise QueueFull(f"{self._texts} texts wait")
        self._texts += num_texts
        self.metrics.texts.set(self._texts)
        try:
            async with asyncio.timeout(self.settings.time_limit_seconds):
                return await answer
        except TimeoutError:
            seconds = self.settings.time_limit_seconds
            raise OutOfTime(f"the request was not answered within {seconds:g} seconds") from None
        finally:
            self._texts -= num_texts
            self.metrics.texts.set(self._texts)


def check_size(texts: Sequence[Text], settings: ServiceSettings) -> None:
    """Checks how many and how long the texts of a request are.

    Raises:
      TooMuch: too many, or one that is too long.
    """
    if len(texts) > settings.max_texts:
        raise TooMuch(f"the request has {len(texts)} texts; the most is {settings.max_texts}")
    for number, text in enumerate(texts, start=1):
        if (length := _length(text)) > settings.max_text_chars:
            raise TooMuch(f"text {number} has {length} characters; the most is {settings.max_text_chars}")


def _length(text: Any) -> int:
    """Characters of a text, a pair or a row."""
    if isinstance(text, str):
        return len(text)
    parts = text.values() if isinstance(text, Mapping) else text if isinstance(text, list | tuple) else ()
    return sum(map(_length, parts))
