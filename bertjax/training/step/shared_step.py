"""`shared_step`: the training step of a run's settings, which runs of equal settings share with its compiled programs.

`make_train_step` creates new functions on each call, and each is compiled. Here the two halves of a step are each made
once per settings that they depend on. So runs that differ in the learning rate share the gradient, which takes most of
the compile time.
"""

from typing import NamedTuple

from bertjax.devices.data_parallel import AXIS
from bertjax.devices.made_once import made_once
from bertjax.losses import Loss
from bertjax.tasks import TASKS, Model
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.optim.param_filters import frozen_paths
from bertjax.training.settings.options import Optimizer, Regularization
from bertjax.training.step.train_step import TrainStep, Update, make_gradient, make_update


class StepSettings(NamedTuple):
    """What a step depends on besides its network and its optimizer; see `make_train_step`."""

    loss: Loss
    freeze: tuple[str, ...] = ()
    accumulate: int = 1
    regularization: Regularization = Regularization()
    token_loss: Loss | None = None


def shared_step(model: Model, optimizer: Optimizer, total_steps: int, settings: StepSettings) -> TrainStep:
    """The step of a run, mapped over the axis of the devices.

    Args:
      model: the network; the names of its labels do not matter.
      optimizer: the settings of the optimizer.
      total_steps: of the run, for the learning rate.
      settings: the others.

    Raises:
      ConfigError: as `make_optimizer` and `make_train_step`.
    """
    nameless = model._replace(labels=())  # its functions already have the number of labels
    heads = TASKS[model.task].head_modules
    frozen = frozen_paths(model, settings.freeze)
    gradient = _gradient(
        model.apply, settings.loss, frozen, AXIS, settings.accumulate, settings.regularization, settings.token_loss
    )
    anchors = bool(settings.regularization.mixout)
    update = _update(optimizer.resolved(), total_steps, nameless, heads, frozen, anchors)
    return TrainStep(update.init, update.trainable, gradient, update.update)


_gradient = made_once(make_gradient)


@made_once
def _update(
    optimizer: Optimizer, total_steps: int, model: Model, heads: tuple[str, ...], frozen: frozenset[str], anchors: bool
) -> Update:
    del heads  # what `make_optimizer` reads of the task
    return make_update(make_optimizer(optimizer, total_steps, model), frozen, model.config.execution, anchors)
