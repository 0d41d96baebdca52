"""`PROGRAMS`: the compiled programs of this process, in one place, by what they depend on.

A program depends on the function it computes, on the devices and how it runs on them, on the types of its arguments, on
XLA's options, and on JAX's settings. All of it is in the key. The function stands for every setting that it was made
from: `made_once` gives the same function for equal settings, and a function that is made anew has programs of its own.
Nothing is shared by a name or by an address: the store holds what is in its keys.

The programs of a run of MiniLM-L6 take about 520 of the 65,530 memory maps that Linux gives a process, and 75 MiB: only
those that were used last are kept. JAX keeps a program while the function that it traced is alive, so what is compiled
here is a wrapper that ends with it.
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
    """Programs by key, of which the least recently used are let go; several threads may ask for one.

    Attributes:
      compiled: number of the programs that it was the first to ask for, and that are ready.
    """

    def __init__(self, most: int):
        """Empty, for so many programs at most."""
        self._most = most
        self._programs: OrderedDict[Hashable, Future[Compiled]] = OrderedDict()
        self._lock = Lock()
        self.compiled = 0

    def get(self, key: Hashable, compiled: Callable[[], Compiled]) -> Compiled:
        """The program of a key, compiled by the first that asks; others wait for it.

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
        """Lets go of all programs; who uses one keeps it as long as that."""
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
    """The program of a function that `Devices.map` runs on all devices.

    Args:
      devices: where it runs.
      function: pure.
      arguments: placed values, dealt rows, and the values that it overwrites, if any; only their types matter.
      summed, donate, overwrites: of `Devices.map`.
      options: of XLA; left out where its version has none of such a name.
      made: called where it is compiled, and was not there.
    """

    def compiled() -> Compiled:
        made()
        mapped = devices.map(_wrapped(function), summed=summed, donate=donate, overwrites=overwrites)
        return _compiled(mapped.lower(*arguments), options)

    way = (devices, summed, donate, overwrites, tuple(options.items()))
    return PROGRAMS.get((function, way, _types(arguments), _settings()), compiled)


def replicated_program(devices: Devices, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Compiled:
    """The program of a function of placed values, which every device computes; its result takes the buffers of the
    first argument."""

    def compiled() -> Compiled:
        jitted = jax.jit(_wrapped(function), donate_argnums=0, out_shardings=devices.everywhere)
        return _compiled(jitted.lower(*arguments), {})

    return PROGRAMS.get((function, devices, _types(arguments), _settings()), compiled)


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as a new one, with which JAX lets go of what it keeps of it."""

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
    """The structure of arrays, and the type and place of each: all that a program depends on."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple((jax.typeof(leaf), getattr(leaf, "sharding", None)) for leaf in leaves)


def _settings() -> Hashable:
    """JAX's settings, as the thread that compiles has them."""
    return tuple((name, getattr(jax.config, name, value)) for name, value in sorted(jax.config.values.items()))
