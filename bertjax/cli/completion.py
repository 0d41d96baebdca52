"""`bertjax completion`: a script that lets a shell complete commands and flags; the flags are those that help shows."""

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import tyro

from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.main import COMMANDS

_BASH = """\
_bertjax() {{
  local words current="${{COMP_WORDS[COMP_CWORD]}}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands}"
  else
    case "$current" in -*) ;; *) return ;; esac
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _bertjax bertjax"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit"


@dataclass(frozen=True)
class Arguments:
    """Print a script that completes commands and flags.

    bash: `source <(bertjax completion bash)` in ~/.bashrc; zsh: the same with zsh in ~/.zshrc, after compinit;
    fish: `bertjax completion fish > ~/.config/fish/completions/bertjax.fish`.
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """The shell."""


def main(arguments: Sequence[str]) -> int:
    """Prints the script."""
    shell = parse(Arguments, arguments, "bertjax completion").shell
    flags = {command: _flags_of(command) for command in COMMANDS}
    print(_fish(flags) if shell == "fish" else _bash(flags) if shell == "bash" else f"{_ZSH}\n{_bash(flags)}")
    return 0


def _flags_of(command: str) -> list[str]:
    """The flags in the help of a command."""
    shown = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(shown):
        import_module(f"bertjax.cli.{command.replace('-', '_')}").main(["--help"])
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][\w-]*", shown.getvalue())) | {"--help"})


def _bash(flags: Mapping[str, Sequence[str]]) -> str:
    cases = "\n".join(f'      {command}) words="{" ".join(names)}" ;;' for command, names in flags.items())
    return _BASH.format(commands=" ".join(flags), cases=cases)


def _fish(flags: Mapping[str, Sequence[str]]) -> str:
    commands = [f'complete -c bertjax -n __fish_use_subcommand -f -a {name} -d "{COMMANDS[name]}"' for name in flags]
    options = [
        f'complete -c bertjax -n "__fish_seen_subcommand_from {command}" -l {flag.removeprefix("--")}'
        for command, names in flags.items()
        for flag in names
    ]
    return "\n".join([*commands, *options])
