"""Fine-tuning: prepare the run, compile the step, train, evaluate the test rows, write the results."""

from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

from bertjax.devices.data_parallel import is_first_process
from bertjax.errors import ConfigError
from bertjax.prediction.forward import Forward
from bertjax.tracking.choose_tracker import tracker_of
from bertjax.tracking.tracker import Tracker
from bertjax.training.loop.fit import fit
from bertjax.training.loop.progress import NoProgress, Progress
from bertjax.training.run.beginning import held_folder
from bertjax.training.run.prepared_run import PreparedRun, prepare_run
from bertjax.training.run.run_folder import RESUMES, IfExists, default_folder
from bertjax.training.run.training_session import FineTuneResult, RunContext, training_session
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.step.compiled_step import CompiledTrainStep


def finetune(
    config: FineTuneConfig,
    out: str | Path | None = None,
    *,
    if_exists: IfExists = "error",
    command: str | None = None,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FineTuneResult:
    """Fine-tunes a pretrained BERT on a labelled table, evaluates it, and leaves a folder and a tracked run.

    Args:
      config: the settings of the run.
      out: folder of the run; default: a new one under `runs/`.
      if_exists: what to do with a run that is in `out`: refuse ("error"), continue it from its last checkpoint
        ("resume"), continue it though settings, rows or weights have changed ("resume_changed"), or replace it
        ("overwrite").
      command: the command that repeats the run, for its records; default: this call.
      tracker: records the run; default: MLflow.
      progress: shows the steps; default: nothing.
      should_stop: asked after each step; True saves the state and raises `Interrupted`.

    Returns:
      The folder, its metrics and its report.

    Raises:
      UserError: a mistake in the input or the folder, or another process has the folder; nothing has been written then,
        and nothing of the run that was to be replaced is lost.
      Interrupted: `should_stop` returned True.
      Diverged: too many steps in a row were not finite.
    """
    if if_exists in RESUMES and out is None:
        raise ConfigError("--resume needs --out, the folder of the run to continue")
    folder = Path(out) if out is not None else default_folder(config)
    context = RunContext(command, tracker, progress or NoProgress(), should_stop)
    with held_folder(folder) if is_first_process() else nullcontext():
        return finetune_in(folder, config, if_exists, context)


def finetune_in(folder: Path, config: FineTuneConfig, if_exists: IfExists, context: RunContext) -> FineTuneResult:
    """`finetune` in a folder that the caller holds."""
    tracker = context.tracker or tracker_of(config.tracking, config.experiment)
    if is_first_process():
        tracker.check(folder if if_exists in RESUMES else None)
    run = prepare_run(config, folder, if_exists, context.progress)
    return train_and_evaluate(run, context._replace(tracker=tracker))


def train_and_evaluate(run: PreparedRun, context: RunContext) -> FineTuneResult:
    """Trains a prepared run, whose folder the caller holds; other arguments and errors are those of `finetune`."""
    # Compilation starts in the background here, and runs while the tracker connects.
    shapes, taught = run.batch_shapes(), run.prepared.taught(run.devices)
    train_step = CompiledTrainStep(run.devices, run.trained, run.step, run.state, shapes, taught=taught)
    with (
        closing(train_step),
        training_session(run, context, train_step, Forward(run.devices, run.prepared.model)) as session,
    ):
        # The thread that makes the next batches also copies them to the devices, while these compute.
        with context.progress, run.batches(lambda made: (made, train_step.place(made.batch))) as batches:
            state = fit(run.state, batches, train_step, session.callbacks)
        train_step.close()  # what follows does not need its memory
        return session.finish(state)
