"""Selections of parameters as a user writes them: a part of the network by its name, or a pattern of paths."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from bertjax.errors import ConfigError
from bertjax.tasks import TASKS, Model, Params, parameter_shapes

_LAYERS = "layers:"


def parameter_paths(params: Params) -> list[str]:
    """Paths such as `bert/layer_0/output/w`, in the order of the parameters."""
    return [f"{module}/{name}" for module, leaves in params.items() for name in leaves]


def selected(setting: str, entries: Sequence[str], model: Model) -> frozenset[str]:
    """The paths of the parameters that any entry names.

    Args:
      setting: where the entries come from, for what is said about a mistake.
      entries: any of `embeddings`; `layers:N`, the first N encoder layers; `head`, what the task adds to the encoder;
        `backbone`, everything else; `biases`; `norms`, the layer norms; or a pattern of paths, such as
        `bert/layer_*/attention/*` (`*` stands for anything, slashes too).
      model: the network.

    Raises:
      ConfigError: an entry that matches no parameter, or more layers than there are.
    """
    paths = parameter_paths(parameter_shapes(model))
    found: set[str] = set()
    for entry in entries:
        is_meant = _meaning(setting, entry, model)
        matched = set(filter(is_meant, paths))
        if not matched:
            raise ConfigError(f"{setting}: {entry!r} matches no parameter; paths read as {paths[0]}, {paths[-1]}")
        found |= matched
    return frozenset(found)


def _meaning(setting: str, entry: str, model: Model) -> Callable[[str], bool]:
    heads = TASKS[model.task].head_modules
    named = {
        "embeddings": lambda path: path.startswith("bert/embeddings/"),
        "head": lambda path: path.rpartition("/")[0] in heads,
        "backbone": lambda path: path.rpartition("/")[0] not in heads,
        "biases": lambda path: path.endswith("/b"),
        "norms": lambda path: path.endswith(("/scale", "/offset")),
    }
    if entry in named:
        return named[entry]
    if entry.startswith(_LAYERS):
        count = entry.removeprefix(_LAYERS)
        if not count.isdecimal() or not 1 <= int(count) <= model.config.num_layers:
            raise ConfigError(f"{setting}: layers:N needs N from 1 to {model.config.num_layers}, got {count!r}")
        layers = tuple(f"bert/layer_{i}/" for i in range(int(count)))
        return lambda path: path.startswith(layers)
    return lambda path: fnmatchcase(path, entry)
