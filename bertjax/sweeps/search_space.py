"""The search space: the settings that vary, by dotted path, and the range of each, as data for the searchers."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bertjax.errors import ConfigError
from bertjax.settings import override, require
from bertjax.training.settings.finetune_config import FineTuneConfig

Values = dict[str, Any]


@dataclass(frozen=True)
class _Interval:
    low: float
    high: float

    def __post_init__(self) -> None:
        require(self.low < self.high, f"a {_kind(type(self))} range needs low < high", (self.low, self.high))

    @property
    def examples(self) -> tuple[float, ...]:
        """Values that are valid for the setting if and only if all others are."""
        return (float(self.low), float(self.high))


@dataclass(frozen=True)
class Uniform(_Interval):
    """A real number with a uniform distribution."""

    def at(self, share: float) -> float:
        """The quantile of a share in [0, 1)."""
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class LogUniform(_Interval):
    """A positive real number whose logarithm is uniform, as for learning rates."""

    def __post_init__(self) -> None:
        require(0 < self.low < self.high, "a loguniform range needs 0 < low < high", (self.low, self.high))

    def at(self, share: float) -> float:
        """The quantile of a share in [0, 1)."""
        return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))


@dataclass(frozen=True)
class RandInt(_Interval):
    """An integer from low (included) to high (excluded), as in NumPy.

    Attributes:
      low: the least.
      high: the first that is too large.
    """

    low: int
    high: int

    @property
    def examples(self) -> tuple[int, ...]:
        """Values that are valid for the setting if and only if all others are."""
        return (self.low, self.high - 1)

    def at(self, share: float) -> int:
        """The quantile of a share in [0, 1)."""
        return self.low + int(share * (self.high - self.low))


@dataclass(frozen=True)
class _Options:
    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _frozen(self.options))
        require(len(self.options) > 0, f"a {_kind(type(self))} needs options", self.options)

    @property
    def examples(self) -> tuple[Any, ...]:
        """Values that are valid for the setting if and only if all others are."""
        return self.options


@dataclass(frozen=True)
class Choice(_Options):
    """One of several equally likely values."""

    def at(self, share: float) -> Any:
        """The quantile of a share in [0, 1)."""
        return self.options[int(share * len(self.options))]


@dataclass(frozen=True)
class Grid(_Options):
    """Every one of several values: a sweep tries all combinations of its grids, with any searcher."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(set(self.options)) == len(self.options), "a grid names each option once", self.options)


Range = Uniform | LogUniform | RandInt | Choice | Grid


@dataclass(frozen=True)
class When:
    """A range that applies only where another setting has one of some values; elsewhere the base's value stays.

    Attributes:
      path: of the other setting, such as `optimizer.schedule`.
      values: of it.
      then: the range where it has one of them.
    """

    path: str
    values: tuple[Any, ...]
    then: Range

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _frozen(self.values))
        require(len(self.values) > 0, "a condition needs values", self.values)


Space = Mapping[str, Range | When]


def _kind(dimension: type) -> str:
    """The name of a class of dimensions in JSON and in messages."""
    return dimension.__name__.lower()


_KINDS = {_kind(dimension): dimension for dimension in (Uniform, LogUniform, RandInt, Choice, Grid, When)}


def range_of(dimension: Range | When) -> Range:
    """The range of a dimension without its condition."""
    return dimension.then if isinstance(dimension, When) else dimension


def check_space(space: Space, base: FineTuneConfig) -> None:
    """Checks that every setting exists and that every value of its range is valid.

    Raises:
      ConfigError: nothing varies, a dotted path is unknown (the nearest is named), a value is invalid, or a condition
        names a setting that does not vary.
    """
    if not space:
        raise ConfigError("the space is empty: name at least one setting that varies")
    for path, dimension in space.items():
        for value in range_of(dimension).examples:
            try:
                override(base, {path: value})
            except ConfigError as error:
                raise ConfigError(f"space: {path}: {error}") from None
        if isinstance(dimension, When):
            if dimension.path not in space or dimension.path == path or isinstance(space[dimension.path], When):
                raise ConfigError(
                    f"space: {path} depends on {dimension.path}, which must be another setting that varies, "
                    f"unconditionally"
                )
            other = range_of(space[dimension.path])
            if isinstance(other, Choice | Grid) and (never := set(dimension.values) - set(other.options)):
                raise ConfigError(f"space: {path} waits for {dimension.path} = {never.pop()!r}, which never comes")


def active(space: Space, values: Mapping[str, Any]) -> Values:
    """The values whose conditions hold; the others would change nothing, so a trial leaves them out."""
    return {
        path: value
        for path, value in values.items()
        if not isinstance(dimension := space[path], When) or values[dimension.path] in dimension.values
    }


def grid_points(space: Space) -> list[Values]:
    """Every combination of the grid dimensions, in order; [{}] without any.

    Combinations that differ only in values whose condition does not hold are one point.
    """
    grids = {path: dimension for path, dimension in space.items() if isinstance(range_of(dimension), Grid)}
    decidable = {path: d for path, d in grids.items() if not isinstance(d, When) or d.path in grids}
    points: dict[frozenset[tuple[str, Any]], Values] = {}
    for options in itertools.product(*(range_of(dimension).examples for dimension in grids.values())):
        point = dict(zip(grids, options, strict=True))
        effective = active(decidable, {path: point[path] for path in decidable})
        effective |= {path: value for path, value in point.items() if path not in decidable}
        points.setdefault(frozenset(effective.items()), point)
    return list(points.values())


def options_of(dimension: Range | When) -> Sequence[Any] | None:
    """The different values of a dimension; None where there is no end of them."""
    match range_of(dimension):
        case Choice(options) | Grid(options):
            return list(dict.fromkeys(options))
        case RandInt(low, high):
            return range(low, high)
        case _:
            return None


def count_points(space: Space) -> int | None:
    """The number of points that differ in an active value; None where a range has no end of values."""
    options = {path: options_of(dimension) for path, dimension in space.items()}
    total = 1
    for path, values in options.items():
        if values is None:
            return None
        if isinstance(space[path], When):
            continue
        depending = {
            other: dimension
            for other, dimension in space.items()
            if isinstance(dimension, When) and dimension.path == path
        }
        deciding = {value for dimension in depending.values() for value in dimension.values if value in values}
        branches = [
            math.prod(len(options[other] or ()) for other, dimension in depending.items() if value in dimension.values)
            for value in deciding
        ]
        total *= len(values) - len(deciding) + sum(branches)
    return total


def key_of(values: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    """What two points have in common exactly if they are the same, also where one was read from JSON."""
    return frozenset((path, tuple(value) if isinstance(value, list) else value) for path, value in values.items())


def to_json(dimension: Range | When) -> dict[str, Any]:
    """A dimension as plain values."""
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(dimension).items()}
    if isinstance(dimension, When):
        fields["then"] = to_json(dimension.then)
    return {"kind": _kind(type(dimension)), **fields}


def from_json(fields: Mapping[str, Any]) -> Any:
    """The inverse of `to_json`."""
    values = {name: value for name, value in fields.items() if name != "kind"}
    if "then" in values:
        values["then"] = from_json(values["then"])
    return _KINDS[fields["kind"]](**values)


def _frozen(values: Sequence[Any]) -> tuple[Any, ...]:
    """Options as hashable values: lists inside become tuples, as in a config."""
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)
