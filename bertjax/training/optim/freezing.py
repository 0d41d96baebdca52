"""Freezing: which parameters a run leaves as they are."""

from collections.abc import Callable, Sequence

from bertjax.errors import ConfigError
from bertjax.tasks import Model, parameter_shapes
from bertjax.training.optim.param_filters import parameter_paths, selected

IsFrozen = Callable[[str, str], bool]


def freezing(model: Model, freeze: Sequence[str]) -> IsFrozen:
    """Which parameters of a model are frozen.

    Args:
      model: the network.
      freeze: what to freeze, as `selected` reads it.

    Returns:
      (module, parameter name) -> whether it stays as it is.

    Raises:
      ConfigError: an entry that matches no parameter, more layers than there are, or nothing left to train.
    """
    frozen = selected("freeze", freeze, model)
    if len(frozen) == len(parameter_paths(parameter_shapes(model))):
        raise ConfigError(f"freeze: {' '.join(freeze)} leaves nothing to train")
    return lambda module, name: f"{module}/{name}" in frozen
