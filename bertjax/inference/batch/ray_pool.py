"""Answers of a pool of actors: one Ray Data task reads the chunks of rows, actors answer them, in order.

The chunks are those of one process, so parts and manifest are the same, and a start may go on where one of the other
engine was stopped. The files are read on the machine of the command, and actors get the model from its memory: a
cluster needs neither. A chunk is one pickled value, since cells need not fit Arrow's types, and since Ray must not cut
it. Errors of a user are values, too: an exception ends a job of Ray Data with a traceback.

A pool that takes every CPU leaves none to the task that feeds it, and waits for ever (ray issue 44687). So the CPUs of
the actors are a share of what the reader leaves, whatever their number.
"""

import logging
import os
import pickle
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

from bertjax import ray_cluster
from bertjax.data.streaming.ray_blocks import READER_CPUS, ordered_values
from bertjax.errors import ConfigError, UserError, WorkerError, first_line
from bertjax.inference.batch.row_answers import Answered, Request, RowAnswerer
from bertjax.inference.batch.row_source import Chunk, PartSizes, RowSource, Survey
from bertjax.inference.loaded_model import LoadedModel
from bertjax.tasks import Model, make_model

_VALUE = "value"  # the one column of a block
_ONE_VALUE = 1  # byte: Ray joins no smaller values


class RayPool(NamedTuple):
    """The actors.

    Attributes:
      workers: their number; 0: one for each GPU or TPU chip of the cluster, or else one fewer than its CPUs.
      address: of a cluster; default: the one of this process or of `RAY_ADDRESS`, or else Ray on this machine.
    """

    workers: int = 0
    address: str | None = None

    def __call__(
        self,
        loaded: LoadedModel,
        source: RowSource,
        survey: Survey,
        sizes: PartSizes,
        first_part: int,
        request: Request,
    ) -> Generator[Answered]:
        """The answered chunks from a part on, in their order.

        Raises:
          UserError: what an actor or the reader raised.
          ConfigError: no cluster at the address, or more workers than it has accelerators.
          WorkerError: Ray gave up.
        """
        with _session(self.address):
            import ray
            import ray.data

            share = share_of_actor(self.workers, ray.cluster_resources())
            here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
            with ordered_values(_ONE_VALUE):
                chunks = ray.data.read_datasource(
                    _datasource(partial(source.chunks, survey, sizes, first_part)),
                    num_cpus=READER_CPUS,
                    override_num_blocks=1,
                    label_selector=here,
                )
                answers = chunks.map_batches(
                    _Actor,
                    fn_constructor_args=(ray.put(_Work.of(loaded, source, request)), share.threads),
                    batch_size=1,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(size=share.workers, max_tasks_in_flight_per_actor=2),
                    runtime_env={"env_vars": ray_cluster.carried_variables()},
                    num_cpus=share.cpus,
                    num_gpus=share.gpus or None,
                    resources={"TPU": share.tpus} if share.tpus else None,
                )
                try:
                    for table in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
                        yield from map(_checked, _values(table))
                except ray.exceptions.RayError as error:
                    raise WorkerError(f"Ray gave up: {first_line(error)}; --resume goes on") from error


class ActorShare(NamedTuple):
    """The number of actors, and the resources of each."""

    workers: int
    cpus: float
    gpus: float = 0
    tpus: float = 0

    @property
    def threads(self) -> int:
        """Threads that compute on a CPU."""
        return max(1, int(self.cpus))


def share_of_actor(workers: int, resources: dict[str, float]) -> ActorShare:
    """The resources of each actor of a pool.

    Args:
      workers: actors; 0: as many as fit.
      resources: of the cluster.

    Raises:
      ConfigError: more actors than accelerators.

    >>> share_of_actor(0, {"CPU": 8}), share_of_actor(8, {"CPU": 8}).cpus < 1
    (ActorShare(workers=7, cpus=1.0, gpus=0, tpus=0), True)
    """
    cpus = resources.get("CPU", 1.0)
    for kind in ("GPU", "TPU"):
        count = int(resources.get(kind, 0))
        if count:
            if workers > count:
                raise ConfigError(f"--workers {workers} takes as many {kind}s, and there are {count}; give fewer")
            workers = workers or count
            share = ActorShare(workers, _rounded_down((cpus - READER_CPUS) / workers))
            return share._replace(gpus=1) if kind == "GPU" else share._replace(tpus=1)
    workers = workers or max(1, int(cpus) - 1)
    return ActorShare(workers, _rounded_down(min(1.0, (cpus - READER_CPUS) / workers)))


def _rounded_down(cpus: float) -> float:
    """Ray has ten thousandths of a CPU, and whole CPUs only above one."""
    return float(int(cpus)) if cpus >= 1 else int(cpus * 1000) / 1000


class _Work(NamedTuple):
    """What an actor needs; the functions of a network do not travel, and are made again."""

    loaded: LoadedModel
    network: tuple[Any, ...]
    source: RowSource
    request: Request

    @classmethod
    def of(cls, loaded: LoadedModel, source: RowSource, request: Request) -> "_Work":
        model = loaded.model
        network = (model.config, model.task, model.labels, model.pooling)
        return cls(loaded._replace(model=cast(Model, None)), network, source, request)

    def answerer(self) -> RowAnswerer:
        return RowAnswerer(self.loaded._replace(model=make_model(*self.network)), self.source, self.request)


class _Actor:
    """Answers chunks on the devices that Ray gives it."""

    def __init__(self, work: Any, threads: int):
        import ray

        # XLA's threads: Ray limits those of OpenMP alone, and every actor would take all of a machine's CPUs.
        os.environ["NPROC"] = str(threads)
        self._answerer = ray.get(work).answerer()

    def __call__(self, table: Any) -> Any:
        (chunk,) = _values(table)
        return _packed(chunk if isinstance(chunk, str) else _or_error(partial(self._answerer, chunk)))


def _or_error(make: Any) -> Any:
    """What a function returns, or the line of a user's mistake."""
    try:
        return make()
    except UserError as error:
        return str(error)


def _chunks_or_error(chunks: Any) -> Iterator[Chunk | str]:
    try:
        yield from chunks()
    except UserError as error:
        yield str(error)


def _checked(value: Answered | str) -> Answered:
    if isinstance(value, str):
        raise UserError(value)
    return value


def _values(table: Any) -> Iterator[Any]:
    for value in table[_VALUE]:
        yield pickle.loads(value.as_buffer())


def _packed(value: Any) -> Any:
    import pyarrow

    return pyarrow.table({_VALUE: pyarrow.array([pickle.dumps(value)], pyarrow.large_binary())})


def _datasource(chunks: Any) -> Any:
    """The chunks as a source of Ray Data with one task, which yields them as they are asked for."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Chunks(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
            nothing_known = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None)
            return [ReadTask(lambda: map(_packed, _chunks_or_error(chunks)), nothing_known)]

    return Chunks()


@contextmanager
def _session(address: str | None) -> Iterator[None]:
    """The running Ray session, or one that is joined or started, and left at the end."""
    with warnings.catch_warnings():
        # JAX warns of forks; Ray's run another program at once.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        import ray

        if ray.is_initialized():
            yield
            return
        # At every pool of Ray Data's own, Ray's core writes that what its actors are made of could get lost.
        with _default_variable("RAY_BACKEND_LOG_LEVEL", "fatal"):
            ray_cluster.join(address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _default_variable(name: str, value: str) -> Iterator[None]:
    """An environment variable within the block, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
