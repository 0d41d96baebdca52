"""Freezing: which parameters a run leaves as they are."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from bertjax.errors import ConfigError
from bertjax.tasks import TASKS, Model, parameter_shapes

IsFrozen = Callable[[str, str], bool]


def freezing(model: Model, freeze: Sequence[str]) -> IsFrozen:
    """Which parameters of a model are frozen.

    Args:
      model: the network.
      freeze: any of `embeddings`; `layers:N`, the first N encoder layers; `backbone`, everything but the head; or a
        pattern of parameter paths, such as `bert/layer_*/attention/*` (`*` stands for anything, slashes too).

    Returns:
      (module, parameter name) -> whether it stays as it is.

    Raises:
      ConfigError: an entry that matches no parameter, more layers than there are, or nothing left to train.
    """
    paths = [f"{module}/{name}" for module, leaves in parameter_shapes(model).items() for name in leaves]
    frozen: set[str] = set()
    for entry in freeze:
        patterns = _patterns(model, entry, paths)
        matched = {path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns)}
        if not matched:
            raise ConfigError(f"freeze: {entry!r} matches no parameter; paths read as {paths[0]}, {paths[-1]}")
        frozen |= matched
    if len(frozen) == len(paths):
        raise ConfigError(f"freeze: {' '.join(freeze)} leaves nothing to train")
    return lambda module, name: f"{module}/{name}" in frozen


def _patterns(model: Model, entry: str, paths: Sequence[str]) -> list[str]:
    if entry == "embeddings":
        return ["bert/embeddings/*"]
    if entry == "backbone":
        heads = TASKS[model.task].head_modules
        return [path for path in paths if not path.startswith(tuple(f"{module}/" for module in heads))]
    if entry.startswith("layers:"):
        count = entry.removeprefix("layers:")
        if not count.isdecimal() or not 1 <= int(count) <= model.config.num_layers:
            raise ConfigError(f"freeze: layers:N needs N from 1 to {model.config.num_layers}, got {count!r}")
        return [f"bert/layer_{i}/*" for i in range(int(count))]
    return [entry]
