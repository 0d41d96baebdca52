"""`DecisionRule`: a user's Python function that decides the final label of each prediction, instead of a threshold.

    def decide(prediction: dict, row: dict | str) -> str | dict:
        return prediction["label"] if prediction["probability"] > 0.9 else "ask a human"

A rule adds to an answer and takes nothing from it: the label that it returns becomes `label`, and the model's own stays
as `predicted`.
"""

import ast
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from bertjax.errors import first_line
from bertjax.inference.predictor import Text
from bertjax.tasks.postprocess import Prediction
from bertjax.user_files import UserFileError, parsed, read_source, run_once, told

FUNCTION = "decide"
_USAGE = f"write def {FUNCTION}(prediction, row), which returns the label"


class RuleFailed(UserFileError):
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
          UserFileError: the text is no Python, ends with an error, or has no such function.
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
            raise RuleFailed(index, told(self.path, error)) from error
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
      UserFileError: the file is missing, no Python, ends with an error, or lacks the function.
    """
    return DecisionRule(str(path), read_source(path, "a rule"))


def _function(path: str, source: str) -> Callable[[Prediction, Any], Any]:
    """The function of a file's text, checked as far as it can be without a row."""
    definitions = parsed(path, source).body
    lines = [
        node.lineno
        for node in definitions
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == FUNCTION
    ]
    if len(lines) > 1:
        where = ", ".join(map(str, lines))
        raise UserFileError(f"{path} defines {FUNCTION} {len(lines)} times, on lines {where}; leave one")
    decide = getattr(run_once(path, source), FUNCTION, None)
    if decide is None:
        others = [f"{node.name} (line {node.lineno})" for node in definitions if isinstance(node, ast.FunctionDef)]
        raise UserFileError(f"{path} has no function {FUNCTION}, {_listed(others)}; {_USAGE}")
    where = f"{path} line {lines[0]}" if lines else path
    if not callable(decide):
        raise UserFileError(f"{where}: {FUNCTION} is no function; {_USAGE}")
    if inspect.iscoroutinefunction(decide) or inspect.isgeneratorfunction(decide):
        raise UserFileError(f"{where}: {FUNCTION} is a coroutine or a generator; {_USAGE}")
    if (signature := _refusing(decide)) is not None:
        raise UserFileError(f"{where}: {FUNCTION}{signature} does not take a prediction and a row; {_USAGE}")
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
