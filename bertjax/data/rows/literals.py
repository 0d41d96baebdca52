"""Lists and objects that stand in the text of a cell: as json, Python, numpy or torch write them.

Nothing of the text is executed. numpy's `['a' 'b']`, which Python would read as the one string 'ab', is a list of two.
"""

import ast
import io
import json
import re
import tokenize
import warnings
from itertools import pairwise
from typing import Any

import numpy as np

_LONGEST = 2**20  # characters; Python's parser takes hundreds of bytes for each
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_OPENED = re.compile(r"[\[({]\s*['\"]|\[\s*\d[^\]]*$")
# `array([1, 2], dtype=int32)`, numpy 2's `np.str_('a')` and the like stand for their first argument.
_WRAPPERS = re.compile(r"array|tensor|frozenset|str_|bool_?|u?int\d*|float\d*")
_WRAPPED = re.compile(r"(?:\w+\.)?(?:array|tensor|frozenset|set)\(")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NUMPY_NUMBERS = re.compile(rf"\[\s*{_NUMBER}(?:\s+{_NUMBER})*\s*\]")
_QUOTES = re.compile(r"['\"]\s*[a-zA-Z]{0,2}['\"]")  # of neighbouring strings, or of an empty one
_NUMPY_FLAGS = re.compile(r"\[\s*(?:True|False)(?:\s+(?:True|False))*\s*\]")


def looks_like_list(text: str) -> bool:
    """Whether a text begins as a list or an object of strings or numbers does, or one pair of brackets encloses it.

    >>> [looks_like_list(text) for text in ("['a', 'b'", "[a, b]", "array([1])", "[a]|[b]")]
    [True, True, True, False]
    """
    text = text.strip()
    return bool(_OPENED.match(text) or _WRAPPED.match(text)) or _is_enclosed(text)


def parse_literal(text: str) -> Any:
    """The list, tuple, set or mapping that a text spells; None where it spells none.

    >>> parse_literal("['a', 'b']"), parse_literal("[1 0 0]"), parse_literal('{"a": array([1], dtype=int32)}')
    (['a', 'b'], [1, 0, 0], {'a': [1]})
    """
    text = text.strip()
    if len(text) > _LONGEST or not (text[:1] in _BRACKETS or _WRAPPED.match(text)):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _parse_python(text)
    return value if isinstance(value, list | tuple | set | dict) else None


def plain(cell: Any) -> Any:
    """An array as a list; any other cell as it is."""
    return cell.tolist() if isinstance(cell, np.ndarray) else cell


def _is_enclosed(text: str) -> bool:
    end = _BRACKETS.get(text[:1])
    if end is None or not text.endswith(end):
        return False
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == text[0]) - (sign == end)
        if depth == 0:
            return place == len(text) - 1
    return False


def _parse_python(text: str) -> Any:
    if _NUMPY_NUMBERS.fullmatch(text) or _NUMPY_FLAGS.fullmatch(text):
        text = f"[{', '.join(text[1:-1].split())}]"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an escape such as "\d", which Python keeps as it stands
            strings = _neighbouring_strings(text)
            if strings:
                return [ast.literal_eval(string) for string in strings]
            return None if strings is None else ast.literal_eval(_Unwrapped().visit(ast.parse(text, mode="eval")))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None


def _neighbouring_strings(text: str) -> list[str] | None:
    """The items of numpy's list of strings; none where no two strings are neighbours, None where only some are."""
    if not _QUOTES.search(text):
        return []
    ignored = {tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT}
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in ignored]
    neighbours = [pair for pair in pairwise(tokens) if all(token.type == tokenize.STRING for token in pair)]
    if not neighbours:
        return []
    # Without a space it is no list of numpy, but perhaps 'it''s'.
    are_parted = all(one.end != other.start for one, other in neighbours)
    is_list = (
        are_parted
        and tokens[0].string == "["
        and tokens[-1].string == "]"
        and all(token.type == tokenize.STRING for token in tokens[1:-1])
    )
    return [token.string for token in tokens[1:-1]] if is_list else None


class _Unwrapped(ast.NodeTransformer):
    """Replaces a call of an array's or a scalar's type by its first argument."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        wraps = len(node.args) == 1 and _WRAPPERS.fullmatch(name)
        return self.visit(node.args[0]) if wraps else node
