"""The forward pass on all devices, compiled once for each batch shape."""

from collections.abc import Callable
from typing import Any

import jax

from bertjax.batch import Batch
from bertjax.model.inputs import check_batch
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
    return lambda params, batch: scores(model.apply(params, None, batch, deterministic=True), batch)
