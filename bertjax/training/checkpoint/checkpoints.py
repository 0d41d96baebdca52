"""Checkpoints of a run with Orbax: the whole training state, saved atomically, restored strictly, checksums verified.

A checkpoint has two items. `state` holds the arrays. `run` is a JSON object: the version of the format, the identity of
the model (`belongs_to`), the fingerprints of the run (`made_from`), the shape of every array, and the metrics so far.
After saving, each item is read back, and the sizes and checksums of its files are recorded. Orbax makes a checkpoint
visible in one step, so a run that is killed while saving, or whose save cannot be read back, keeps the previous one.
"""

import errno
import json
import logging
import os
import shutil
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from orbax.checkpoint.checkpoint_managers import PolicyCheckpointInfo, PreservationContext
from orbax.checkpoint.options import MultiprocessingOptions

from bertjax.errors import CheckpointError
from bertjax.settings import differences
from bertjax.storage.plain_path import plain_path
from bertjax.training.optim.trained_words import as_saved, saved_words
from bertjax.training.settings.finetune_config import of_this_version
from bertjax.training.train_state import TrainState

logger = logging.getLogger(__name__)

FORMAT = 1
SEAL = "seal.json"
_MISMATCHES_SHOWN = 3
_BLOCK_BYTES = 1 << 22


class Restored(NamedTuple):
    """The host arrays of a checkpoint, the JSON object saved with them, and the fingerprints of the run."""

    state: TrainState
    progress: dict[str, Any]
    fingerprints: dict[str, Any]


