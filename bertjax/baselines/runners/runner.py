"""A contestant: a framework that does one whole job, and what is measured of it.

Each framework is a file `run_*.py` with `run(job) -> Trained`. All get the same prepared input: texts, order of
examples, initial parameters (the head included), settings and seed.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bertjax.batch import Batch
from bertjax.tasks import Params
from bertjax.training.run.prepare import Prepared
from bertjax.training.settings.finetune_config import FineTuneConfig


class Job(NamedTuple):
    """What a contestant has to do: train on `prepared.train` from `prepared.params`, as the config says.

    Attributes:
      framework: its name; one file may serve several.
      out: folder of the comparison, for one that answers with what another has trained.
    """

    framework: str
    config: FineTuneConfig
    prepared: Prepared
    out: Path


class Speed(NamedTuple):
    """How fast a training went.

    Attributes:
      seconds_to_first_step: from the prepared input to the end of the first update: building, compiling, computing.
      seconds: of all updates after the first.
      examples, real_tokens, computed_tokens: of these updates; computed ones include padding.
    """

    seconds_to_first_step: float
    seconds: float
    examples: int
    real_tokens: int
    computed_tokens: int


class Trained(NamedTuple):
    """What a contestant leaves.

    Attributes:
      losses: of every update, each before it was made; empty where nothing is trained.
      speed: of the training, or None.
      params: trained, as bertjax has them, on the host.
      predict: a batch of the host -> logits in its layout, from the trained parameters.
      num_devices: the rows of such a batch must be a multiple of it.
      device: what computed, in words.
      device_peak_bytes: the most memory that was held on an accelerator, None without one.
    """

    losses: list[float]
    speed: Speed | None
    params: Params
    predict: Callable[[Batch], Any]
    num_devices: int
    device: str
    device_peak_bytes: int | None = None


class Stopwatch:
    """Takes the time and the loss of every update; it runs from the moment it is made."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self._started = self._first = self._last = time.perf_counter()
        self._examples = self._real_tokens = self._computed_tokens = 0

    def lap(self, loss: float, examples: int, real_tokens: int, computed_tokens: int) -> None:
        """An update is done."""
        self._last = time.perf_counter()
        if not self.losses:
            self._first = self._last
        else:
            self._examples += examples
            self._real_tokens += real_tokens
            self._computed_tokens += computed_tokens
        self.losses.append(loss)

    @property
    def speed(self) -> Speed:
        """Of the updates so far."""
        return Speed(
            self._first - self._started,
            self._last - self._first,
            self._examples,
            self._real_tokens,
            self._computed_tokens,
        )
