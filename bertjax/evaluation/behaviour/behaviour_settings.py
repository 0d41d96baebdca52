"""The flags of behavioural tests."""

from dataclasses import dataclass
from pathlib import Path

from bertjax.settings import Share


@dataclass(frozen=True)
class BehaviourSettings:
    """Which checks of behaviour there are, and how many must pass."""

    behaviour: Path | None = None
    """Behavioural tests: a YAML file of checks, or a Python file with CHECKS. They need no --data."""

    min_pass_rate: Share | None = None
    """The share of behavioural tests that must pass; below it the exit status is 1, after everything is written."""
