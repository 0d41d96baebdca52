"""The devices that JAX sees, and how fast they are.

The checks run in a process of their own: a wrong `XLA_FLAGS` ends the process that imports JAX, and a GPU's memory is
taken until the process ends.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bertjax.doctor.check import Check

if TYPE_CHECKING:
    import jax

_SECONDS = 300.0
_BYTES, _BYTES_ON_CPU = 2**30, 2**28  # of the array that is copied; more than any cache holds
_ROUNDS = 5
_NVIDIA = Path("/proc/driver/nvidia/version")


def check_devices(environment: Mapping[str, str], seconds: float = _SECONDS) -> list[Check]:
    """The devices, their speed, and the variables that change it.

    Args:
      environment: variables of the process that looks.
      seconds: after which a device counts as one that does not answer.
    """
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        found = f"JAX did not answer within {seconds:.0f} s"
        return [Check("devices", "bad", found, "see whether another program holds the device (nvidia-smi)")]
    if done.returncode:
        return [_failure(done.stderr, environment)]
    return [Check(*fields) for fields in json.loads(done.stdout.splitlines()[-1])]


def _failure(stderr: str, environment: Mapping[str, str]) -> Check:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["no message"]
    told = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    flags = next((line for line in lines if "XLA_FLAGS" in line), None)
    if flags is not None:
        found = f"JAX does not start: {flags.rpartition('] ')[2]}"
        return Check("devices", "bad", found, f"unset or correct XLA_FLAGS ({environment.get('XLA_FLAGS', '')})")
    reason = told[-1] if told else lines[-1]
    platforms = environment.get("JAX_PLATFORMS")
    if platforms:
        found = f"JAX finds no device of JAX_PLATFORMS={platforms} ({reason})"
        return Check("devices", "bad", found, "unset JAX_PLATFORMS, or install the extra for it, cuda or tpu")
    return Check("devices", "bad", f"JAX does not start: {reason}", "pip install --upgrade bertjax")


def _measure() -> list[Check]:
    """The checks, in the process that imports JAX."""
    import jax

    from bertjax.config import Execution
    from bertjax.training.step.mfu import matmul_peak

    devices = tuple(jax.local_devices())
    kind, platform = devices[0].device_kind, devices[0].platform
    checks = [_devices_check(kind, platform, len(devices))]
    peak = matmul_peak(devices, Execution())
    checks.append(Check("matmul peak", "ok", f"{peak / 1e12:.2f} TFLOP/s in float32, all devices together"))
    bandwidth = memory_bandwidth(devices[0])
    checks.append(Check("memory bandwidth", "ok", f"{bandwidth / 1e9:.1f} GB/s read and written, of one device"))
    if platform == "gpu":
        checks.append(check_gpu_flags(os.environ))
    return checks


def _devices_check(kind: str, platform: str, count: int) -> Check:
    found = f"{count} x {kind} ({platform})"
    if platform == "cpu" and _NVIDIA.exists() and os.environ.get("JAX_PLATFORMS") in (None, ""):
        return Check("devices", "warn", f"{found}, though there is an NVIDIA GPU", "pip install 'bertjax[cuda]'")
    return Check("devices", "ok", found)


def check_gpu_flags(environment: Mapping[str, str]) -> Check:
    """The variables that change how fast a GPU trains."""
    flags = environment.get("XLA_FLAGS", "")
    if "--xla_gpu_autotune_level=0" in flags:
        found = "XLA_FLAGS has --xla_gpu_autotune_level=0: a step takes several times as long"
        return Check("GPU flags", "warn", found, "leave it out; --deterministic sets it where it is wanted")
    if environment.get("XLA_PYTHON_CLIENT_ALLOCATOR") == "platform":
        found = "XLA_PYTHON_CLIENT_ALLOCATOR is platform, which allocates at each step"
        return Check("GPU flags", "warn", found, "unset XLA_PYTHON_CLIENT_ALLOCATOR")
    return Check("GPU flags", "ok", f"XLA_FLAGS: {flags or 'none'}")


def memory_bandwidth(device: "jax.Device") -> float:
    """Bytes a second that a device reads and writes when it adds to a large array in place; the best of some rounds."""
    import jax
    import jax.numpy as jnp

    size = _BYTES_ON_CPU if device.platform == "cpu" else _BYTES
    array = jax.device_put(jnp.zeros(size // 4, jnp.float32), device)
    plus_one = jax.jit(lambda values: values + 1.0, donate_argnums=0)  # new memory would be timed, too
    array = plus_one(array).block_until_ready()  # compiles
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        array = plus_one(array).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2.0 * size / min(seconds)


if __name__ == "__main__":
    print(json.dumps(_measure()))
