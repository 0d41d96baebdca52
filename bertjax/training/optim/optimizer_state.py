"""The states of bertjax's own transforms, and finding and replacing a part of an optimizer state by its type."""

from typing import Any, NamedTuple, TypeVar

import jax
from jaxtyping import Array

from bertjax.tasks import Params

S = TypeVar("S")


class LearningRateState(NamedTuple):
    """The state of the learning rate.

    Attributes:
      updates: [] int32 updates done.
      learning_rate: [] learning rate of the last update; 0 before the first.
      plateau: the state of `reduce_on_plateau`; its `scale` multiplies the schedule.
    """

    updates: Array
    learning_rate: Array
    plateau: Any


class AveragedState(NamedTuple):
    """The state of an optimizer, and the moving average of the parameters after [] int32 `updates`."""

    inner: Any
    average: Params
    updates: Array


class AnchoredState(NamedTuple):
    """The state of an optimizer, and the pretrained weights that mixout mixes in, which never change."""

    inner: Any
    anchor: Params


def find(opt_state: Any, kind: type[S]) -> S | None:
    """The first state of that type, or None where there is none."""
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, kind))
    return next((node for node in nodes if isinstance(node, kind)), None)


def replaced(opt_state: Any, kind: type[S], new: S) -> Any:
    """The optimizer state with the state of that type replaced."""
    return jax.tree.map(
        lambda node: new if isinstance(node, kind) else node, opt_state, is_leaf=lambda node: isinstance(node, kind)
    )
