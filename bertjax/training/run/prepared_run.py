"""`PreparedRun`: a run that is ready to train, with its state on the devices and nothing written yet."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import jax

from bertjax.batch import Batch
from bertjax.data.batching.batch_plan import Position
from bertjax.data.batching.collate import PackedBatch
from bertjax.data.batching.prefetch import prefetched
from bertjax.data.encode.pretrained_tokenizer import tokenizer_digest
from bertjax.devices.data_parallel import Devices, all_devices, is_first_process, several_processes
from bertjax.losses import Loss, distilled, hidden_state_error, imbalanced_cross_entropy
from bertjax.model.lora import merged
from bertjax.settings import flatten
from bertjax.stage_progress import UNSHOWN, StageProgress
from bertjax.tasks import TASKS, Model, Params
from bertjax.training.checkpoint.checkpoints import Checkpoints
from bertjax.training.checkpoint.multihost import SharedCheckpoints
from bertjax.training.loop.train_metrics import TrainMetrics
from bertjax.training.optim.fresh_adapters import with_adapters
from bertjax.training.optim.trained_words import on_words_of, with_occurring_words
from bertjax.training.run import run_folder
from bertjax.training.run.environment import computing_facts
from bertjax.training.run.prepare import Prepared, prepare
from bertjax.training.run.resume import continue_from
from bertjax.training.run.run_folder import IfExists
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.resume_rules import BEFORE_FACTS, changes_between, check_changes
from bertjax.training.step.shared_step import StepSettings, shared_step
from bertjax.training.step.train_step import TrainStep, seed_key
from bertjax.training.train_state import TrainState

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class PreparedRun:
    """A run that is ready to train.

    Attributes:
      config: the resolved settings.
      resumes: whether it continues the run in its folder.
      prepared: the input; its parameters are shapes only, since the values are in `state`.
      trained: the network that is trained: that of the input, with adapters if the run trains some.
      fingerprints: settings, input hashes and the computing environment, as a flat dict.
      state: the initial state, on the devices; the first step donates its buffers.
      train_metrics: counters and history up to this state.
      started: `time.perf_counter()` at the start of the run.
    """

    folder: Path
    config: FineTuneConfig
    resumes: bool
    devices: Devices
    prepared: Prepared
    trained: Model
    fingerprints: Mapping[str, Any]
    step: TrainStep
    state: TrainState
    train_metrics: TrainMetrics
    started: float

    @property
    def trains_on(self) -> bool:
        """Whether there are steps left to do."""
        last = self.prepared.train.plan.total_steps + self.train_metrics.step_offset
        return int(self.state.step) < last and not self.train_metrics.stopped_early

    def merged(self, params: Params) -> Params:
        """Parameters of `trained` as parameters of `prepared.model`, with the adapters merged."""
        return merged(self.trained.config.adapters, params)

    def open_checkpoints(self) -> SharedCheckpoints:
        """The checkpoints in the run's folder."""
        folder, keep = self.folder / run_folder.CHECKPOINTS, self.config.checkpointing.keep_checkpoints
        identity = model_identity(self.prepared.model)
        return SharedCheckpoints(lambda: Checkpoints(folder, identity, keep, self.fingerprints))

    @contextmanager
    def batches(self, made: Callable[[PackedBatch], T]) -> Iterator[Iterator[T]]:
        """`made(batch)` for each batch from the current step on, prefetched, until the run stops early."""
        with closing(prefetched(map(made, self.prepared.train.batches(self._position())))) as batches:
            yield takewhile(lambda _: not self.train_metrics.stopped_early, batches)

    def batch_shapes(self) -> list[Batch]:
        """An empty batch of each shape, with the next step's first, since that is compiled first."""
        source = self.prepared.train
        shapes = list(source.plan.empty_batches)
        if len(shapes) == 1:
            return shapes
        upcoming = next(iter(source.batches(self._position())), None)
        first = None if upcoming is None else upcoming.batch.token_ids.shape
        return sorted(shapes, key=lambda batch: batch.token_ids.shape != first)

    def _position(self) -> Position:
        return self.prepared.train.plan.position(int(self.state.step) - self.train_metrics.step_offset)


def prepare_run(
    config: FineTuneConfig,
    out: str | Path | None = None,
    if_exists: IfExists = "error",
    progress: StageProgress = UNSHOWN,
) -> PreparedRun:
    """Reads and checks all that a run needs; writes nothing. Arguments and errors are those of `finetune`."""
    started = time.perf_counter()
    config = config.resolved()
    folder = _checked_folder(config, out, if_exists)
    devices = all_devices(config.engine)
    prepared = prepare(config, devices.count, progress, devices.platform)
    trained, params = with_adapters(prepared.model, prepared.params, config.lora, config.seed)
    step = step_of(config, trained, prepared.train.plan.total_steps)
    state = _first_state(config, prepared, devices, step, params)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    prepared = prepared._replace(params=shapes)
    facts, resumes = fingerprints(config, prepared), if_exists in run_folder.RESUMES
    metrics = TrainMetrics(steps_per_epoch=prepared.train.plan.steps_per_epoch)
    run = PreparedRun(folder, config, resumes, devices, prepared, trained, facts, step, state, metrics, started)
    del params, state  # otherwise a resumed run would hold two copies
    if resumes:
        run = _resumed(run, if_exists)
    return replace(run, state=devices.place(run.state))


