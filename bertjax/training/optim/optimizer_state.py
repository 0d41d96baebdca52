"""What stands inside an optimizer's state: the states of its parts, found by their type."""

from typing import Any, NamedTuple, TypeVar

import jax
from jaxtyping import Array

from bertjax.tasks import Params

S = TypeVar("S")


class LearningRateState(NamedTuple):
    """Where the learning rate of an optimizer stands.

    Attributes:
      updates: [] int32 updates done.
      learning_rate: [] of the last update; 0 before the first.
      plateau: what `reduce_on_plateau` remembers of evaluations; its `scale` multiplies the schedule.
    """

    updates: Array
    learning_rate: Array
    plateau: Any


class AveragedState(NamedTuple):
    """The state of an optimizer whose parameters are averaged.

    Attributes:
      inner: of the optimizer.
      average: of the parameters after each update.
      updates: [] int32 updates done.
    """

    inner: Any
    average: Params
    updates: Array


class AnchoredState(NamedTuple):
    """The state of an optimizer beside the weights that a run started from.

    Attributes:
      inner: of the optimizer.
      anchor: the weights that mixout may take back; they never change.
    """

    inner: Any
    anchor: Params


def find(opt_state: Any, kind: type[S]) -> S | None:
    """The first state of that type, or None where there is none."""
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kind))
    return next((node for node in nodes if isinstance(node, kind)), None)


def replaced(opt_state: Any, kind: type[S], new: S) -> Any:
    """The same optimizer state with `new` in the place of the state of that type."""
    return jax.tree.map(
        lambda node: new if isinstance(node, kind) else node, opt_state, is_leaf=lambda node: isinstance(node, kind)
    )
