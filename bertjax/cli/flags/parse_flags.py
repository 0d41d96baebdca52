"""Flags from dataclasses, by tyro; a mistake is a `ConfigError` of one line; and the check of `--out`."""

import contextlib
import io
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from textwrap import dedent
from typing import TypeVar

import tyro

from bertjax.cli.process.exit_codes import ExitCode
from bertjax.errors import ConfigError, RunFolderError
from bertjax.settings import check_ranges
from bertjax.storage.folder_lock import check_is_folder, contents

T = TypeVar("T")


def parse(kind: type[T], arguments: Sequence[str], program: str, description: str | None = None) -> T:
    """Reads flags into a dataclass; nested dataclasses give flags without a prefix.

    Args:
      kind: the dataclass.
      arguments: the words after the command's name.
      program: the command, for messages.
      description: of the command, for `--help`; default: the docstring of `kind`.

    Raises:
      ConfigError: a flag is unknown, or a value does not fit or is out of its range.
      SystemExit: after `--help`, with status 0.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = tyro.cli(
                kind,
                args=list(arguments),
                prog=program,
                description=description,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
                compact_help=False,
            )
    except SystemExit as stop:
        if stop.code != ExitCode.USAGE:
            sys.stderr.write(complaint.getvalue())
            raise
        raise ConfigError(f"{_one_line(complaint.getvalue())} (see {program} --help)") from None
    try:
        for settings in (parsed, *filter(is_dataclass, vars(parsed).values())):
            check_ranges(settings)
    except ConfigError as error:
        raise ConfigError(f"{error} (see {program} --help)") from None
    return parsed


def is_given(flag: str, words: Sequence[str]) -> bool:
    """Whether a flag is on the command line, whatever its value.

    >>> is_given("seed", ["--seed=3"]), is_given("seed", ["--seeds", "3"])
    (True, False)
    """
    return any(word == f"--{flag}" or word.startswith(f"--{flag}=") for word in words)


def check_replaceable(out: Path, overwrite: bool, written: re.Pattern[str], folders: Collection[str] = ()) -> None:
    """Checks that a folder may be written, in place of the one there.

    Args:
      out: the folder.
      overwrite: whether one that is not empty gives way.
      written: matches the names of the files that the command writes; a folder with others is not the command's.
      folders: which of these names are folders.

    Raises:
      RunFolderError: it is a file, not empty and `overwrite` is false, or holds something else.
      DiskError: the operating system refuses the name.
    """
    check_is_folder(out)
    present = contents(out)
    if present and not overwrite:
        raise RunFolderError(f"--out {out} is not empty; --overwrite replaces it")
    foreign = [
        path.name for path in present if path.is_dir() != (path.name in folders) or not written.fullmatch(path.name)
    ]
    if foreign:
        raise RunFolderError(
            f"--out {out} holds {min(foreign)}, which --overwrite would delete and this command does not write; choose "
            f"another --out"
        )


def _one_line(boxed: str) -> str:
    """tyro's complaint without the box around it, which is drawn in ASCII where the terminal has no better, its title,
    and the help of the flags that it names."""
    _, *lines = (re.sub(r"^\u2502 |\s*\u2502?\s*$", "", line) for line in boxed.splitlines())
    inside = dedent("\n".join("" if re.match(r"\s*(-{4}|[\u2500-\u257f])", line) else line for line in lines))
    paragraphs = (paragraph.splitlines() for paragraph in re.split(r"\n{2,}", inside.strip("\n")))
    text = "; ".join(_sentence(paragraph) for paragraph in paragraphs if not _TO_HELP.match(paragraph[0]))
    # A flag helps the reader, the name of a dataclass does not.
    return re.sub(r"^Error parsing (?:(--\S+: )|\S+: )", lambda match: match.group(1) or "", text)


def _sentence(lines: Sequence[str]) -> str:
    """A paragraph: what it says, and the first words of what it lists below; what is deeper still is help."""
    says = [line for line in lines if not line.startswith(" ")]
    lists = [line.split()[0] for line in lines if re.match(r" {4}\S", line)]
    return " ".join([*says, ", ".join(lists)]).strip()


_TO_HELP = re.compile("For full helptext|Argument helptext:")
