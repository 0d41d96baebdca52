"""Reads the checks of a user's file: YAML, or Python with `CHECKS`."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from bertjax.errors import ConfigError
from bertjax.evaluation.behaviour.behaviour_checks import BehaviourCheck
from bertjax.evaluation.behaviour.located import Located, of_python
from bertjax.evaluation.behaviour.read_checks import Checks, read_checks
from bertjax.user_files import UserFileError, read_source, run_once

_NULL = "tag:yaml.org,2002:null"


def load_checks(path: str | Path) -> Checks:
    """Reads and checks a file, as far as that can be done without a model.

    Args:
      path: of a YAML file, or of a Python file (`.py`), which may import what is installed, and what lies beside it.

    Raises:
      ConfigError: the file is missing, or has a mistake; the message names its line.
    """
    path = str(path)
    if path.endswith(".py"):
        return read_checks(_of_module(run_once(path, read_source(path, "checks of behaviour")), path), path)
    return read_checks(_of_yaml(_read(path), path), path)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserFileError(f"{path} cannot be read: {error.strerror or error}; give a file with checks") from None
    except ValueError as error:
        raise UserFileError(f"{path} is no text in UTF-8: {error}") from None


def _of_yaml(text: str, path: str) -> Located:
    """A YAML document; texts, numbers and labels stay as they are written.

    Raises:
      UserFileError: it is no YAML, or has a key twice.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise UserFileError(f"{path} is empty; give it a list of checks")
        return _Nodes(path).located(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 0 if mark is None else mark.line
        hint = "; a text with a brace or a colon needs quotes" if set("{}:[]") & set(_line(text, line)) else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise UserFileError(f"{path} line {line + 1}: {problem}{hint}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        raise UserFileError(f"{path} line {line + 1}: {error.reason}") from None
    except RecursionError:
        raise UserFileError(f"{path} is nested too deeply, or within itself") from None


def _line(text: str, number: int) -> str:
    lines = text.split("\n")
    return lines[number] if number < len(lines) else ""


class _Nodes:
    """Nodes of a YAML document as values; one that several aliases name is read once."""

    def __init__(self, path: str):
        self._path = path
        self._contents: dict[int, Any] = {}

    def located(self, node: Any, place: str = "") -> Located:
        """A node as a value; `place` is that of its key, where it has one."""
        if id(node) not in self._contents:
            self._contents[id(node)] = self._content(node)
        return Located(self._contents[id(node)], place or self._place(node))

    def _content(self, node: Any) -> Any:
        if node.id == "scalar":
            return None if node.tag == _NULL else node.value
        if node.id == "sequence":
            return [self.located(item) for item in node.value]
        entries: dict[str, Located] = {}
        for key, value in node.value:
            place = self._place(key)
            if key.id != "scalar":
                raise UserFileError(f"{place}: a key must be a word; a text that begins with a brace needs quotes")
            if key.value in entries:
                raise UserFileError(f"{place}: {key.value!r} is given twice")
            entries[key.value] = self.located(value, place)
        return entries

    def _place(self, node: Any) -> str:
        return f"{self._path} line {node.start_mark.line + 1}"


# Constant of a Python file -> the key of a YAML file.
_CONSTANTS = {"SEED": "seed", "MOST_TEXTS": "most_texts", "SLOTS": "slots"}


def _of_module(module: ModuleType, path: str) -> Located:
    """The checks and constants of a Python file, as those of a YAML file.

    Raises:
      ConfigError: it has no checks, or something else among them.
    """
    settings = {
        key: of_python(getattr(module, constant), f"{path}: {constant}")
        for constant, key in _CONSTANTS.items()
        if hasattr(module, constant)
    }
    checks = Located([_of_check(check, path) for check in _checks(module, path)], path)
    return Located({"checks": checks, **settings}, path)


def _checks(module: ModuleType, path: str) -> Sequence[Any]:
    listed = getattr(module, "CHECKS", None)
    if listed is None:
        made = [value for value in vars(module).values() if isinstance(value, BehaviourCheck)]
        listed = list({id(check): check for check in made}.values())
    if not isinstance(listed, list | tuple):
        raise ConfigError(f"{path}: CHECKS is no list; make it one of BehaviourCheck")
    if not listed:
        raise ConfigError(
            f"{path} has no checks; give it CHECKS, a list of BehaviourCheck, or functions under @behaviour_check "
            f"(from bertjax import BehaviourCheck, behaviour_check)"
        )
    return listed


def _of_check(check: Any, path: str) -> Located:
    if not isinstance(check, BehaviourCheck):
        raise ConfigError(f"{path}: CHECKS holds {check!r}, which is no BehaviourCheck")
    return of_python(check.written, f"{path}: check {check.name!r}")
