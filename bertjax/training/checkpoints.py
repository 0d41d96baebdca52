"""Checkpoints of a run with Orbax: the training state and how far the run has come, saved as one, restored strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from bertjax.errors import CheckpointError
from bertjax.training.step import TrainState


class Checkpoints:
    """The newest state of a run in a folder.

    A save copies the state and returns; writing goes on behind training. Orbax makes each save visible in one step, so
    a run that is killed while it saves still has the one before.
    """

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: Any) -> None:
        """Waits for the last save."""
        self._manager.wait_until_finished()
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, or None where there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, progress: Mapping[str, Any]) -> None:
        """Saves the state after `state.step` updates, and a JSON value beside it."""
        # A copy: the next step gives these buffers up while they are still being written.
        on_host = jax.tree.map(np.array, state)
        self._manager.wait_until_finished()
        self._manager.save(
            int(on_host.step),
            args=ocp.args.Composite(state=ocp.args.StandardSave(on_host), progress=ocp.args.JsonSave(dict(progress))),
        )

    def restore(self, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest checkpoint, as host arrays.

        Args:
          template: a state of the same structure; Orbax checks every shape and dtype against it.

        Raises:
          CheckpointError: there is none, or it belongs to another network or optimizer.
        """
        if self.latest_step is None:
            raise CheckpointError("there is no checkpoint to resume from; start the run again with --overwrite")
        abstract = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), template)
        try:
            restored = self._manager.restore(
                self.latest_step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), progress=ocp.args.JsonRestore()),
            )
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"the checkpoint does not fit this run: {str(error).splitlines()[0]}") from None
        return restored.state, restored.progress
