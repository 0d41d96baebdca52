"""`made_once`: functions that make functions, which make the same one for the same settings.

JAX, and `devices.program_store`, know a function by its identity: the network of equal settings must be the same
object, or every run would compile it again.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

_KEPT = 128  # of each maker: closures over settings, which hold no array and no program


def made_once(make: Callable[P, T]) -> Callable[P, T]:
    """`make`, whose result is kept for calls with equal arguments; the least recently used ones are let go.

    The result must depend on the values of its arguments alone. Where one of them has no value, such as a user's own
    function, its identity stands for it; where it cannot be hashed, nothing is kept.
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
