"""The code of the documents: fenced blocks, code in the middle of a sentence, and the command lines in both."""

import re
import shlex
from importlib import import_module
from typing import Any, NamedTuple

import pytest

from bertjax.cli.main import COMMANDS
from tests.support.processes import ROOT

PAGES = ("README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(
    r"(?:<!-- not run by the tests: (?P<reason>[^\n]+) -->\n)?"
    r'^```(?P<language>\w*)(?: title="(?P<file>[^"]+)")?\n(?P<code>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
_PIECE = re.compile(r"""(?:'[^']*'|"[^"]*"|[^'"|&])+""")  # of a line, between && and |


class Block(NamedTuple):
    """A fenced block.

    Attributes:
      page: its page, below the checkout.
      line: of the page, on which the fence opens.
      language: bash, python, ...
      file: the name of the file that it is, by the fence's `title`; None for what is no file.
      code: what is between the fences.
      reason: why no test runs it, by the comment above it; None for what is run.
    """

    page: str
    line: int
    language: str
    file: str | None
    code: str
    reason: str | None


def text_of(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in its order."""
    text = text_of(page)
    return [
        Block(page, text.count("\n", 0, found.start("language")) + 1, **found.groupdict())
        for found in _BLOCK.finditer(text)
    ]


def outside_of_blocks(page: str) -> str:
    """The text of a page without its fenced blocks."""
    return _BLOCK.sub("", text_of(page))


def spans(page: str) -> list[str]:
    """The code in the middle of sentences and in cells of tables, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside_of_blocks(page))]


def command_lines(code: str) -> list[list[str]]:
    r"""The words of each command of a shell's code; comments are left out, and continued lines are one.

    >>> command_lines("A=1 one --x 'a b'  # why\ntwo && three | four > file")
    [['A=1', 'one', '--x', 'a b'], ['two'], ['three'], ['four', '>', 'file']]
    """
    lines = re.sub(r"(^|\s)#\s.*", "", code.replace("\\\n", " "), flags=re.MULTILINE).splitlines()
    pieces = [piece for line in lines for piece in _PIECE.findall(line)]
    return [words for piece in pieces if (words := shlex.split(piece))]


class Parsed(Exception):
    """A command line was read without an error."""


def parses(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """Reads the words after `bertjax` as the command does, and goes no further.

    Raises:
      UserError: what the command would say.
    """
    command, *flags = words
    assert command in COMMANDS, words
    module = import_module(f"bertjax.cli.{command.replace('-', '_')}")
    with monkeypatch.context() as patches:
        for name in {"parse", "parse_job"} & vars(module).keys():
            reads = getattr(module, name)

            def stop(*args: Any, reads: Any = reads, **kwargs: Any) -> None:
                raise Parsed(reads(*args, **kwargs))

            patches.setattr(module, name, stop)
        with pytest.raises(Parsed):
            module.main(flags)
