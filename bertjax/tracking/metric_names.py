"""Metrics under names that MLflow takes, though a class may be called `news/`, `.`, or have 300 characters.

MLflow reads a name as a path (`mlflow.utils.validation.path_not_unique`) of letters, digits and ` _-.:/`, 250
characters at most. A valid name stays as it is. All others are made valid, and no two become the same.
"""

import posixpath
import re
from collections.abc import Collection, Iterable

_LONGEST = 250  # MLflow's own limit
_LONGEST_PART = 210  # leaves room for the rest of a key, such as `validation/class/` and `/precision_mean`
_FORBIDDEN = re.compile(r"[^\w./:\- ]")
_OF_CLASS = re.compile(r"(?P<before>.*?/class/)(?P<part>.*)(?P<metric>/[^/]*)", re.DOTALL)


class MetricNames:
    """Key of a metric (`test/class/C++/f1`) -> its name in MLflow (`test/class/C__/f1`).

    The name of a class is the same in the metrics of all sides. Names depend on the keys of the first event that has a
    class, which are those of all classes, and on nothing else: runs with the same classes have the same names.

    Attributes:
      changed: key or class -> the name in its place, for those that could not stay.
    """

    def __init__(self) -> None:
        self.changed: dict[str, str] = {}
        self._parts = DistinctNames(_LONGEST_PART)
        self._names = DistinctNames(_LONGEST)

    def add(self, keys: Iterable[str]) -> dict[str, str]:
        """The names of the metrics of one event by their keys."""
        matches = {key: _OF_CLASS.fullmatch(key) for key in keys}
        parts = self._parts.add({match["part"] for match in matches.values() if match})
        valid_parts = {
            key: key if match is None else f"{match['before']}{parts[match['part']]}{match['metric']}"
            for key, match in matches.items()
        }
        names = self._names.add(set(valid_parts.values()))
        self.changed |= {part: name for part, name in parts.items() if part != name}
        self.changed |= {key: name for key, name in names.items() if key != name}
        return {key: names[with_valid_part] for key, with_valid_part in valid_parts.items()}


class DistinctNames:
    """Valid and distinct names for any strings, which keep them from then on."""

    def __init__(self, longest: int):
        """Names of at most so many characters."""
        self._longest = longest
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        self._taken_in_any_case: set[str] = set()  # some stores do not tell cases apart

    def add(self, strings: Collection[str]) -> dict[str, str]:
        """The name of each string; those that come together get the same ones in any order.

        >>> DistinctNames(9).add(["news/", "news", "", ".", "mañana", "sports//football"])
        {'news/': 'news-2', 'news': 'news', '': '_', '.': '_-2', 'mañana': 'mañana', 'sports//football': 'sports/f'}
        """
        new = set(strings) - self._names.keys()
        valid = {string for string in new if is_valid(string, self._longest) and string not in self._taken}
        for string in [*sorted(valid), *sorted(new - valid)]:
            name = string if string in valid else self._free(string)
            self._names[string] = name
            self._taken.add(name)
            self._taken_in_any_case.add(name.casefold())
        return {string: self._names[string] for string in strings}

    def _free(self, string: str) -> str:
        name = suggestion = _made_valid(string, self._longest)
        number = 1
        while name.casefold() in self._taken_in_any_case:
            number += 1
            name = f"{suggestion[: self._longest - len(str(number)) - 1]}-{number}"
        return name


def is_valid(name: str, longest: int) -> bool:
    """Whether MLflow takes a name, alone and as a part of one."""
    is_path = posixpath.normpath(name) == name and not name.startswith(("/", "..")) and name != "."
    return is_path and len(name) <= longest and not _FORBIDDEN.search(name)


def _made_valid(string: str, longest: int) -> str:
    """The string with forbidden characters replaced, cut, and without empty steps, `.` and `..` on its path."""
    steps = _FORBIDDEN.sub("_", string)[:longest].split("/")
    path = "/".join("_" * len(step) if step in (".", "..") else step for step in steps if step) or "_"
    return f"__{path[2:]}" if path.startswith("..") else path
