"""The steps after which a run evaluates and saves."""

from typing import NamedTuple

from bertjax.training.settings.options import Checkpointing, Evaluation, Unit


class EvalSchedule(NamedTuple):
    """The steps after which something happens, counted from 1.

    Attributes:
      steps_per_epoch: of the current epochs; a run may be resumed with epochs of another length.
      total_steps: number of the last step.
      evaluate_every, save_every: intervals in steps; both also happen after the last step.
      step_offset: see `TrainMetrics`.
    """

    steps_per_epoch: int
    total_steps: int
    evaluate_every: int
    save_every: int
    step_offset: int = 0

    @property
    def epochs(self) -> int:
        """Epochs of the run."""
        return (self.total_steps - self.step_offset) // self.steps_per_epoch

    def epochs_done(self, step: int) -> float:
        """Epochs, and share of the next one, that are done after this step."""
        return (step - self.step_offset) / self.steps_per_epoch

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends with this step."""
        return (step - self.step_offset) % self.steps_per_epoch == 0

    def evaluates(self, step: int) -> bool:
        """Whether validation rows are evaluated after this step."""
        return step == self.total_steps or (step - self.step_offset) % self.evaluate_every == 0

    def reports(self, step: int) -> bool:
        """Whether the history gets a row after this step.

        >>> schedule = EvalSchedule(steps_per_epoch=4, total_steps=8, evaluate_every=3, save_every=4)
        >>> [step for step in range(1, 9) if schedule.reports(step)]
        [3, 4, 6, 8]
        """
        return self.ends_epoch(step) or self.evaluates(step)

    def saves(self, step: int) -> bool:
        """Whether the state is saved after this step, best or not."""
        return step == self.total_steps or (step - self.step_offset) % self.save_every == 0


def eval_schedule(
    evaluation: Evaluation, checkpointing: Checkpointing, steps_per_epoch: int, planned_steps: int, step_offset: int = 0
) -> EvalSchedule:
    """The schedule for the settings of a run; `planned_steps` is the length of its plan."""

    def steps(every: int, unit: Unit) -> int:
        return every * steps_per_epoch if unit == "epochs" else every

    return EvalSchedule(
        steps_per_epoch,
        planned_steps + step_offset,
        steps(evaluation.evaluate_every, evaluation.evaluate_unit),
        steps(checkpointing.save_every, checkpointing.save_unit),
        step_offset,
    )
