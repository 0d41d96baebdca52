"""Counters and history of a run, saved with each checkpoint so that a resumed run continues them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bertjax.data.batching.collate import PackedBatch
from bertjax.training.loop.early_stopping import VALIDATION, BestSoFar

_BEST_SO_FAR = "standing"  # its key in checkpoints, since format 1


@dataclass
class TrainMetrics:
    """Counters and history of a run, updated in place by the callbacks.

    Attributes:
      examples, real_tokens, computed_tokens: trained on so far; computed tokens include padding.
      token_pairs: pairs of real tokens that attended to each other so far.
      seconds: time spent in training steps, without evaluations and saves.
      wait_seconds: the part of it spent waiting for batches.
      epoch_loss_sum, epoch_examples: sum of the losses of the current epoch's examples, and their number.
      history: a row of metrics for each finished epoch and each evaluation.
      history_steps: the step of each row.
      skipped_steps: steps skipped because their loss or gradient was not finite.
      skipped_in_a_row: consecutive skipped steps, up to the last step.
      best_so_far: the best evaluation.
      stopped_early: whether the patience was exhausted.
      steps_per_epoch: of the run's plan; 0 in checkpoints of versions that did not record it.
      step_offset: steps done minus steps of the plan. Not 0 if a run was resumed with epochs of another length: its
        steps count the updates that were done, its plan those of the current epochs.
    """

    examples: int = 0
    real_tokens: int = 0
    computed_tokens: int = 0
    token_pairs: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    epoch_loss_sum: float = 0.0
    epoch_examples: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    history_steps: list[int] = field(default_factory=list)
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    best_so_far: BestSoFar = field(default_factory=BestSoFar)
    stopped_early: bool = False
    steps_per_epoch: int = 0
    step_offset: int = 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainMetrics":
        """The inverse of `to_json`."""
        values = dict(values)
        return cls(best_so_far=BestSoFar(**values.pop(_BEST_SO_FAR)), **values)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as checkpoints store them."""
        values = asdict(self)
        return values | {_BEST_SO_FAR: values.pop("best_so_far")}

    def count(self, packed_batch: PackedBatch, seconds: float) -> None:
        """Counts a step and its duration, including the wait for its batch."""
        self.examples += packed_batch.num_examples
        self.real_tokens += packed_batch.num_tokens
        self.computed_tokens += packed_batch.batch.token_ids.size
        batch = packed_batch.batch
        # An example of n tokens has n^2 pairs, the sum of the first n odd numbers.
        self.token_pairs += int((2 * batch.position_ids.astype(np.int64) + 1)[batch.segment_ids > 0].sum())
        self.seconds += seconds

    def count_loss(self, loss: float, num_examples: int) -> None:
        """Counts the mean loss of a step's examples."""
        self.skipped_in_a_row = 0
        self.epoch_loss_sum += loss * num_examples
        self.epoch_examples += num_examples

    def count_skipped(self) -> None:
        """Counts a skipped step; its loss is left out of the epoch's."""
        self.skipped_in_a_row += 1
        self.skipped_steps += 1

    def end_epoch(self) -> float:
        """Begins the next epoch, and returns the mean loss of this one's examples; NaN if every step was skipped."""
        mean = self.epoch_loss_sum / self.epoch_examples if self.epoch_examples else math.nan
        self.epoch_loss_sum, self.epoch_examples = 0.0, 0
        return mean

    @property
    def train_loss(self) -> float:
        """The mean loss of the last finished epoch, or of the first one so far."""
        finished = [row["epoch/train_loss"] for row in self.history if "epoch/train_loss" in row]
        return finished[-1] if finished else self.epoch_loss_sum / max(self.epoch_examples, 1)

    def add_row(self, step: int, row: dict[str, float]) -> None:
        """Adds a row to the history."""
        self.history.append(row)
        self.history_steps.append(step)

    def validation_at(self, step: int) -> dict[str, float]:
        """The validation metrics after that step; empty where there was no evaluation."""
        rows = (row for at, row in zip(self.history_steps, self.history, strict=True) if at == step)
        return {name: value for row in rows for name, value in row.items() if name.startswith(f"{VALIDATION}/")}

    @property
    def examples_per_second(self) -> float:
        """Training speed; 0 before the first step."""
        return self.examples / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Training speed in real tokens; 0 before the first step."""
        return self.real_tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def data_wait_share(self) -> float:
        """Share of the training time in which no batch was ready."""
        return self.wait_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def real_token_share(self) -> float:
        """Share of computed tokens that are not padding."""
        return self.real_tokens / max(self.computed_tokens, 1)
