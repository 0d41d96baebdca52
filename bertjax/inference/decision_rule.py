"""`DecisionRule`: a user's Python file that decides what becomes of a model's answers, in the place of a threshold.

    def decide(prediction: dict, row: dict | str) -> str | dict:
        return prediction["label"] if prediction["probability"] > 0.9 else "ask a human"

A rule adds to an answer and takes nothing from it: the label that it returns becomes `label`, and the model's own stays
as `predicted`.
"""

import ast
import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from threading import Lock
from types import ModuleType, TracebackType
from typing import Any

from bertjax.errors import UserError, first_line
from bertjax.inference.predictor import Text
from bertjax.tasks.postprocess import Prediction

FUNCTION = "decide"
_USAGE = f"write def {FUNCTION}(prediction, row), which returns the label"
_loading = Lock()  # sys.path is the whole process's


class RuleError(UserError):
    """A user's rule that cannot be read or called."""


class RuleFailed(RuleError):
    """A rule that gave no answer to a row: it raised, or returned something else than a label or a dict.

    Attributes:
      index: of the row among those of the call, from 0.
      reason: what happened, and on which line of the file.
    """

    def __init__(self, index: int, reason: str):
        super().__init__(f"row {index + 1}: {reason}")
        self.index, self.reason = index, reason

    def __reduce__(self) -> tuple[type, tuple[int, str]]:
        return RuleFailed, (self.index, self.reason)


class DecisionRule:
    """A user's function on the answers of a model. It is called by one thread at a time or by several, as its caller
    is; between processes it travels as its source, so that a worker needs neither the file nor its module.

    Attributes:
      path: of the file, as the user gave it.
    """

    def __init__(self, path: str, source: str):
        """See `load_rule`, which reads a file.

        Args:
          path: of the file, for messages, and for imports from its folder.
          source: its text.

        Raises:
          RuleError: the text is no Python, ends with an error, or has no such function.
        """
        self.path, self._source = path, source
        self._decide = _function(path, source)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change with the file's text."""
        return hashlib.sha256(self._source.encode(errors="surrogateescape")).hexdigest()[:16]

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return DecisionRule, (self.path, self._source)

    def __call__(self, predictions: Sequence[Prediction], entries: Sequence[Text]) -> list[Prediction]:
        """The answers as the rule leaves them.

        Args:
          predictions: of the model, without a threshold (`Predictor.answer`).
          entries: what each was said of: a text, a pair, or a row's cells by column.

        Returns:
          Each prediction with `label` as decided, the model's own as `predicted` (where it has one), and whatever
          else the function returned.

        Raises:
          RuleFailed: the function raised, or returned what no answer can hold.
        """
        pairs = zip(predictions, entries, strict=True)
        return [self._decided(index, prediction, entry) for index, (prediction, entry) in enumerate(pairs)]

    def _decided(self, index: int, prediction: Prediction, entry: Text) -> Prediction:
        row = dict(entry) if isinstance(entry, Mapping) else entry
        try:
            decided = self._decide(deepcopy(prediction), row)
        except (Exception, SystemExit) as error:
            raise RuleFailed(index, _raised(self.path, error)) from error
        added = {"label": decided} if isinstance(decided, str) else decided
        if complaint := _complaint(added, prediction):
            raise RuleFailed(index, f"{self.path}: {FUNCTION} returned {complaint}")
        own = {"label": prediction["label"], "predicted": prediction["label"]} if "label" in prediction else {}
        return own | prediction | added


def load_rule(path: str | Path) -> DecisionRule:
    """Reads a user's file with a function `decide(prediction, row)`.

    Args:
      path: a Python file. It may import what is installed, and, where it is loaded, what lies beside it.

    Raises:
      RuleError: the file is missing, no Python, ends with an error, or lacks the function.
    """
    try:
        source = importlib.util.decode_source(Path(path).read_bytes())
    except OSError as error:
        raise RuleError(f"{path} cannot be read: {error.strerror or error}; give a Python file with a rule") from None
    except (SyntaxError, ValueError) as error:  # an encoding that Python does not know, or other bytes than it has
        raise RuleError(f"{path} is no Python: {first_line(error)}") from None
    return DecisionRule(str(path), source)


