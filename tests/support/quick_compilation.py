"""Compilation in an eighth of the time, for tests of what bertjax does rather than of its numbers.

XLA still fuses operations, but emits plain code for each fusion, of which LLVM optimizes nothing.
"""

import os
from typing import Any

import jax
from jax._src import compiler

from bertjax.devices.program_store import PROGRAMS

_PLAIN: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_experimental_ynn_fusion_type": "",
    "xla_cpu_parallel_codegen_split_count": 1,
}
_OF_USERS = compiler.get_compile_options


def set_compilation(*, quick: bool) -> None:
    """Compiles quickly, or as for users; in the processes that this one starts, quickly is in half of the time."""
    wanted = _plain if quick else _OF_USERS
    # Of the settings above, JAX has only the first two; XLA_FLAGS would be a part of the commands that repeat a run.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1" if quick else "0"
    if compiler.get_compile_options is not wanted:
        compiler.get_compile_options = wanted
        PROGRAMS.clear()  # what is there is not compiled again
        jax.clear_caches()


def _plain(*arguments: Any, env_options_overrides: dict[str, Any] | None = None, **settings: Any) -> Any:
    overrides = _PLAIN | (env_options_overrides or {})
    return _OF_USERS(*arguments, env_options_overrides=overrides, **settings)