class Checkpoints:
    """The states of a run in a folder: the newest few, and the best.

    A save copies the state, unless it stays as it is, and returns; a background thread writes it. A save that fails, on
    a full disk for example, is a warning: training continues, and the earlier checkpoints stay.
    """

    def __init__(
        self,
        folder: Path,
        model_identity: Mapping[str, Any],
        keep: int = 2,
        fingerprints: Mapping[str, Any] | None = None,
    ):
        """Opens or creates a folder, and deletes what a killed run left half-written in it.

        Args:
          model_identity: what a checkpoint must have been saved with to be restored here, as JSON values.
          keep: number of the newest checkpoints to keep, besides the best.
          fingerprints: settings and hashes of the run, saved with each checkpoint, as JSON values.
        """
        self._folder = Path(folder).absolute()
        self._model_identity, self._fingerprints = dict(model_identity), dict(fingerprints or {})
        self._policy = _NewestAndBest(keep)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._folder.mkdir(parents=True, exist_ok=True)
        self._open = ExitStack()
        self._manager = ocp.CheckpointManager(
            self._open.enter_context(plain_path(self._folder)),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._policy,
                cleanup_tmp_directories=True,
                enable_async_checkpointing=False,  # our own thread writes behind training
                create=False,
                multiprocessing_options=_single_process(),
            ),
            handler_registry=_handlers(),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: Any) -> None:
        """Waits for the last save."""
        self.wait()
        self._writer.shutdown()
        self._manager.close()
        self._open.close()

    @property
    def steps(self) -> list[int]:
        """The steps that have a complete checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, or None where there is none."""
        return self.steps[-1] if self.steps else None

    def wait(self) -> None:
        """Blocks until the last save is written, or has failed."""
        if self._writing is not None:
            self._writing.result()

    def save(
        self, state: TrainState, progress: Mapping[str, Any], best_step: int | None = None, *, stays: bool = False
    ) -> None:
        """Saves a state behind what the caller does next.

        Args:
          state: after `state.step` updates.
          progress: JSON values to save with it.
          best_step: kept besides the newest.
          stays: whether no later step is given its buffers, which are written where they are then.
        """
        self.wait()
        # A step would take the buffers while they are being written.
        on_host = jax.tree.map(np.asarray if stays else np.array, state)
        self._policy.best_step = best_step
        self._writing = self._writer.submit(self._write, on_host, dict(progress))

    def restore(self, template: TrainState) -> Restored:
        """The newest complete checkpoint; newer ones that are damaged are logged and deleted.

        Args:
          template: a state of the structure, shapes and dtypes to restore; moments of word embeddings are of those
            that the checkpoint has them of.

        Raises:
          CheckpointError: there is none, it belongs to another model, or a newer bertjax wrote it.
        """
        damaged: list[int] = []
        for step in reversed(self.steps):
            try:
                restored = self.restore_step(step, template)
            except _Damaged as damage:
                logger.warning("the checkpoint of step %d is damaged: %s", step, damage)
                damaged.append(step)
                continue
            if damaged:
                logger.warning("going back to the checkpoint of step %d", step)
            for newer in damaged:  # the run will save these steps again
                self._manager.delete(newer)
            return restored
        if damaged:
            raise CheckpointError("no checkpoint of the run can be read; start the run again with --overwrite")
        raise CheckpointError("there is no checkpoint to resume from; start the run again with --overwrite")

    def restore_step(self, step: int, template: TrainState) -> Restored:
        """The checkpoint of one step; errors as `restore`, and where it is damaged."""
        for item in ("run", "state"):
            _check_seal(self._folder / str(step) / item)
        run = self._read(step, run=ocp.args.JsonRestore()).run
        if run["format"] > FORMAT:
            raise CheckpointError(
                f"the checkpoint of step {step} has format {run['format']}, this bertjax reads up to {FORMAT}; update "
                f"bertjax, or start the run again with --overwrite"
            )
        if different := differences(run["belongs_to"], self._model_identity):
            raise CheckpointError(
                f"the checkpoint belongs to another run: {'; '.join(different)}; choose the --out of that run, or "
                f"start again with --overwrite"
            )
        template = as_saved(template, saved_words(run["arrays"]))
        _check_arrays(run["arrays"], _descriptions(template))
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), template)
        restore_args = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype), target)
        state = self._read(step, state=ocp.args.PyTreeRestore(target, restore_args)).state
        return Restored(state, run["progress"], of_this_version(run["made_from"]))

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax, TensorStore and the file system each raise errors of their own
            raise _Damaged(_first_line(error)) from error

    def _write(self, state: TrainState, progress: dict[str, Any]) -> None:
        step = int(state.step)
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        try:
            if shutil.disk_usage(self._folder).free < needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            run = {
                "format": FORMAT,
                "belongs_to": self._model_identity,
                "made_from": self._fingerprints,
                "arrays": _descriptions(state),
                "progress": progress,
            }
            self._manager.save(
                step, args=ocp.args.Composite(state=ocp.args.PyTreeSave(state), run=ocp.args.JsonSave(run))
            )
        except Exception as error:  # whatever the error, hours of training are worth more than one checkpoint
            for leftover in self._folder.glob(f"{step}.*"):
                shutil.rmtree(leftover, ignore_errors=True)
            self._manager.reload()
            newest = f"the newest checkpoint is that of step {self.latest_step}" if self.steps else "there is none yet"
            logger.warning("step %d could not be saved (%s); the run goes on, %s", step, _first_line(error), newest)


class _Damaged(CheckpointError):
    """A checkpoint whose files differ from what was saved."""


class _Sealed(ocp.CheckpointHandler):
    """Seals an item when all of its files are written and can be read, which is before Orbax makes it visible."""

    def finalize(self, directory: Any) -> None:
        super().finalize(directory)
        self.read_back(directory)
        item = Path(directory)
        files = sorted(path for path in item.rglob("*") if path.is_file())
        seal = {str(path.relative_to(item)): [path.stat().st_size, _crc32(path)] for path in files}
        (item / SEAL).write_text(json.dumps(seal), encoding="utf-8")

    @abstractmethod
    def read_back(self, directory: Any) -> None:
        """Reads the item as `restore` does, or raises what that would raise."""


