"""After which steps a run evaluates and saves."""

from typing import NamedTuple

from bertjax.training.settings.options import Checkpointing, Evaluation, Unit


class EvalSchedule(NamedTuple):
    """The steps after which something happens, counted from 1.

    Attributes:
      steps_per_epoch, total_steps: of the run.
      evaluate_every, save_every: steps from one to the next; the last step of the run has both.
    """

    steps_per_epoch: int
    total_steps: int
    evaluate_every: int
    save_every: int

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends with this step."""
        return step % self.steps_per_epoch == 0

    def evaluates(self, step: int) -> bool:
        """Whether validation rows are evaluated after this step."""
        return step == self.total_steps or step % self.evaluate_every == 0

    def reports(self, step: int) -> bool:
        """Whether the history gets a row after this step.

        >>> schedule = EvalSchedule(steps_per_epoch=4, total_steps=8, evaluate_every=3, save_every=4)
        >>> [step for step in range(1, 9) if schedule.reports(step)]
        [3, 4, 6, 8]
        """
        return self.ends_epoch(step) or self.evaluates(step)

    def saves(self, step: int) -> bool:
        """Whether the state is saved after this step, best or not."""
        return step == self.total_steps or step % self.save_every == 0


def eval_schedule(
    evaluation: Evaluation, checkpointing: Checkpointing, steps_per_epoch: int, total_steps: int
) -> EvalSchedule:
    """The schedule that the settings of a run ask for."""

    def steps(every: int, unit: Unit) -> int:
        return every * steps_per_epoch if unit == "epochs" else every

    return EvalSchedule(
        steps_per_epoch,
        total_steps,
        steps(evaluation.evaluate_every, evaluation.evaluate_unit),
        steps(checkpointing.save_every, checkpointing.save_unit),
    )
