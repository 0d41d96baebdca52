"""`serve_ray`: runs a service in replicas, on Ray Serve.

Each replica is the application that `serve_local` runs, with its own batcher; Serve's proxy distributes the requests.
Without an address, the service starts a cluster of its own, which ends with it, and touches no other.
"""

import inspect
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from bertjax.config import Execution
from bertjax.errors import ConfigError, first_line
from bertjax.ray_cluster import keeping_sigterm
from bertjax.serving.app import build_app
from bertjax.serving.limits import ServiceSettings
from bertjax.serving.local_server import listening
from bertjax.serving.model_slot import read_model
from bertjax.serving.service import Rule

logger = logging.getLogger(__name__)

_LIMITS = ServiceSettings()  # those of `bertjax serve` without flags
APPLICATION = "bertjax"  # its name in Ray Serve
_REPLICA_REQUESTS = 512  # that a replica holds at a time; its own limits on texts and tokens come first
_PROXY_REQUESTS = 512  # that may wait in a proxy until a replica has room
_BUSY_REQUESTS = 32  # of a replica, on average: with more, another one is started
_RETRY_SECONDS = 1
_DRAIN_POLL_SECONDS = 0.2
_MARGIN_SECONDS = 10  # between our limit on a request's time and Serve's, whose answer is no JSON
_TRIES = 2  # to start a replica
_STORE_BYTES = 2**27  # of shared memory, which requests hardly use


@dataclass(frozen=True)
class RayOptions:
    """Where replicas run, and how many.

    Attributes:
      address: of a running cluster; None: a new one on this machine.
      min_replicas: that always run.
      max_replicas: that run where many requests come; None: as few.
      replica_cpus: that each replica has; None: all of this machine's, shared; on a running cluster one.
      replica_gpus: that each replica has; None: all of the cluster's, shared so that as many new replicas fit beside
        them while a model changes, but at most one each.
      ha_proxy: whether HAProxy, instead of Serve's own proxy, deals out requests.
    """

    address: str | None = None
    min_replicas: int = 1
    max_replicas: int | None = None
    replica_cpus: float | None = None
    replica_gpus: float | None = None
    ha_proxy: bool = False

    def __post_init__(self) -> None:
        if self.most < self.min_replicas:
            raise ConfigError(f"--max-replicas {self.most} is below --min-replicas {self.min_replicas}")
        if self.ha_proxy and self.address is not None:
            raise ConfigError(
                "--ha-proxy is a setting of the whole cluster: start its nodes with RAY_SERVE_ENABLE_HA_PROXY=1, and "
                "leave the flag out"
            )

    @property
    def most(self) -> int:
        """The largest number of replicas."""
        return self.min_replicas if self.max_replicas is None else self.max_replicas


def serve_ray(
    model: str | Path,
    settings: ServiceSettings = _LIMITS,
    host: str = "127.0.0.1",
    port: int = 8000,
    rule: Rule | None = None,
    execution: Execution | None = None,
    options: RayOptions = RayOptions(),
) -> str | None:
    """Serves on Ray.

    On a cluster of its own it serves until it is interrupted, then answers the requests that have come. On a running
    one, that at an address or that to which this process is connected, it returns when the model is in service, in the
    place of the one that this function put there before, if any: its replicas answer until the new ones are ready.

    Args:
      model: where the model is, for this process and for every node of the cluster.
      settings: limits; those on waiting texts and tokens are of each replica.
      host, port: where to listen, on every node with a replica; port 0 takes a free one. A running Serve keeps its own.
      rule: what has the last word on predictions.
      execution: how to run the networks.
      options: where replicas run, and how many.

    Returns:
      Where it listens, such as http://127.0.0.1:8000; None where Ray Serve ran already, and listens where it did.

    Raises:
      ConfigError: the port is taken, the host is none of this machine, there is no such cluster, or another application
        is in the way.
      UserError: the model cannot be used.
    """
    started, model = time.monotonic(), str(model)
    options = options if options.address is not None else replace(options, address=_connected_address())
    if options.address in (None, _connected_address()):
        with listening(host, port) as probe:
            port = probe.getsockname()[1]
    else:
        _check_listens(options.address)
    read_model(model, execution, settings.pooling)  # what is wrong with it is said here, in one line
    models = {"default": model}
    settings = replace(settings, admin_token=None)  # one replica is not the whole service
    with _cluster(options) as address:
        where = _start_serve(host, port, settings)
        _deploy(lambda: build_app(models, settings, rule, execution), settings, options)
        logger.info("ready on %s after %.1f s", where or "the running Ray Serve", time.monotonic() - started)
        if options.address is None:
            logger.info("another model: bertjax serve --engine ray --address %s --model ...", address)
            _wait_and_delete()
    return where


def _connected_address() -> str | None:
    """Of the cluster that this process is connected to. Ray is not imported for it: it reads its settings then."""
    ray = sys.modules.get("ray")
    return ray.get_runtime_context().gcs_address if ray is not None and ray.is_initialized() else None