def fingerprints(config: FineTuneConfig, prepared: Prepared) -> dict[str, Any]:
    """All that determines a run's numbers, as flat JSON values: settings, input hashes, computing environment."""
    return flatten(config) | input_hashes(prepared) | computing_facts()


def input_hashes(prepared: Prepared) -> dict[str, str]:
    """Hashes of the rows of each side, the pretrained weights, the tokenizer and the teacher; and the scale of the
    targets."""
    scale = prepared.target_scale
    return {
        **{f"{rows.side}_rows": rows.digest for rows in prepared.datasets},
        "weights": prepared.weights,
        "tokenizer": tokenizer_digest(prepared.tokenizer),
        **({} if scale is None else {"target_scale": scale.text}),
        **({} if prepared.teacher is None else {"teacher": prepared.teacher}),
    }


def model_identity(model: Model) -> Mapping[str, Any]:
    """What a checkpoint's model must share with the one that it is restored into, as JSON values."""
    return {
        "task": model.task,
        "labels": list(model.labels),
        "pooling": model.pooling,
        "layers": model.config.num_layers,
        "heads": model.config.num_heads,
        "hidden_act": model.config.hidden_act,
    }


def loss_of(config: FineTuneConfig) -> Loss:
    """The loss of a run: the task's, or its variant for imbalanced classes, mixed with the distillation loss if there
    is a teacher."""
    imbalance, distillation, task = config.imbalance, config.distillation, TASKS[config.task]
    loss = task.loss
    assert loss is not None, "every task that a config can name has a loss"
    if imbalance.label_smoothing or imbalance.focal_gamma:
        loss = imbalanced_cross_entropy(imbalance.label_smoothing, imbalance.focal_gamma)
    if distillation.teacher is None:
        return loss
    assert task.soft_loss is not None, "of a task that has a loss by a teacher's answers"
    return distilled(loss, task.soft_loss, distillation.teacher_weight, distillation.teacher_temperature)


def token_loss_of(config: FineTuneConfig) -> Loss | None:
    """The loss on a teacher's hidden states that a run adds; None without one."""
    settings = config.distillation
    if not settings.teacher_layers:
        return None
    return hidden_state_error(tuple(ours for ours, _ in settings.layer_pairs), settings.teacher_layers_weight)


def step_of(config: FineTuneConfig, model: Model, total_steps: int) -> TrainStep:
    """The training step for a run's settings; runs with equal settings share its functions."""
    settings = StepSettings(
        loss_of(config), config.freeze, config.accumulate, config.regularization, token_loss_of(config)
    )
    return shared_step(model, config.optimizer, total_steps, settings)


def _first_state(
    config: FineTuneConfig, prepared: Prepared, devices: Devices, step: TrainStep, params: Params
) -> TrainState:
    """The state before the first step, with moments for the words that occur (`trained_words`)."""
    state = step.init(params, seed_key(config.seed))
    if config.optimizer.name != "adamw" or TASKS[config.task].reads_words:
        return state
    special = [0, *prepared.tokenizer.all_special_ids]
    return with_occurring_words(state, prepared.train.examples, special, devices.platform)


def _checked_folder(config: FineTuneConfig, out: str | Path | None, if_exists: IfExists) -> Path:
    """The folder of the run; the process that writes has checked that it may."""
    folder = Path(out) if out is not None else run_folder.default_folder(config)
    if is_first_process():
        run_folder.check_folder(folder, flatten(config), if_exists)
        if if_exists in run_folder.RESUMES:
            run_folder.check_resumable(folder)
    return folder


def _resumed(run: PreparedRun, if_exists: IfExists) -> PreparedRun:
    """The run at its newest checkpoint, or at its first step if it was killed before the first checkpoint."""
    with run.open_checkpoints() as checkpoints:
        if checkpoints.latest_step is None and not several_processes():
            trained = run_folder.trained_steps(run.folder)
            found = f"no checkpoint, though it has trained {trained} steps" if trained else "no checkpoint yet"
            logger.info("%s has %s: the run starts again from its first step", run.folder, found)
            return run
        restored = checkpoints.restore(run.state)
    changes = changes_between(BEFORE_FACTS | restored.fingerprints, run.fingerprints)
    check_changes(run.folder, changes, if_exists == "resume_changed")
    plan, validates = run.prepared.train.plan, run.prepared.validation is not None
    state, metrics = continue_from(restored, changes, run.config, plan, run.state, validates)
    state = state._replace(opt_state=on_words_of(state.opt_state, run.state.opt_state))
    return replace(run, state=state, train_metrics=metrics)
