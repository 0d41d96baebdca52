"""MLflow's store and a Ray cluster: whether they answer."""

import os

from bertjax import ray_cluster
from bertjax.doctor.check import Check
from bertjax.errors import ConfigError
from bertjax.tracking.mlflow_store import MlflowStore, tracking_address


def check_mlflow() -> Check:
    """Whether runs can be recorded; a database that is not there stays so."""
    try:
        store = MlflowStore(tracking_address())
        store.check("bertjax")
    except ConfigError as error:
        return Check("MLflow", "bad", *_split(error))
    return Check("MLflow", "ok", store.name)


def check_ray(address: str | None) -> Check:
    """Whether Ray is there, and answers where there is an address.

    Args:
      address: of a cluster; default: that of `RAY_ADDRESS`, or none.
    """
    import ray

    wanted = address or os.environ.get("RAY_ADDRESS")
    if wanted in (None, "local"):
        return Check("Ray", "ok", f"{ray.__version__}, started on this machine when a job wants it")
    try:
        ray_cluster.join(wanted, log_to_driver=False, logging_level="ERROR")
    except ConfigError as error:
        return Check("Ray", "bad", *_split(error))
    try:
        resources = ray.cluster_resources()
    finally:
        ray.shutdown()
    devices = ", ".join(f"{resources[name]:g} {name}" for name in ("CPU", "GPU", "TPU") if name in resources)
    return Check("Ray", "ok", f"{wanted} answers: {devices}")


def _split(error: ConfigError) -> tuple[str, str]:
    """What is wrong, and how to mend it: the two halves of bertjax's own messages."""
    found, _, mend = str(error).rpartition("; ")
    return (found, mend) if found else (mend, "see the message")
