"""Selects parameters by what a user writes: a part of the network (`head`, `layers:3`), or a pattern of paths."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from bertjax.errors import ConfigError
from bertjax.model.lora import is_adapter
from bertjax.tasks import TASKS, Model, Params, parameter_shapes

_LAYERS = "layers:"


def parameter_paths(params: Params) -> list[str]:
    """Paths such as `bert/layer_0/output/w`, in the order of the parameters."""
    return [f"{module}/{name}" for module, leaves in params.items() for name in leaves]


def selected(setting: str, entries: Sequence[str], model: Model) -> frozenset[str]:
    """The paths of the parameters that any entry names.

    Args:
      setting: the name of the setting that has the entries, for error messages.
      entries: any of `embeddings`; `layers:N`, the first N encoder layers; `head`, what the task adds to the encoder;
        `backbone`, everything else; `biases`; `norms`, the layer norms; or a pattern of paths, such as
        `bert/layer_*/attention/*` (`*` stands for anything, slashes too).
      model: the network.

    Raises:
      ConfigError: an entry that matches no parameter, or more layers than there are.
    """
    paths = parameter_paths(parameter_shapes(model))
    matches: set[str] = set()
    for entry in entries:
        matched = set(filter(_predicate(setting, entry, model), paths))
        if not matched:
            raise ConfigError(f"{setting}: {entry!r} matches no parameter; paths read as {paths[0]}, {paths[-1]}")
        matches |= matched
    return frozenset(matches)


def frozen_paths(model: Model, freeze: Sequence[str]) -> frozenset[str]:
    """The paths of the parameters that an entry of `freeze`, see `selected`, freezes.

    Beside adapters, the encoder's own parameters are frozen too.

    Raises:
      ConfigError: an entry that matches no parameter, more layers than there are, or nothing left to train, or none of
        the adapters.
    """
    frozen, paths = selected("freeze", freeze, model), parameter_paths(parameter_shapes(model))
    if model.config.adapters is not None:
        frozen |= {path for path in paths if path.startswith("bert/") and not is_adapter(path.rpartition("/")[0])}
        if all(path in frozen for path in paths if is_adapter(path.rpartition("/")[0])):
            raise ConfigError(f"freeze: {' '.join(freeze)} leaves no adapter to train; leave lora.rank out")
    if len(frozen) == len(paths):
        raise ConfigError(f"freeze: {' '.join(freeze)} leaves nothing to train")
    return frozen


def _predicate(setting: str, entry: str, model: Model) -> Callable[[str], bool]:
    """Path -> whether an entry names the parameter."""
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
