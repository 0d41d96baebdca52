"""`TrainState`, the state of training, and the type of a step's metrics."""

from typing import Any, NamedTuple

from jaxtyping import Array

from bertjax.tasks import Params

Metrics = dict[str, Array]


class TrainState(NamedTuple):
    """Everything that a training step changes.

    Attributes:
      params: the parameters.
      opt_state: the optimizer's state, for the parameters that are not frozen.
      step: [] int32 number of steps done, skipped ones included.
      rng_key: the key of dropout, typed or as key data. It never changes: each step folds in its number.
    """

    params: Params
    opt_state: Any
    step: Array
    rng_key: Array
