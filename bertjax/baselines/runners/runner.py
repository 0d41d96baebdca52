"""What a runner gets and returns. Each framework is a file `run_*.py` with `run(job) -> RunnerOutput`.

All runners get the same prepared input: texts, order of examples, initial parameters (the head included), settings and
seed.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bertjax.batch import Batch
from bertjax.tasks import Params
from bertjax.training.run.prepare import Prepared
from bertjax.training.settings.finetune_config import FineTuneConfig


class RunnerInput(NamedTuple):
    """The job of a runner: train on `prepared.train` from `prepared.params`, with the settings of `config`.

    Attributes:
      framework: a row of `FRAMEWORKS`; one file may serve several.
      config: the settings.
      prepared: the rows, the network and its initial parameters.
      out: folder of the comparison, for a framework that loads what another one has trained.
    """

    framework: str
    config: FineTuneConfig
    prepared: Prepared
    out: Path


class TrainingSpeed(NamedTuple):
    """Times and counts of a training.

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


class RunnerOutput(NamedTuple):
    """What a runner returns.

    Attributes:
      losses: of every update, each before it was made; empty where nothing is trained.
      speed: of the training; None where nothing is trained.
      params: the trained parameters in bertjax's layout, on the host.
      predict: batch on the host -> logits of the trained parameters, in the batch's layout.
      num_devices: the rows of such a batch must be a multiple of it.
      device: name of the device.
      device_peak_bytes: most memory held on an accelerator; None without one.
    """

    losses: list[float]
    speed: TrainingSpeed | None
    params: Params
    predict: Callable[[Batch], Any]
    num_devices: int
    device: str
    device_peak_bytes: int | None = None


class StepTimer:
    """Records time and loss of every update, from the moment of its construction."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self._started = self._first = self._last = time.perf_counter()
        self._examples = self._real_tokens = self._computed_tokens = 0

    def lap(self, loss: float, examples: int, real_tokens: int, computed_tokens: int) -> None:
        """Records the end of an update."""
        self._last = time.perf_counter()
        if not self.losses:
            self._first = self._last
        else:
            self._examples += examples
            self._real_tokens += real_tokens
            self._computed_tokens += computed_tokens
        self.losses.append(loss)

    @property
    def speed(self) -> TrainingSpeed:
        """The speed of the updates so far."""
        first, rest = self._first - self._started, self._last - self._first
        return TrainingSpeed(first, rest, self._examples, self._real_tokens, self._computed_tokens)
