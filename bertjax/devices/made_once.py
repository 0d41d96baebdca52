"""`made_once`: factories that return the same function object for equal settings.

The caches of JAX and of `program_store` know a function by its identity. Without this, every run of the same settings
would compile the same network again.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

_KEPT = 128  # per factory; closures over settings are small, since they hold no array and no program


def made_once(make: Callable[P, T]) -> Callable[P, T]:
    """Caches the results of `make` by its arguments, dropping the least recently used.

    The result must depend on the values of the arguments alone. A function among them, such as a user's own loss, is
    known by its identity; with an argument that cannot be hashed, nothing is cached.
    """
    kept = cast(Callable[P, T], lru_cache(maxsize=_KEPT, typed=True)(make))

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            hash((args, tuple(kwargs.items())))
        except TypeError:
            return make(*args, **kwargs)
        return kept(*args, **kwargs)

    return made
