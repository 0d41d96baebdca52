"""`Located`: a value of a user's file with its place, so that each mistake names its line."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bertjax.errors import ConfigError
from bertjax.settings import nearest


@dataclass(frozen=True)
class Located:
    """A value of a file, and where it stands.

    Attributes:
      content: a text (numbers and labels too, as they are written, so that `no` and `1.0` are labels), a list or a
        mapping of such values, a function of a Python file, or None where nothing is written.
      place: file and line, which messages begin with.
    """

    content: Any
    place: str

    def wrong(self, problem: str) -> ConfigError:
        """The error that says what is wrong here."""
        return ConfigError(f"{self.place}: {problem}")

    def text(self, what: str) -> str:
        """A text with something to see in it.

        Args:
          what: it is, for the message.

        Raises:
          ConfigError: it is none.
        """
        if not isinstance(self.content, str):
            raise self.wrong(f"{what} must be a text, got {self.kind}{_hint(self.content)}")
        if not self.content.strip():
            raise self.wrong(f"{what} is empty")
        return self.content

    def items(self, what: str) -> list["Located"]:
        """A list with something in it; a single value is a list of one.

        Raises:
          ConfigError: it is empty, or nothing.
        """
        if self.content is None:
            raise self.wrong(f"{what} must be a list, got nothing")
        if not isinstance(self.content, list):
            return [self]
        if not self.content:
            raise self.wrong(f"{what} is an empty list; give it an item or leave it out")
        return self.content

    def mapping(self, what: str, known: Collection[str] | None = None) -> dict[str, "Located"]:
        """A mapping with something in it.

        Args:
          what: it is, for messages.
          known: the keys that there are; None for any.

        Raises:
          ConfigError: it is empty or none, or has a key that is unknown.
        """
        if not isinstance(self.content, dict):
            raise self.wrong(f"{what} must be a mapping, got {self.kind}")
        if not self.content:
            raise self.wrong(f"{what} is empty; give it a key or leave it out")
        for key, value in self.content.items():
            if known is not None:
                value.known(f"key of {what}", key, dict.fromkeys(known))
        return self.content

    def number(self, what: str, low: float = -math.inf) -> float:
        """A finite number.

        Args:
          what: it is, for the message.
          low: the least that it may be.

        Raises:
          ConfigError: it is none, or too low.
        """
        try:
            value = float(self.text(what))
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise self.wrong(f"{what} must be a number, got {self.content!r}") from None
        if not math.isfinite(value) or value < low:
            bound = "finite" if low == -math.inf else f"{low:g} or more"
            raise self.wrong(f"{what} must be {bound}, got {self.content}")
        return value

    def count(self, what: str, low: int) -> int:
        """A whole number.

        Raises:
          ConfigError: it is none, or too low.
        """
        value = self.number(what, low)
        if not value.is_integer():
            raise self.wrong(f"{what} must be a whole number, got {self.content}")
        return int(value)

    def known(self, what: str, name: str, known: Mapping[str, Any]) -> Any:
        """What stands under a name that is written here.

        Raises:
          ConfigError: nothing does; with the nearest known name, or all of them.
        """
        if name not in known:
            raise self.wrong(f"{what} {name!r} is unknown; {nearest(name, known)}")
        return known[name]

    @property
    def kind(self) -> str:
        """What the value is, in words."""
        if self.content is None:
            return "nothing"
        if isinstance(self.content, dict):
            return f"a mapping of {', '.join(map(repr, self.content))}" if self.content else "an empty mapping"
        return "a list" if isinstance(self.content, list) else f"{self.content!r}"


def of_python(value: Any, place: str) -> Located:
    """A value of Python as one of a file; all that is in it has the same place.

    Raises:
      ConfigError: it is of a type that no check has.
    """
    match value:
        case None | str():
            return Located(value, place)
        case Mapping():
            return Located({str(key): of_python(item, place) for key, item in value.items()}, place)
        case list() | tuple():
            return Located([of_python(item, place) for item in value], place)
        case bool():
            pass
        case int() | float():
            return Located(repr(value), place)
        case Callable():
            return Located(value, place)
    raise ConfigError(f"{place}: {value!r} ({type(value).__name__}) is no text, number, list or mapping")


def _hint(content: Any) -> str:
    return "; a text with a colon or a brace needs quotes" if isinstance(content, dict) else ""