def _function(path: str, source: str) -> Callable[[Prediction, Any], Any]:
    """The function of a file's text, checked as far as it can be without a row."""
    try:
        definitions = ast.parse(source, path).body
    except (SyntaxError, ValueError) as error:  # a NUL is the latter before Python 3.11.4
        raise RuleError(_raised(path, error)) from None
    lines = [
        node.lineno
        for node in definitions
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == FUNCTION
    ]
    if len(lines) > 1:
        where = ", ".join(map(str, lines))
        raise RuleError(f"{path} defines {FUNCTION} {len(lines)} times, on lines {where}; leave one")
    decide = getattr(_module(path, source), FUNCTION, None)
    if decide is None:
        others = [f"{node.name} (line {node.lineno})" for node in definitions if isinstance(node, ast.FunctionDef)]
        raise RuleError(f"{path} has no function {FUNCTION}, {_listed(others)}; {_USAGE}")
    where = f"{path} line {lines[0]}" if lines else path
    if not callable(decide):
        raise RuleError(f"{where}: {FUNCTION} is no function; {_USAGE}")
    if inspect.iscoroutinefunction(decide) or inspect.isgeneratorfunction(decide):
        raise RuleError(f"{where}: {FUNCTION} is a coroutine or a generator; {_USAGE}")
    if (signature := _refusing(decide)) is not None:
        raise RuleError(f"{where}: {FUNCTION}{signature} does not take a prediction and a row; {_USAGE}")
    return decide


def _refusing(decide: Callable[..., Any]) -> inspect.Signature | None:
    """The signature of a function that cannot be called with a prediction and a row; None where it can."""
    try:
        signature = inspect.signature(decide)
    except ValueError:  # some callables of extension modules have none
        return None
    try:
        signature.bind({}, "")
    except TypeError:
        return signature
    return None


def _listed(functions: Sequence[str]) -> str:
    return f"only {', '.join(functions)}" if functions else "nor any other"


def _module(path: str, source: str) -> ModuleType:
    """The file as a module of a name that no other module has; run once a process."""
    digest = hashlib.sha256(f"{path}\n{source}".encode(errors="surrogateescape")).hexdigest()[:12]
    name = f"bertjax_rule_{digest}"
    with _loading:
        if name in sys.modules:
            return sys.modules[name]
        module = ModuleType(name)
        module.__file__ = path
        folder = str(Path(path).resolve().parent)
        sys.modules[name] = module  # dataclasses and pickle look a class's module up
        is_new = folder not in sys.path
        if is_new:
            sys.path.append(folder)  # last: nothing beside the rule hides what is installed
        try:
            exec(compile(source, path, "exec", dont_inherit=True), vars(module))
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise RuleError(_raised(path, error)) from error
        finally:
            if is_new and folder in sys.path:
                sys.path.remove(folder)
        return module


def _raised(path: str, error: BaseException) -> str:
    """An error of the user's code in one line, with the line of the file that it came from."""
    message = first_line(error)
    if isinstance(error, SyntaxError) and error.filename == path:
        message, line = error.msg, error.lineno
    else:
        line = _line_in(path, error.__traceback__)
    name = type(error).__name__
    return f"{path}{f' line {line}' if line else ''}: {name}{'' if message == name else f': {message}'}"


def _line_in(path: str, traceback: TracebackType | None) -> int | None:
    """The innermost line of a file in a traceback."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _complaint(added: Any, prediction: Prediction) -> str | None:
    """What is wrong with what a rule returned; None where it can be an answer."""
    if not isinstance(added, dict):
        return f"{type(added).__name__}; it must return a label, or a dict with one under 'label'"
    try:
        json.dumps(added, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return f"what JSON cannot hold: {first_line(error)}; use text, numbers, lists and dicts"
    if not all(isinstance(key, str) for key in added):
        return "a dict with a key that is no text"
    if not isinstance(added.get("label", ""), str):
        return f"a label of type {type(added['label']).__name__}, which is no text"
    own = {**prediction, "predicted": None}
    if changed := next((key for key in added if key != "label" and key in own and added[key] != own[key]), None):
        return f"another {changed!r}; that is the model's own, and a rule changes 'label' only or adds keys"
    return None
