"""Examples to scores on all devices: every example packed, computed once, and put back in the order it came in."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bertjax.batch import Batch
from bertjax.data.encode.examples import Examples
from bertjax.model.inputs import check_batch
from bertjax.model.precision import in_32_bits
from bertjax.prediction.batcher import Batcher, one_shape_batches
from bertjax.prediction.devices import Devices
from bertjax.tasks import Model, Params, find_task


class Forward:
    """The forward pass of a model, without dropout, on all devices; it compiles when it meets a new shape."""

    def __init__(self, devices: Devices, model: Model):
        self.devices = devices
        self._model = model
        self._compiled: dict[tuple[tuple[int, ...], ...], Callable[..., Any]] = {}

    def __call__(self, params: Params, batch: Batch) -> Any:
        """(placed parameters, batch) -> the scores of all rows (`Task.scores`), such as logits [B, E, L]."""
        check_batch(self._model.config, batch)  # compiled code cannot
        dealt = self.devices.deal(batch)
        shape = tuple(leaf.shape for leaf in jax.tree.leaves(batch))
        if shape not in self._compiled:
            forward = self.devices.map(_forward(self._model), summed=False)
            self._compiled[shape] = forward.lower(params, dealt).compile()
        return self.devices.collect(self._compiled[shape](params, dealt))


def _forward(model: Model) -> Callable[[Params, Batch], Any]:
    scores = find_task(model.task).scores

    @in_32_bits()
    def forward(params: Params, batch: Batch) -> Any:
        return scores(model.apply(params, None, batch, deterministic=True), batch)

    return forward


def predict(
    forward: Callable[[Batch], Any],
    num_devices: int,
    task: str,
    examples: Examples,
    batcher: Batcher = one_shape_batches,
) -> np.ndarray:
    """The scores of every example, in the order of `examples`.

    Args:
      forward: a batch -> its scores (`Task.scores`), such as [B, E, L].
      num_devices: the rows of a batch are a multiple of it.
      task: says what the scores are of; their shape does not, as a row may have as many slots as tokens.
      examples: one or more.
      batcher: makes batches of them.

    Returns:
      [N, ...] float32 where scores are of examples, [total tokens, ...] where they are of tokens.
    """
    of_tokens = find_task(task).scores_of == "tokens"
    scores: np.ndarray | None = None
    for packed_batch in batcher(examples, num_devices):
        computed = np.asarray(jax.device_get(forward(packed_batch.batch)))
        ids = packed_batch.token_sources(examples.offsets) if of_tokens else packed_batch.example_ids
        if scores is None:
            total = examples.offsets[-1] if of_tokens else examples.num_examples
            scores = np.empty((total, *computed.shape[2:]), np.float32)
        scores[ids[ids >= 0]] = computed[ids >= 0]
    assert scores is not None, "there is at least one example"
    return scores
