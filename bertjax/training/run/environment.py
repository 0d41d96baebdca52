"""The environment of a run: versions, machine, devices and the commit of the user's own code, as plain values.

Together with the settings, the hashes of rows and weights, and the command, it determines the numbers of a run.
"""

import os
import platform
import shlex
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax

import bertjax

_GIT_SECONDS = 5
_PACKAGES = (
    "jax", "jaxlib", "dm-haiku", "optax", "orbax-checkpoint", "numpy", "pandas", "scikit-learn", "transformers",
    "tokenizers", "safetensors", "ray", "mlflow",
)  # fmt: skip
# Environment variables that can change a number.
_VARIABLES = (
    "XLA_FLAGS", "JAX_PLATFORMS", "JAX_DEFAULT_PRNG_IMPL", "JAX_THREEFRY_PARTITIONABLE", "JAX_RANDOM_SEED_OFFSET",
)  # fmt: skip


def describe_environment() -> dict[str, str]:
    """Facts about this process, by name; the commit is that of the current folder, where it is in a git repository."""
    devices = jax.devices()
    return {
        "bertjax": bertjax.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "host": platform.node(),
        "platform": platform.platform(),
        "device_kind": devices[0].device_kind,
        "device_count": str(len(devices)),
        "process_count": str(jax.process_count()),
        **_variables(),
        **_commit(),
    }


def computing_facts() -> dict[str, str]:
    """What the bits of a run depend on besides its settings, rows and weights, by name."""
    devices = jax.devices()
    kinds = sorted({device.device_kind for device in devices})
    config: Any = jax.config
    partitionable = ", partitionable" if config.jax_threefry_partitionable else ""
    offset = f", seed offset {config.jax_random_seed_offset}" if config.jax_random_seed_offset else ""
    return {
        "devices": f"{len(devices)} x {' and '.join(kinds)}",
        "prng": config.jax_default_prng_impl + partitionable + offset,
        "bertjax": bertjax.__version__,
        "jax": jax.__version__,
    }


def package_versions() -> dict[str, str]:
    """Package -> version, for the packages that a run computes with; Ray and MLflow may be absent."""
    versions = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def with_variables(command: str) -> str:
    """A command preceded by the environment variables that change its numbers."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in _variables().items()), command])


def _variables() -> dict[str, str]:
    return {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}


def _commit() -> dict[str, str]:
    try:
        commit = _git("rev-parse", "HEAD")
        return {"git_commit": commit, "git_dirty": str(_git("status", "--porcelain") != "").lower()}
    except (OSError, subprocess.SubprocessError):
        return {}  # no git, no repository, or no commit in it


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=_GIT_SECONDS)
    return done.stdout.strip()
