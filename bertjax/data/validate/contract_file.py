"""The file of a data contract, a JSON object in which every key is optional:

{
  "columns": {"id": "integer", "text": "text", "label": "text", "sent": "datetime", "score": "number"},
  "unique": [["id"], ["text", "label"]],
  "not_null": ["text", "label"],
  "labels": ["ham", "spam"],
  "min_characters": 2,
  "max_characters": 4000,
  "min_rows": 100
}
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from bertjax.data.rows.cells import label_text
from bertjax.data.validate.contract import ColumnType, Contract
from bertjax.errors import ConfigError


def read_contract(path: str) -> Contract:
    """Reads a contract.

    Raises:
      ConfigError: no such file, no JSON object, an unknown key, or a value of another kind.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"contract {path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # neither JSON nor, perhaps, UTF-8
        raise ConfigError(f"contract {path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"contract {path} must hold a JSON object, got {type(values).__name__}")
    unknown = sorted(set(values) - set(_READERS))
    if unknown:
        raise ConfigError(f"contract {path}: unknown {', '.join(map(repr, unknown))}; there are {', '.join(_READERS)}")
    settings = {}
    for key, value in values.items():
        read, expected = _READERS[key]
        settings[key] = read(value)
        if settings[key] is None:
            raise ConfigError(f"contract {path}: {key!r} must be {expected}, got {json.dumps(value)}")
    contract = Contract(**settings)
    if contract.max_characters is not None and contract.max_characters < contract.min_characters:
        raise ConfigError(
            f"contract {path}: max_characters {contract.max_characters} is below min_characters "
            f"{contract.min_characters}"
        )
    return contract


# Each function parses one kind of value, and returns None for any other.


def _columns(value: Any) -> dict[str, ColumnType] | None:
    if not isinstance(value, dict) or not all(kind in get_args(ColumnType) for kind in value.values()):
        return None
    return value


def _names(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return None
    return tuple(value)


def _keys(value: Any) -> tuple[tuple[str, ...], ...] | None:
    keys = [_names(key) for key in value] if isinstance(value, list) else [None]
    return None if not all(keys) else tuple(key for key in keys if key)


def _labels(value: Any) -> tuple[str, ...] | None:
    labels = [label_text(label) for label in value] if isinstance(value, list) else []
    return None if not labels or None in labels else tuple(label for label in labels if label is not None)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


_READERS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "columns": (_columns, f"an object of columns and their types ({', '.join(get_args(ColumnType))})"),
    "unique": (_keys, "a list of keys, each a list of columns"),
    "not_null": (_names, "a list of columns"),
    "labels": (_labels, "a list of labels, strings or integers"),
    "min_characters": (_count, "a count"),
    "max_characters": (_count, "a count"),
    "min_rows": (_count, "a count"),
}
