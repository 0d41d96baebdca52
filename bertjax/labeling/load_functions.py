"""Reads the labelling functions of a user's Python file.

The file's functions are its list `FUNCTIONS`, where it has one, of labelling functions and plain ones; else whatever it
decorates with `labeling_function` or makes by a call, in that order. `LABELS`, where it has that, are all classes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from bertjax.data.rows.cells import label_text
from bertjax.errors import ConfigError
from bertjax.labeling.labeling_functions import LabelingFunction, from_callable
from bertjax.user_files import FunctionKind, functions_of, read_source, run_once

_LABELS = "LABELS"
_LIST = "the list of functions"  # instead of a path
_KIND = FunctionKind(
    noun="labelling function",
    listing="FUNCTIONS",
    usage="that takes a text and returns a label or None, under @labeling_function (from bertjax.labeling import "
    "labeling_function)",
    is_one=lambda value: isinstance(value, LabelingFunction),
    from_callable=from_callable,
)


class LabelingFile(NamedTuple):
    """What a user's file says.

    Attributes:
      path: of the file, as the user gave it.
      functions: with distinct names.
      labels: all classes; None where only the votes tell.
    """

    path: str
    functions: tuple[LabelingFunction, ...]
    labels: tuple[str, ...] | None


def as_labeling_file(functions: "LabelingFile | str | Path | Sequence[Callable[..., Any]]") -> LabelingFile:
    """Labelling functions as a user gives them: the path of a file, or a list as a file's `FUNCTIONS` may be.

    Raises:
      ConfigError: as `load_functions`; something in the list is no function of a text, or two have one name.
    """
    if isinstance(functions, LabelingFile):
        return functions
    if isinstance(functions, str | Path):
        return load_functions(functions)
    module = ModuleType(_LIST)
    module.__dict__[_KIND.listing] = list(functions)
    return LabelingFile(_LIST, functions_of(module, _LIST, _KIND), None)


def load_functions(path: str | Path) -> LabelingFile:
    """Reads and checks a file.

    Args:
      path: of the file. It may import what is installed, and what lies beside it.

    Raises:
      ConfigError: the file is missing, no Python, ends with an error, has no labelling function, two of one name, or
        one that votes for a label that is not in `LABELS`.
    """
    path = str(path)
    module = run_once(path, read_source(path, "labelling functions"))
    functions = functions_of(module, path, _KIND)
    labels = _labels(module, path)
    for function in functions:
        if labels is not None and (unknown := [label for label in function.labels or () if label not in labels]):
            raise ConfigError(
                f"{path}: {function.name} votes for {unknown[0]!r}, which is not in {_LABELS}: {', '.join(labels)}"
            )
    return LabelingFile(path, functions, labels)


def _labels(module: ModuleType, path: str) -> tuple[str, ...] | None:
    labels = getattr(module, _LABELS, None)
    if labels is None:
        return None
    if not isinstance(labels, list | tuple | set | frozenset):
        raise ConfigError(f"{path}: {_LABELS} is no list; make it one of all classes")
    names = [None if isinstance(label, bool) else label_text(label, merge=True) for label in labels]
    if wrong := [label for label, name in zip(labels, names, strict=True) if not name]:
        raise ConfigError(f"{path}: {_LABELS} holds {wrong[0]!r}, which is no label; give text or whole numbers")
    known = tuple(name for name in names if name)
    if len(known) < 2 or len(set(known)) < len(known):
        raise ConfigError(f"{path}: {_LABELS} must be two distinct classes or more, got {', '.join(known) or 'none'}")
    return known
