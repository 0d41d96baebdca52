"""The state that a training step changes, and the metrics that it returns."""

from typing import Any, NamedTuple

from jaxtyping import Array

from bertjax.tasks import Params

Metrics = dict[str, Array]


class TrainState(NamedTuple):
    """Everything that a training step changes.

    Attributes:
      params: the parameters.
      opt_state: the optimizer's state, of the parameters that are not frozen.
      step: [] int32 number of batches seen, skipped ones included.
      rng_key: the key of dropout, typed or as words; it never changes, since each step folds its number in.
    """

    params: Params
    opt_state: Any
    step: Array
    rng_key: Array
