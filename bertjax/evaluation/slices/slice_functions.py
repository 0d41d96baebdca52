"""`SliceFunction`: a user's function that says which rows are in a slice, and how a file's functions are read.

    from bertjax import slice_function

    @slice_function
    def short_text(row):
        return len(row.text.split()) < 8

A file's slices are its list `SLICES`, where it has one, of such functions and plain ones; else whatever it decorates.
Snorkel's SlicingFunctions are slices too; what makes them is imported by the file alone.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, overload

from bertjax.errors import ConfigError
from bertjax.tracking.metric_names import is_valid
from bertjax.user_files import FunctionKind, accepts, functions_of, read_source, run_once

_LONGEST_NAME = 210  # characters; leaves room for the rest of a metric's name


class SliceFunction(NamedTuple):
    """A function that says which rows are in a slice.

    Attributes:
      name: of the slice, as in `slice/NAME/f1_micro`.
      function: row (`SliceRow`) -> a truth value.
    """

    name: str
    function: Callable[[Any], Any]

    def __call__(self, row: Any) -> Any:
        """What the function returns, so that a decorated one can be called as before."""
        return self.function(row)


@overload
def slice_function(function: Callable[[Any], Any]) -> SliceFunction: ...
@overload
def slice_function(*, name: str) -> Callable[[Callable[[Any], Any]], SliceFunction]: ...
def slice_function(function: Callable[[Any], Any] | None = None, *, name: str | None = None) -> Any:
    """Decorates a function of a row that says whether the row is in the slice.

    Args:
      function: the decorated one.
      name: of the slice; default: the function's own.

    Raises:
      ConfigError: it does not take a row, or its name cannot be a part of a metric's.
    """
    if function is None:
        return lambda decorated: _from_callable(decorated, name)
    return _from_callable(function, name)


def load_slice_functions(path: str | Path) -> tuple[SliceFunction, ...]:
    """The slices of a file.

    Args:
      path: of the file. It may import what is installed, and what lies beside it.

    Raises:
      ConfigError: the file is missing, no Python, ends with an error, has no slice, or two of one name.
    """
    path = str(path)
    return functions_of(run_once(path, read_source(path, "functions of a row")), path, _KIND)


def _from_callable(function: Any, name: str | None = None) -> SliceFunction:
    """A slice of any callable.

    Raises:
      ConfigError: it cannot be called with a row, or has no name that a metric can have.
    """
    if isinstance(function, SliceFunction):
        return function
    shown = name or (function.name if _is_snorkel(function) else getattr(function, "__name__", None))
    shown = shown or type(function).__name__
    if not callable(function):
        raise ConfigError(f"{function!r} is no slice; write a function that takes a row and returns True or False")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(f"{shown} is a coroutine or a generator; write a function that returns True or False")
    if not accepts(function, 1):
        raise ConfigError(f"{shown}{inspect.signature(function)} does not take a row; change it")
    if not is_valid(shown, _LONGEST_NAME):
        raise ConfigError(
            f"a slice cannot be named {shown!r}, which MLflow refuses as a part of a metric's name; use letters, "
            f"digits, spaces and _-.: (@slice_function(name=...))"
        )
    return SliceFunction(shown, function)


def _is_snorkel(value: Any) -> bool:
    return any(
        kind.__name__ == "SlicingFunction" and kind.__module__.startswith("snorkel.") for kind in type(value).__mro__
    )


_KIND = FunctionKind(
    noun="slice",
    listing="SLICES",
    usage="as a function that takes a row and returns True or False, under @slice_function (from bertjax import "
    "slice_function)",
    is_one=lambda value: isinstance(value, SliceFunction) or _is_snorkel(value),
    from_callable=_from_callable,
)
