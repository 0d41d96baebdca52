"""Flags out of dataclasses, by tyro, with this command line's way of complaining: one line, status 2."""

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from bertjax.cli.main import USAGE_ERROR
from bertjax.errors import ConfigError

T = TypeVar("T")


def parse(wanted: type[T], arguments: Sequence[str], program: str, default: Any = None) -> T:
    """Reads flags into a dataclass; nested dataclasses give flags without a prefix.

    Raises:
      ConfigError: a flag that is unknown, or a value that does not fit.
      SystemExit: with status 0, after `--help`.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                wanted,
                args=list(arguments),
                prog=program,
                **({} if default is None else {"default": default}),
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
                compact_help=False,
            )
    except SystemExit as stop:
        if stop.code != USAGE_ERROR:
            sys.stderr.write(complaint.getvalue())
            raise
        raise ConfigError(f"{_one_line(complaint.getvalue())} (see {program} --help)") from None


def given(flag: str, words: Sequence[str]) -> bool:
    """Whether a flag stands on the command line, whatever its value.

    >>> given("seed", ["--seed=3"]), given("seed", ["--seeds", "3"])
    (True, False)
    """
    return any(word == f"--{flag}" or word.startswith(f"--{flag}=") for word in words)


def _one_line(boxed: str) -> str:
    """tyro's complaint without the box around it, which is drawn in ASCII where the terminal has no better."""
    lines = (re.sub(r"[\u2500-\u257f]+|-{4,}|^\s*[|+]|[|+]\s*$", " ", line).strip() for line in boxed.splitlines())
    text = " ".join(line for line in lines if line and not line.startswith("For full helptext"))
    text = re.sub(r"^(Parsing error|Unrecognized options?|Invalid choice|Value error)\s+", "", " ".join(text.split()))
    # Of what could not be parsed, a flag is of use to the reader, the name of a dataclass is not.
    text = re.sub(r"^Error parsing (?:(--\S+: )|\S+: )", lambda match: match.group(1) or "", text)
    return re.sub(r" Argument helptext:.*", "", text)
