"""`PROGRAMS`: the cache of the compiled programs of this process.

The key is all that a program depends on: the function, the devices and how it runs on them, the types of its arguments,
XLA's options, and JAX's settings. The function object stands for the settings that it was made from (`made_once`). The
store keeps its keys alive, so an identity in a key is never reused for another object.

The programs of a MiniLM-L6 run take about 75 MiB, and 520 of the 65,530 memory maps that Linux allows a process, so
only the most recently used ones are kept. JAX keeps a program as long as the function that it traced; therefore a
fresh wrapper is compiled, which is released with its program.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from functools import wraps
from threading import Lock
from types import MappingProxyType
from typing import Any

import jax

from bertjax.devices.data_parallel import Devices

_MOST = 32  # a run has 3 to 8

Compiled = Callable[..., Any]


class ProgramStore:
    """A thread-safe cache of programs, which drops the least recently used.

    Attributes:
      compiled: number of programs compiled so far.
    """

    def __init__(self, most: int):
        """An empty store of at most `most` programs."""
        self._most = most
        self._programs: OrderedDict[Hashable, Future[Compiled]] = OrderedDict()
        self._lock = Lock()
        self.compiled = 0

    def get(self, key: Hashable, compiled: Callable[[], Compiled]) -> Compiled:
        """The program of a key; the first caller compiles it, and others wait for that.

        Raises:
          Whatever `compiled` raises; the next call tries again.
        """
        with self._lock:
            future = self._programs.get(key)
            is_new = future is None
            if future is None:
                future = self._programs[key] = Future()
            self._programs.move_to_end(key)
            while len(self._programs) > self._most:
                self._programs.popitem(last=False)
        if is_new:
            try:
                program = compiled()
                with self._lock:
                    self.compiled += 1  # before anyone can have it
                future.set_result(program)
            except BaseException as error:
                with self._lock:
                    if self._programs.get(key) is future:
                        del self._programs[key]
                future.set_exception(error)
        return future.result()

    def clear(self) -> None:
        """Drops all programs; one that is still referenced elsewhere stays usable there."""
        with self._lock:
            self._programs.clear()

    def __len__(self) -> int:
        return len(self._programs)


PROGRAMS = ProgramStore(_MOST)


def mapped_program(
    devices: Devices,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    summed: bool,
    donate: bool = False,
    overwrites: bool = False,
    options: Mapping[str, str] = MappingProxyType({}),
    made: Callable[[], None] = lambda: None,
) -> Compiled:
    """The compiled program of `Devices.map` for a function.

    Args:
      devices: where it runs.
      function: pure.
      arguments: those that it will be called with, or others of their types and shardings.
      summed, donate, overwrites: of `Devices.map`.
      options: of XLA; dropped where its version does not know one of them.
      made: called when the program is compiled, and not when it is found in the store.
    """

    def compiled() -> Compiled:
        made()
        mapped = devices.map(_wrapped(function), summed=summed, donate=donate, overwrites=overwrites)
        return _compiled(mapped.lower(*arguments), options)

    way = (devices, summed, donate, overwrites, tuple(options.items()))
    return PROGRAMS.get((function, way, _types(arguments), _settings()), compiled)


def replicated_program(devices: Devices, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Compiled:
    """The compiled program of a function of replicated values, with a replicated result; donates its first argument."""

    def compiled() -> Compiled:
        jitted = jax.jit(_wrapped(function), donate_argnums=0, out_shardings=devices.everywhere)
        return _compiled(jitted.lower(*arguments), {})

    return PROGRAMS.get((function, devices, _types(arguments), _settings()), compiled)


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """A new function object that calls the function; JAX releases its caches with it."""

    @wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def _compiled(lowered: Any, options: Mapping[str, str]) -> Compiled:
    try:
        program: Compiled = lowered.compile(dict(options) or None)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        program = lowered.compile()
    return program


def _types(arguments: Any) -> Hashable:
    """The tree structure of arrays, and the type and sharding of each."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple((jax.typeof(leaf), getattr(leaf, "sharding", None)) for leaf in leaves)


def _settings() -> Hashable:
    """JAX's settings in this thread."""
    return tuple((name, getattr(jax.config, name, value)) for name, value in sorted(jax.config.values.items()))
