"""Loads a user's Python file as a module of its own; its errors are reported in one line with file and line number."""

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from types import ModuleType, TracebackType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from bertjax.errors import ConfigError, UserError, first_line

_loading = Lock()  # sys.path is the whole process's


class UserFileError(ConfigError):
    """A user's Python file that cannot be read, run or used."""


def read_source(path: str | Path, purpose: str) -> str:
    """The text of a file.

    Args:
      path: of the file.
      purpose: what it should hold, for the message.

    Raises:
      UserFileError: the file is missing, or no text in the encoding that it names.
    """
    try:
        return importlib.util.decode_source(Path(path).read_bytes())
    except OSError as error:
        reason = error.strerror or error
        raise UserFileError(f"{path} cannot be read: {reason}; give a Python file with {purpose}") from None
    except (SyntaxError, ValueError) as error:  # an encoding that Python does not know, or other bytes than it has
        raise UserFileError(f"{path} is no Python: {first_line(error)}") from None


def parsed(path: str, source: str) -> ast.Module:
    """The syntax tree of a file's text.

    Raises:
      UserFileError: it is no Python.
    """
    try:
        return ast.parse(source, path)
    except (SyntaxError, ValueError) as error:  # a NUL is the latter before Python 3.11.4
        raise UserFileError(told(path, error)) from None


def run_once(path: str, source: str) -> ModuleType:
    """The file as a module of a name that no other module has; the same text is run once a process.

    It may import what is installed, and what lies beside it.

    Raises:
      UserFileError: it is no Python, or ends with an error.
    """
    parsed(path, source)
    digest = hashlib.sha256(f"{path}\n{source}".encode(errors="surrogateescape")).hexdigest()[:12]
    name = f"bertjax_user_file_{digest}"
    with _loading:
        if name in sys.modules:
            return sys.modules[name]
        module = ModuleType(name)
        module.__file__ = path
        folder = str(Path(path).resolve().parent)
        sys.modules[name] = module  # dataclasses and pickle look a class's module up
        is_new = folder not in sys.path
        if is_new:
            sys.path.append(folder)  # last: nothing beside the file hides what is installed
        try:
            exec(compile(source, path, "exec", dont_inherit=True), vars(module))
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise UserFileError(told(path, error)) from error
        finally:
            if is_new and folder in sys.path:
                sys.path.remove(folder)
        return module


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str: ...


F = TypeVar("F", bound=Named)


class FunctionKind(NamedTuple, Generic[F]):
    """A kind of functions that a user's file may have.

    Attributes:
      noun: what they are, such as "labelling function".
      listing: the name of the list of them, where a file has one; in it may be plain functions too.
      usage: how one is written, for a file that has none.
      is_one: whether a value of the file is such a function, made by a decorator or a call.
      from_callable: makes one of anything in the list. Raises ConfigError where that cannot be.
    """

    noun: str
    listing: str
    usage: str
    is_one: Callable[[Any], bool]
    from_callable: Callable[[Any], F]


def functions_of(module: ModuleType, path: str, kind: FunctionKind[F]) -> tuple[F, ...]:
    """The functions of a kind in a file: those of its list, where it has one, else whatever it decorates or makes by a
    call, in that order.

    Raises:
      UserFileError: there are none, two of one name, or something in the list is none.
    """
    functions = tuple(_found(module, path, kind))
    if not functions:
        raise UserFileError(f"{path} has no {kind.noun}; write one {kind.usage}")
    names = [function.name for function in functions]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserFileError(f"{path} has two {kind.noun}s named {twice!r}; give one of them another name=")
    return functions


def _found(module: ModuleType, path: str, kind: FunctionKind[F]) -> Iterable[F]:
    listed = getattr(module, kind.listing, None)
    if listed is None:
        made = {id(value): value for value in vars(module).values() if kind.is_one(value)}
        return [kind.from_callable(value) for value in made.values()]
    if not isinstance(listed, list | tuple):
        raise UserFileError(f"{path}: {kind.listing} is no list; make it one of {kind.noun}s")
    try:
        return [kind.from_callable(function) for function in listed]
    except ConfigError as error:
        raise UserFileError(f"{path}: {kind.listing}: {error}") from None


def accepts(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments; of one without a signature it is one."""
    try:
        inspect.signature(function).bind(*[""] * count)
    except TypeError:
        return False
    except ValueError:  # some callables of extension modules have no signature
        return count == 1
    return True


def told(path: str, error: BaseException) -> str:
    """An error of a user's code in one line, with the line of the file that it came from."""
    if isinstance(error, SyntaxError) and error.filename == path:
        message, line = error.msg, error.lineno
    else:
        message, line = first_line(error), _line_in(path, error.__traceback__)
    place, name = f"{path} line {line}" if line else path, type(error).__name__
    if isinstance(error, UserError):  # of a call of ours in the file
        return f"{place}: {message}"
    return f"{place}: {name}{'' if message == name else f': {message}'}"


def _line_in(path: str, traceback: TracebackType | None) -> int | None:
    """The innermost line of a file in a traceback."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
