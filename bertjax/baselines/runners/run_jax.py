"""The JAX contestant: bertjax's own step on its own engine, packed batches and all, as `finetune` runs it."""

from contextlib import closing
from functools import partial

import jax

from bertjax.baselines.runners.runner import Job, Stopwatch, Trained
from bertjax.data.batching.collate import PackedBatch
from bertjax.data.batching.prefetch import prefetched
from bertjax.prediction.devices import AXIS, all_devices
from bertjax.prediction.forward import Forward
from bertjax.training.optim.ema import evaluation_params
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.run.prepared_run import loss_of
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import make_train_step
from bertjax.training.train_state import Metrics


def run(job: Job) -> Trained:
    """Trains and returns the trained parameters and the engine's answers."""
    config, model, params, source = job.config, job.prepared.model, job.prepared.params, job.prepared.train
    watch = Stopwatch()
    optimizer = make_optimizer(config.optimizer, source.plan.total_steps, model)
    step = make_train_step(
        model, optimizer, loss_of(config), AXIS, config.freeze, config.accumulate, config.regularization
    )
    start = step.init(params, jax.random.PRNGKey(config.seed))
    devices = all_devices(config.engine)
    state = devices.place(start)
    engine = CompiledTrainStep(devices, model, step, state, source.plan.empty_batches)
    waiting: list[tuple[Metrics, PackedBatch]] = []

    def read() -> None:
        metrics, packed_batch = waiting.pop(0)
        watch.lap(
            float(metrics["loss"]),
            packed_batch.num_examples,
            packed_batch.num_tokens,
            packed_batch.batch.token_ids.size,
        )

    with closing(prefetched(source.batches())) as batches:
        for packed_batch in batches:
            state, metrics = engine(state, packed_batch.batch)
            waiting.append((metrics, packed_batch))
            # A loss is read when the next update is under way, so that the device never waits; but the first at once.
            if len(waiting) > 1 or not watch.losses:
                read()
    while waiting:
        read()
    engine.close()
    trained = evaluation_params(state)
    return Trained(
        losses=watch.losses,
        speed=watch.speed,
        params=jax.device_get(trained),
        predict=partial(Forward(devices, model), trained),
        num_devices=devices.count,
        device=jax.devices()[0].device_kind,
        device_peak_bytes=(jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    )
