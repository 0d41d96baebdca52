"""The forward pass: examples are packed, computed on all devices, and their scores returned in the original order."""

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

# Disables XLA's YNN fusions, whose matrix products are slower: 6 to 13% less processor time for MiniLM-L6 on 2 busy
# cores.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}

# XLA's default scheduler converts all int8 weights first, and holds them all as floats: 42.7 MB for MiniLM-L6, at a
# quarter of the speed for one text. This scheduler needs 3 MB.
_INT8_CPU_OPTIONS = {**_CPU_OPTIONS, "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}

_IN_FLIGHT = 3  # batches that are dispatched and not read yet

Scores = Callable[[BertOutput, Batch], Any]
"""(output, batch) -> the part of the output that is needed, such as logits [B, E, L]."""


class Forward:
    """The forward pass of a model, without dropout, on all devices; thread-safe.

    Each new batch shape is compiled once, unless another network of the same settings has compiled it already
    (`program_store`).

    Attributes:
      computed_tokens: tokens of all batches so far, padding included.
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
        """(replicated parameters, batch) -> the scores of all rows, such as logits [B, E, L]."""
        check_batch(self._model.config, batch)  # compiled code cannot
        dealt = self.devices.deal(batch)
        with self._lock:
            self.computed_tokens += batch.token_ids.size
        return self.devices.collect(self.of_rows(params, dealt))

    def of_rows(self, params: Params, dealt: Batch) -> Any:
        """(replicated parameters, rows of a checked batch on their devices) -> the scores, on the same devices."""
        return self._program(params, dealt)(params, dealt)

    def compile(self, params: Params, layout: Layout, kind: LabelKind) -> None:
        """Compiles for a batch shape, unless it is compiled already.

        Args:
          params: replicated on the devices.
          layout: the shape.
          kind: of the labels (`Examples.kind`).
        """
        self(params, empty_batch(*layout, kind))  # a call also compiles the collection of its rows

    @property
    def num_compiled(self) -> int:
        """Number of batch shapes that it has programs for."""
        return len(self._programs)

    def _program(self, params: Params, dealt: Batch) -> Compiled:
        """The program for the shape of a batch, kept as long as this object."""
        shape = tuple(leaf.shape for leaf in jax.tree.leaves(dealt))
        program = self._programs.get(shape)
        if program is None:
            program = mapped_program(self.devices, self._forward, (params, dealt), summed=False, options=self._options)
            self._programs[shape] = program
        return program


def xla_options(execution: Execution, platform: str) -> dict[str, str]:
    """XLA options to compile the forward pass with."""
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
      forward: batch -> scores, such as [B, E, L].
      num_devices: the rows of a batch are a multiple of it.
      task: whether there is a score per example or per token; shapes do not tell, since E and T may be equal.
      examples: one or more.
      batcher: makes batches of them.
      scores_of: "examples" or "tokens", where this is not the task's.

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

    # Batches are made in another thread, and results are read a few batches late: the devices never wait for the host.
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
