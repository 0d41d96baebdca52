"""The Ray cluster of a job: the one at an address, the one of `RAY_ADDRESS`, or Ray on this machine."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bertjax.errors import ConfigError

# Environment variables that the workers of a job need too, on any machine.
_CARRIED = ("BERTJAX_", "GLIBC_TUNABLES", "HF_", "JAX_", "MLFLOW_", "TOKENIZERS_", "XLA_")
_PATIENCE = 5.0  # seconds; Ray itself asks an address that does not answer for a quarter of an hour
_ANY = "auto"  # Ray's word for the cluster that this machine is a node of


def join(address: str | None, **settings: Any) -> bool:
    """Connects this process with Ray.

    Args:
      address: of a cluster, HOST:PORT, or `auto` for the one that this machine is a node of; default: the one that
        `RAY_ADDRESS` names, or else Ray started on this machine.
      settings: for `ray.init`.

    Returns:
      Whether the cluster was there before.

    Raises:
      ConfigError: no cluster answers there.
    """
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    if wanted == "local":
        _init(wanted, include_dashboard=False, **settings)
        return False
    try:
        _check_port(wanted)
        _init(wanted, **settings)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {wanted} ({str(error).splitlines()[0]}); give the --address of one, with "
            f"RAY_AUTH_MODE=token where it wants a token, or leave it out to use this machine"
        ) from None
    return True


def carried_variables() -> dict[str, str]:
    """The environment variables that belong to the job and not to the machine."""
    return {name: value for name, value in os.environ.items() if name.startswith(_CARRIED)}


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Restores the handler of SIGTERM after a block that starts Ray, on the main thread; others cannot set handlers.

    Ray installs a handler of its own, which prints a C++ stack trace and aborts the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # Set even if Python reports no change: Ray's handler is installed in C++, where Python does not see it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _init(address: str, **settings: Any) -> None:
    with keeping_sigterm():
        import ray

        ray.init(address, **settings)


def _check_port(address: str) -> None:
    """Checks that a server listens at HOST:PORT; an address of another kind is left to Ray.

    Raises:
      OSError: none does.
    """
    host, _, port = address.rpartition(":")
    if address != _ANY and host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
