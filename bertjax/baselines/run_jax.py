"""The JAX contestant: bertjax's own step on its own engine, packed batches and all, as `finetune` runs it."""

from contextlib import closing

import jax

from bertjax.baselines.contestant import Job, Stopwatch, Trained
from bertjax.data.batches import LaidOut
from bertjax.data.prefetch import prefetched
from bertjax.training import parallel
from bertjax.training.averaging import evaluation_params
from bertjax.training.finetune import loss_of
from bertjax.training.optimizer import make_optimizer
from bertjax.training.step import Metrics, make_train_step


def run(job: Job) -> Trained:
    """Trains and returns the trained parameters and the engine's answers."""
    config, model, params, source = job.config, job.prepared.model, job.prepared.params, job.prepared.train
    watch = Stopwatch()
    optimizer = make_optimizer(config.optimizer, source.plan.total_steps, model)
    step = make_train_step(
        model, optimizer, loss_of(config), parallel.AXIS, config.freeze, config.accumulate, config.regularizing
    )
    start = step.init(params, jax.random.PRNGKey(config.seed))
    devices = parallel.all_devices(config.engine)
    state = devices.place(start)
    engine = parallel.Engine(devices, model, step, state, source.plan.empty_batches)
    waiting: list[tuple[Metrics, LaidOut]] = []

    def read() -> None:
        metrics, laid_out = waiting.pop(0)
        watch.lap(float(metrics["loss"]), laid_out.num_examples, laid_out.num_tokens, laid_out.batch.token_ids.size)

    with closing(prefetched(source.batches())) as batches:
        for laid_out in batches:
            state, metrics = engine.train(state, laid_out.batch)
            waiting.append((metrics, laid_out))
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
        predict=lambda batch: engine.predict(trained, batch),
        num_devices=devices.count,
        device=jax.devices()[0].device_kind,
        device_peak_bytes=(jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    )
