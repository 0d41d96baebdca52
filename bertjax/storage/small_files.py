"""Reads small files that bertjax wrote; a damaged one (truncated, emptied, edited, replaced) is a one-line error."""

import json
from pathlib import Path
from typing import Any

from bertjax.errors import RunFolderError, UserError
from bertjax.storage.file_faults import file_fault


def read_text(path: Path, remedy: str, error: type[UserError] = RunFolderError) -> str | None:
    """The text of a file; None where there is no file.

    Args:
      path: of the file.
      remedy: how the user mends a file that cannot be read; ends the message.
      error: of that message.

    Raises:
      UserError: `error`: the path is a folder, or the content is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        raise error(f"{path} is a folder, where there must be a file; {remedy}") from None
    except UnicodeDecodeError:
        raise error(f"{path} {file_fault(path) or 'is not text'}; {remedy}") from None
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}; {remedy}") from None


def read_object(path: Path, remedy: str, error: type[UserError] = RunFolderError) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file. Arguments and errors are those of `read_text`."""
    text = read_text(path, remedy, error)
    if text is None:
        return None
    if not text.strip():
        raise error(f"{path} is empty; {remedy}")
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as problem:
        raise error(f"{path} {file_fault(path) or f'is not valid JSON: {problem}'}; {remedy}") from None
    if not isinstance(values, dict):
        raise error(f"{path} must hold a JSON object, got {type(values).__name__}; {remedy}")
    return values


def read_numbers(path: Path, remedy: str) -> dict[str, float] | None:
    """The JSON object of numbers in a file; as `read_object`."""
    values = read_object(path, remedy)
    for key, value in (values or {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RunFolderError(f"{path}: {key} must be a number, got {value!r}; {remedy}")
    return values
