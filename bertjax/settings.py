"""Settings: frozen dataclasses as dotted keys and plain values, and back."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeVar

from bertjax.errors import ConfigError

T = TypeVar("T")


def require(condition: bool, rule: str, value: object) -> None:
    """Raises a `ConfigError` that states the rule and the value that breaks it."""
    if not condition:
        raise ConfigError(f"{rule}, got {value!r}")


def require_known(kind: str, name: str, known: Mapping[str, T]) -> T:
    """What stands under a name.

    Raises:
      ConfigError: it is unknown; with the nearest known one, or all of them.
    """
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        raise ConfigError(f"{kind} {name!r} is unknown; {hint}")
    return known[name]


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """A config as dotted keys and plain values: what sweeps override and MLflow records.

    >>> from bertjax import FineTuneConfig
    >>> flatten(FineTuneConfig())["optimizer.warmup"]
    0.1
    """
    values: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            values |= flatten(value, f"{prefix}{item.name}.")
        else:
            values[prefix + item.name] = list(value) if isinstance(value, tuple) else value
    return values


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], but: Collection[str] = ()) -> list[str]:
    """What is not the same in two flat mappings, a clause each, the keys of `but` left out.

    >>> differences({"epochs": 3, "seed": 0}, {"epochs": 4, "seed": 1}, but=["seed"])
    ['epochs was 3, now 4']
    """
    return [
        f"{key} was {stored.get(key)!r}, now {wanted.get(key)!r}"
        for key in sorted({*stored, *wanted} - set(but))
        if stored.get(key) != wanted.get(key)
    ]


def override(config: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a config with some dotted keys changed.

    Raises:
      ConfigError: a key that the config does not have, or a value of another type.

    >>> from bertjax import FineTuneConfig
    >>> override(FineTuneConfig(), {"optimizer.learning_rate": 3e-5}).optimizer.learning_rate
    3e-05
    """
    known = flatten(config)
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(_unknown(unknown, list(known)))
    changes: dict[str, Any] = {}
    hints = typing.get_type_hints(type(config))
    for item in dataclasses.fields(config):
        prefix = f"{item.name}."
        inner = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
        if inner:
            changes[item.name] = override(getattr(config, item.name), inner)
        elif item.name in values:
            changes[item.name] = _as_type(item.name, values[item.name], hints[item.name])
    return dataclasses.replace(config, **changes)


def _unknown(keys: list[str], known: list[str]) -> str:
    close = [match for key in keys for match in difflib.get_close_matches(key, known, n=1)]
    hint = f"did you mean {', '.join(close)}?" if len(close) == len(keys) else f"there are {', '.join(known)}"
    return f"unknown setting {', '.join(keys)}; {hint}"


def _as_type(name: str, value: Any, wanted: Any) -> Any:
    """`value` if its type fits the annotation, with the freedoms of JSON: lists for tuples, integers for floats."""
    options = typing.get_args(wanted) if typing.get_origin(wanted) in (typing.Union, types.UnionType) else (wanted,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if typing.get_origin(option) is Literal and value in typing.get_args(option):
            return value
        if typing.get_origin(option) is tuple and isinstance(value, list | tuple):
            return tuple(value)
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if option in (bool, int, str) and type(value) is option:
            return value
    raise ConfigError(f"{name} cannot be {value!r}")