class _SealedArrays(_Sealed, ocp.PyTreeCheckpointHandler):
    def read_back(self, directory: Any) -> None:
        """Opens each array that Orbax has listed, and reads none of its values: the seal has their checksums.

        The handler's own `metadata` opens them too, but asks TensorStore for JSON, which keeps what it hands out for
        ever (0.1.86: 35 objects an array): a hundred runs in one process would leave some 100 MiB.
        """
        listed = json.loads((Path(directory) / "_METADATA").read_text(encoding="utf-8"))["tree_metadata"].values()
        # Empty containers are listed too, as values that are not read.
        arrays = [entry["key_metadata"] for entry in listed if not entry["value_metadata"]["skip_deserialize"]]
        store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{directory}/"}}
        opened = [
            tensorstore.open(
                {"driver": "zarr", "kvstore": {**store, "path": ".".join(part["key"] for part in keys) + "/"}}
            )
            for keys in arrays
        ]
        for array in opened:
            array.result()


class _SealedJson(_Sealed, ocp.JsonCheckpointHandler):
    def read_back(self, directory: Any) -> None:
        self.restore(directory, ocp.args.JsonRestore())


def _handlers() -> ocp.handlers.DefaultCheckpointHandlerRegistry:
    # Orbax would copy the host copy once more, and hold the state three times.
    of_types = (
        (np.ndarray, ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)),
        (jax.Array, ocp.type_handlers.get_type_handler(jax.Array)),  # there are none, but Orbax warns without it
    )
    arrays = _SealedArrays(
        use_compression=False,  # weights hardly compress, and compressing takes longer than writing
        multiprocessing_options=_single_process(),
        type_handler_registry=ocp.type_handlers.create_type_handler_registry(*of_types),
    )
    record = _SealedJson(multiprocessing_options=_single_process())
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    registry.add("state", ocp.args.PyTreeSave, arrays)
    registry.add("state", ocp.args.PyTreeRestore, arrays)
    registry.add("run", ocp.args.JsonSave, record)
    registry.add("run", ocp.args.JsonRestore, record)
    return registry


def _single_process() -> MultiprocessingOptions:
    """This process saves alone: it has the whole state, and waits for no other process."""
    index = jax.process_index()
    return MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process-{index}"
    )


def _check_seal(item: Path) -> None:
    """Verifies every file before Orbax reads it, since Orbax's own errors come from several threads."""
    try:
        seal = json.loads((item / SEAL).read_text(encoding="utf-8"))
        for name, (size, checksum) in seal.items():
            path = item / name
            if path.stat().st_size != size:
                raise _Damaged(f"{item.name}/{name} has {path.stat().st_size} bytes of {size}")
            if _crc32(path) != checksum:
                raise _Damaged(f"{item.name}/{name} has changed")
    except (OSError, ValueError, TypeError, AttributeError) as error:  # a seal may be damaged, too
        raise _Damaged(_first_line(error)) from None


def _crc32(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            total = zlib.crc32(block, total)
    return total


class _NewestAndBest:
    """Which checkpoints Orbax keeps: the newest few, and the one of `best_step`."""

    def __init__(self, keep: int):
        self._keep = keep
        self.best_step: int | None = None

    def should_preserve(
        self, checkpoints: Sequence[PolicyCheckpointInfo], *, context: PreservationContext
    ) -> Sequence[bool]:
        newest = sorted(info.step for info in checkpoints)[-self._keep :]
        return [info.step in newest or info.step == self.best_step for info in checkpoints]


def _check_arrays(saved: Mapping[str, str], expected: Mapping[str, str]) -> None:
    different = [
        f"{path} is {saved.get(path, 'missing')}, expected {expected.get(path, 'no such array')}"
        for path in [*expected, *(path for path in saved if path not in expected)]
        if saved.get(path) != expected.get(path)
    ]
    if different:
        more = len(different) - _MISMATCHES_SHOWN
        shown = "; ".join(different[:_MISMATCHES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise CheckpointError(f"the checkpoint does not fit this run: {shown}; start again with --overwrite")


def _descriptions(state: TrainState) -> dict[str, str]:
    """Path -> dtype and shape, such as `params/classifier/w` -> `float32[384,6]`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype.name}[{','.join(map(str, leaf.shape))}]"
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def _first_line(error: Exception) -> str:
    message = str(error).partition(" [tensorstore_spec")[0]  # TensorStore adds a page of its settings
    return (message.strip() or type(error).__name__).splitlines()[0]
