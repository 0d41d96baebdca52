"""Settings: frozen dataclasses as flat dicts of dotted keys and plain values, and back."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from bertjax.errors import ConfigError

T = TypeVar("T")


LONGEST = 2**31 - 1  # of what is counted: the step of a run is an int32


class Range(NamedTuple):
    """The numbers that a setting may be: `epochs: Annotated[int, Range(1)]`. Neither NaN nor infinity is ever one.

    Attributes:
      low, high: the bounds.
      open_low, open_high: whether the bound itself is left out.
      note: what a reader should know of the bound.
    """

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    note: str = ""

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
            return False
        is_above = value > self.low if self.open_low else value >= self.low
        return is_above and (value < self.high if self.open_high else value <= self.high)

    @property
    def text(self) -> str:
        """The range in words, for the help.

        >>> Range(1).text, Range(0, open_low=True).text, Range(0, 1, open_high=True).text, Range(0, 9).text
        ('1 or more', 'above 0', 'in [0, 1)', '0 to 9')
        """
        if self.high <= 1:
            return f"in {'(' if self.open_low else '['}{self.low}, {self.high}{')' if self.open_high else ']'}"
        if self.open_low:
            return f"above {self.low}"
        return f"{self.low} or more" if self.high in (LONGEST, math.inf) else f"{self.low} to {self.high}"

    def rule(self, value: float) -> str:
        """What must be, for the message about a value that is not in the range.

        >>> Range(1).rule(0), Range(0, open_low=True).rule(0), Range(0, 1, open_high=True).rule(1)
        ('must be 1 or more', 'must be positive', 'must be in [0, 1)')
        """
        if isinstance(value, float) and not math.isfinite(value):
            return "must be a finite number"
        if value > self.high > 1:
            return f"must be {self.high} or less"
        if self.low == 0 and self.high > 1:
            return "must be positive" if self.open_low else "must not be negative"
        return f"must be {self.text if self.high <= 1 else f'{self.low} or more'}{self.note}"


# Kinds of numbers that several settings are of.
Count = Annotated[int, Range(1, LONGEST)]
CountFromZero = Annotated[int, Range(0, LONGEST)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, open_high=True)]
InnerShare = Annotated[float, Range(0, 1, open_low=True, open_high=True)]
Positive = Annotated[float, Range(0, open_low=True)]
NotNegative = Annotated[float, Range(0)]
# JAX and NumPy's older generators take a seed as a uint32: a larger one would be another's equal, or an error.
Seed = Annotated[int, Range(0, 2**32 - 1)]


@cache
def ranges_of(kind: Any) -> dict[str, Range]:
    """Field of a dataclass -> the range of its number, or of each of its numbers."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = {item.name: next(_ranges_in(hints[item.name]), None) for item in dataclasses.fields(kind)}
    return {name: numbers for name, numbers in found.items() if numbers is not None}


def check_ranges(config: Any, group: str = "") -> None:
    """Checks every number of a dataclass, those of nested ones aside.

    Args:
      config: the dataclass.
      group: what messages put before a name that says too little alone, such as `lora.`.

    Raises:
      ConfigError: one is out of its range.
    """
    kind: Any = type(config)
    for name, numbers in ranges_of(kind).items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None:
                require(number in numbers, f"{group}{name} {numbers.rule(number)}", number)


def _ranges_in(hint: Any) -> Iterator[Range]:
    """The ranges in an annotation such as `Annotated[int, Range(1)] | None`."""
    yield from (extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Range))
    for inner in typing.get_args(hint):
        yield from _ranges_in(inner)


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
        raise ConfigError(f"{kind} {name!r} is unknown; {nearest(name, known)}")
    return known[name]


def nearest(name: str, known: Collection[str]) -> str:
    """What else there is, for the message about a name that is unknown: the nearest one, or all.

    >>> nearest("acuracy", ["accuracy", "loss"]), nearest("f1", ["accuracy", "loss"]), nearest("f1", [])
    ("did you mean 'accuracy'?", 'there are accuracy, loss', 'there are none')
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known) or 'none'}"


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
