"""The rhythm of a run: after which steps it ends an epoch, evaluates and saves."""

from typing import NamedTuple

from bertjax.training.settings.options import Checkpointing, Evaluation, Unit


class Due(NamedTuple):
    """What follows a step."""

    epoch: bool
    evaluation: bool
    save: bool


class Rhythm(NamedTuple):
    """All counts in steps.

    Attributes:
      evaluate_every, save_every: steps from one to the next; the last step has both.
    """

    steps_per_epoch: int
    total_steps: int
    evaluate_every: int
    save_every: int

    def due(self, step: int) -> Due:
        """What follows a step, counted from 1.

        >>> Rhythm(steps_per_epoch=4, total_steps=8, evaluate_every=3, save_every=4).due(3)
        Due(epoch=False, evaluation=True, save=False)
        """
        last = step == self.total_steps
        return Due(
            epoch=step % self.steps_per_epoch == 0,
            evaluation=last or step % self.evaluate_every == 0,
            save=last or step % self.save_every == 0,
        )


def rhythm(evaluation: Evaluation, checkpointing: Checkpointing, steps_per_epoch: int, total_steps: int) -> Rhythm:
    """The rhythm that the settings ask for."""

    def steps(every: int, unit: Unit) -> int:
        return every * steps_per_epoch if unit == "epochs" else every

    return Rhythm(
        steps_per_epoch,
        total_steps,
        steps(evaluation.evaluate_every, evaluation.evaluate_unit),
        steps(checkpointing.save_every, checkpointing.save_unit),
    )
