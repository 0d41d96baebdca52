"""Examples to scores on all devices: every example packed, computed once, and put back in the order it came in."""

from collections import deque
from collections.abc import Callable
from contextlib import closing
from threading import Lock
from typing import Any

import jax
import numpy as np

from bertjax.batch import Batch, LabelKind, LabelsOf, empty_batch
from bertjax.config import Execution
from bertjax.data.batching.collate import PackedBatch
from bertjax.data.batching.packing import Layout
from bertjax.data.batching.prefetch import prefetched
from bertjax.data.encode.examples import Examples
from bertjax.devices.data_parallel import Devices
from bertjax.devices.made_once import made_once
from bertjax.devices.program_store import Compiled, mapped_program
from bertjax.model.heads import BertOutput
from bertjax.model.inputs import check_batch
from bertjax.model.precision import in_32_bits
from bertjax.prediction.batcher import Batcher, one_shape_batches
from bertjax.tasks import Model, Params, find_task

# Without XLA's library of fused operations, whose matrix products are slower: 6 to 13% less processor time
# for MiniLM-L6 on 2 busy cores.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}

# XLA's usual order of operations runs all conversions first, so that every int8 weight is a float at one time: 42.7 MB
# of MiniLM-L6's, and a quarter of the speed for one text. This order has 3 MB.
_INT8_CPU_OPTIONS = {**_CPU_OPTIONS, "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}

_IN_FLIGHT = 3  # batches that are being computed, or wait for it

Scores = Callable[[BertOutput, Batch], Any]
"""(output, batch) -> what is read of it, such as logits [B, E, L]."""


class Forward:
    """The forward pass of a model, without dropout, on all devices; several threads may call it.

    It compiles when it meets a new shape, once, whichever threads ask for it, unless a network of the same settings has
    met that shape before (`program_store`).

    Attributes:
      computed_tokens: of all batches so far, with their padding.
    """

    def __init__(self, devices: Devices, model: Model, scores: Scores | None = None):
        """Compiles nothing yet.

        Args:
          devices: where it runs.
          model: the network.
          scores: what it computes; default: the scores of the model's task (`Task.scores`).
        """
        self.devices = devices
        self._model = model
        self._options = xla_options(model.config.execution, devices.platform)
        self._forward = _forward(model.apply, scores or find_task(model.task).scores)
        self._programs: dict[tuple[tuple[int, ...], ...], Compiled] = {}
        self._lock = Lock()
        self.computed_tokens = 0

    def __call__(self, params: Params, batch: Batch) -> Any:
        """(placed parameters, batch) -> the scores of all rows, such as logits [B, E, L]."""
        check_batch(self._model.config, batch)  # compiled code cannot
        dealt = self.devices.deal(batch)
        with self._lock:
            self.computed_tokens += batch.token_ids.size
        return self.devices.collect(self.of_rows(params, dealt))

    def of_rows(self, params: Params, dealt: Batch) -> Any:
        """(placed parameters, rows of a checked batch on their devices) -> the scores, each row's where it lies."""
        return self._program(params, dealt)(params, dealt)

    def compile(self, params: Params, layout: Layout, kind: LabelKind) -> None:
        """Compiles for a shape of batches, unless it is compiled already.

        Args:
          params: placed.
          layout: the shape.
          kind: of the labels (`Examples.kind`).
        """
        self(params, empty_batch(*layout, kind))  # which also compiles what collects its rows

    @property
    def num_compiled(self) -> int:
        """Shapes that it has programs for."""
        return len(self._programs)

    def _program(self, params: Params, dealt: Batch) -> Compiled:
        """The compiled program of a dealt batch's shape, which is kept as long as this object is."""
        shape = tuple(leaf.shape for leaf in jax.tree.leaves(dealt))
        program = self._programs.get(shape)
        if program is None:
            program = mapped_program(self.devices, self._forward, (params, dealt), summed=False, options=self._options)
            self._programs[shape] = program
        return program


def xla_options(execution: Execution, platform: str) -> dict[str, str]:
    """The options of XLA that the forward pass is compiled with."""
    if platform != "cpu":
        return {}
    return _INT8_CPU_OPTIONS if execution.weights == "int8" else _CPU_OPTIONS


@made_once
def _forward(apply: Callable[..., BertOutput], scores: Scores) -> Callable[[Params, Batch], Any]:
    @in_32_bits()
    def forward(params: Params, batch: Batch) -> Any:
        return scores(apply(params, None, batch, deterministic=True), batch)

    return forward


def predict(
    forward: Callable[[Batch], Any],
    num_devices: int,
    task: str,
    examples: Examples,
    batcher: Batcher = one_shape_batches,
    scores_of: LabelsOf | None = None,
) -> np.ndarray:
    """The scores of every example, in the order of `examples`.

    Args:
      forward: a batch -> its scores, such as [B, E, L].
      num_devices: the rows of a batch are a multiple of it.
      task: says what the scores are of; their shape does not, as a row may have as many slots as tokens.
      examples: one or more.
      batcher: makes batches of them.
      scores_of: the axis that the scores lie on, where they are not those of the task.

    Returns:
      [N, ...] float32 where scores are of examples, [total tokens, ...] where they are of tokens.
    """
    of_tokens = (scores_of or find_task(task).scores_of) == "tokens"
    scores: np.ndarray | None = None

    def place(packed_batch: PackedBatch, computed: Any) -> None:
        nonlocal scores
        values = np.asarray(jax.device_get(computed))
        ids = packed_batch.token_sources(examples.offsets) if of_tokens else packed_batch.example_ids
        if scores is None:
            total = examples.offsets[-1] if of_tokens else examples.num_examples
            scores = np.empty((total, *values.shape[2:]), np.float32)
        scores[ids[ids >= 0]] = values[ids >= 0]

    # Batches are made while others are computed, and results are read late, so that a device never waits for the host.
    computing: deque[tuple[PackedBatch, Any]] = deque()
    with closing(prefetched(batcher(examples, num_devices))) as batches:
        for packed_batch in batches:
            computing.append((packed_batch, forward(packed_batch.batch)))
            if len(computing) == _IN_FLIGHT:
                place(*computing.popleft())
    for packed_batch, computed in computing:
        place(packed_batch, computed)
    assert scores is not None, "there is at least one example"
    return scores