def _where(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@contextmanager
def _cluster(options: RayOptions) -> Iterator[str]:
    """A connection to a running cluster, or a new cluster that ends with the block; gives its address.

    Raises:
      ConfigError: there is none at the address.
    """
    if options.address is not None and options.address == _connected_address():
        yield options.address
        return
    _set_environment(options)
    with keeping_sigterm():
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        own: dict[str, Any] = {"num_cpus": _own_cpus(options), "object_store_memory": _STORE_BYTES}
        try:
            if options.address is None:
                ray.init("local", include_dashboard=False, **own, **quiet)
            else:
                ray.init(options.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = options.address or "this machine"
            raise ConfigError(f"there is no Ray cluster on {where} that lets us in: {_cause(error)}") from error
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


def _set_environment(options: RayOptions) -> None:
    """What Ray reads from the environment, when it is imported."""
    if options.address is None or _is_loopback(options.address):
        # Ray listens on the loopback interface then, whatever the system; else it takes another address for localhost.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if _has_token():  # Ray asks for it on a cluster of its own, and does not bring it to one with an address
            os.environ.setdefault("RAY_AUTH_MODE", "token")
    if options.ha_proxy:
        os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "1"


def _has_token() -> bool:
    named = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()


def _host_and_port(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), port


def _is_loopback(address: str) -> bool:
    host, _ = _host_and_port(address)
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _check_listens(address: str) -> None:
    """Checks that HOST:PORT accepts connections, where Ray would retry for minutes; other addresses Ray checks."""
    host, port = _host_and_port(address)
    if not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"there is no Ray cluster on {address}: {getattr(error, 'strerror', None) or error}; `ray status` says "
            f"where one is, and without --address a new one is started"
        ) from None


def _own_cpus(options: RayOptions) -> float:
    """As many as twice the replicas need: while a model changes, the old ones run on beside the new ones."""
    return 2 * options.most * _replica_cpus(options)


def _replica_cpus(options: RayOptions) -> float:
    if options.replica_cpus is not None:
        return options.replica_cpus
    return 1 if options.address is not None else max((os.cpu_count() or 1) // options.most, 1)


def _start_serve(host: str, port: int, settings: ServiceSettings) -> str | None:
    """Starts Ray Serve, unless it runs already, and returns where it listens; None for one that runs already."""
    from ray import serve

    _quiet_serve()
    if serve.status().proxies:
        return None
    seconds = settings.body_seconds + settings.time_limit_seconds + _MARGIN_SECONDS
    serve.start(
        http_options={"host": host, "port": port, "request_timeout_s": seconds},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    _quiet_serve()  # it sets its level when it starts
    return _where(host, port)


def _quiet_serve() -> None:
    logging.getLogger("ray.serve").setLevel(logging.ERROR)


def _deploy(application: Callable[[], Any], settings: ServiceSettings, options: RayOptions) -> None:
    """Puts an application in service, and waits until it is.

    Raises:
      ConfigError: it could not be.
    """
    from ray import serve

    class BertService:
        pass

    known = inspect.signature(serve.deployment).parameters
    chosen = {name: value for name, value in _deployment(settings, options).items() if name in known}
    try:
        service = serve.deployment(**chosen)(serve.ingress(application)(BertService))
        serve.run(service.bind(), name=APPLICATION, route_prefix="/")
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"Ray Serve could not put the model in service: {_cause(error)}") from error


def _deployment(settings: ServiceSettings, options: RayOptions) -> dict[str, Any]:
    """Options of `serve.deployment`; earlier releases of Ray lack some of them."""
    return {
        "name": APPLICATION,
        **_replicas(options),
        "ray_actor_options": _resources(options),
        "max_ongoing_requests": _REPLICA_REQUESTS,
        "max_queued_requests": _PROXY_REQUESTS,
        "backpressure_config": {"status_code": 503, "retry_after_s": _RETRY_SECONDS},
        "graceful_shutdown_wait_loop_s": _DRAIN_POLL_SECONDS,
        "graceful_shutdown_timeout_s": settings.body_seconds + settings.time_limit_seconds + _MARGIN_SECONDS,
        "max_surge_percent": 100,
        "max_constructor_retry_count": _TRIES,
        "logging_config": {"log_level": "WARNING", "enable_access_log": False},
    }


def _replicas(options: RayOptions) -> dict[str, Any]:
    if options.most == options.min_replicas:
        return {"num_replicas": options.most}
    scaling = {"min_replicas": options.min_replicas, "max_replicas": options.most}
    return {"autoscaling_config": {**scaling, "target_ongoing_requests": _BUSY_REQUESTS}}


def _resources(options: RayOptions) -> dict[str, Any]:
    """What a replica gets. Ray would have it compute with one thread, however many processors it has.

    Raises:
      ConfigError: a cluster of our own will never have it.
    """
    import ray

    has = ray.cluster_resources()
    cpus, gpus = _replica_cpus(options), options.replica_gpus
    if gpus is None:
        gpus = min(has.get("GPU", 0) / (2 * options.most), 1)
    for name, needed in {"CPU": cpus, "GPU": gpus}.items():
        if needed > has.get(name, 0):
            lack = f"a replica needs {needed:g} {name}, and the cluster has {has.get(name, 0):g}"
            if options.address is None:
                raise ConfigError(f"{lack}; choose another --replica-{name.lower()}s")
            logger.warning("%s now; waiting until it has more", lack)
    variables = {"OMP_NUM_THREADS": str(max(int(cpus), 1))}
    if 0 < gpus < 1:
        variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # each would take three quarters of the memory
    return {"num_cpus": cpus, "num_gpus": gpus, "runtime_env": {"env_vars": variables}}


def _cause(error: BaseException) -> str:
    """The last line of a message, which may hold the traceback of a replica."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else first_line(error)


def _wait_and_delete() -> None:
    """Waits for an interrupt, then until the requests that have come are answered."""
    from ray import serve

    try:
        threading.Event().wait()
    finally:
        serve.delete(APPLICATION)
