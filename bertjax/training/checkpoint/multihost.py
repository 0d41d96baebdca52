"""Checkpoints with several processes: the first one writes and reads them, and broadcasts what it reads.

The state is replicated, so nothing is gathered for a save, and only the first process needs access to the folder.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from bertjax.devices.data_parallel import from_first_process, is_first_process, text_from_first_process
from bertjax.errors import CheckpointError
from bertjax.training.checkpoint.checkpoints import Checkpoints, Restored
from bertjax.training.optim.trained_words import as_saved, trained_words
from bertjax.training.train_state import TrainState


class SharedCheckpoints:
    """`Checkpoints` in the first process; the others receive what it reads."""

    def __init__(self, open_folder: Callable[[], Checkpoints]):
        """Calls `open_folder` in the first process."""
        self._own = open_folder() if is_first_process() else None

    def __enter__(self) -> "SharedCheckpoints":
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._own is not None:
            self._own.__exit__(*exception)

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint; None where there is none, and in the other processes."""
        return None if self._own is None else self._own.latest_step

    def wait(self) -> None:
        """See `Checkpoints.wait`."""
        if self._own is not None:
            self._own.wait()

    def save(
        self, state: TrainState, progress: Mapping[str, Any], best_step: int | None = None, *, stays: bool = False
    ) -> None:
        """See `Checkpoints.save`."""
        if self._own is not None:
            self._own.save(state, progress, best_step, stays=stays)

    def restore(self, template: TrainState) -> Restored:
        """See `Checkpoints.restore`."""
        return self._broadcast(template, lambda own: own.restore(template))

    def restore_step(self, step: int, template: TrainState) -> Restored:
        """See `Checkpoints.restore_step`."""
        return self._broadcast(template, lambda own: own.restore_step(step, template))

    def _broadcast(self, template: TrainState, read: Callable[[Checkpoints], Restored]) -> Restored:
        """What the first process reads, or the error that it meets, in all processes."""
        restored, problem = Restored(template, {}, {}), ""
        if self._own is not None:
            try:
                restored = read(self._own)
            except CheckpointError as error:
                problem = str(error)
        problem = text_from_first_process(problem)
        if problem:
            raise CheckpointError(problem)
        facts = [trained_words(restored.state.opt_state), restored.progress, restored.fingerprints]
        words, *values = json.loads(text_from_first_process(json.dumps(facts)))
        return Restored(from_first_process(as_saved(restored.state, words)), *values)
