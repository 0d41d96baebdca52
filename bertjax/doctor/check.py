"""A check of the machine: what it looked at, what it found, and how to mend it."""

from typing import Literal, NamedTuple

State = Literal["ok", "warn", "bad"]
"""ok: nothing to do; warn: bertjax works, though slower or with less; bad: commands will fail."""


class Check(NamedTuple):
    """The outcome of a check.

    Attributes:
      name: what was looked at.
      found: in words, a line.
      mend: how to mend it, a line; empty where there is nothing to mend.
    """

    name: str
    state: State
    found: str
    mend: str = ""
