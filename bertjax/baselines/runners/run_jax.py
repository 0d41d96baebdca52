"""The JAX runner: bertjax's training step and engine with packed batches, as `finetune` runs them."""

from contextlib import closing
from functools import partial

import jax

from bertjax.baselines.runners.runner import RunnerInput, RunnerOutput, StepTimer
from bertjax.data.batching.collate import PackedBatch
from bertjax.data.batching.prefetch import prefetched
from bertjax.devices.data_parallel import all_devices
from bertjax.model.lora import merged
from bertjax.prediction.forward import Forward
from bertjax.training.optim.ema import evaluation_params
from bertjax.training.optim.fresh_adapters import with_adapters
from bertjax.training.run.prepared_run import step_of
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import seed_key
from bertjax.training.train_state import Metrics


def run(job: RunnerInput) -> RunnerOutput:
    """Trains and returns the trained parameters and the engine's predictions."""
    config, prepared, source = job.config, job.prepared, job.prepared.train
    model, params = with_adapters(prepared.model, prepared.params, config.lora, config.seed)
    timer = StepTimer()
    step = step_of(config, model, source.plan.total_steps)
    devices = all_devices(config.engine)
    state = devices.place(step.init(params, seed_key(config.seed)))
    taught = prepared.taught(devices)
    train_step = CompiledTrainStep(devices, model, step, state, source.plan.empty_batches, taught=taught)

    def record(metrics: Metrics, packed_batch: PackedBatch) -> None:
        tokens = packed_batch.batch.token_ids.size
        timer.lap(float(metrics["loss"]), packed_batch.num_examples, packed_batch.num_tokens, tokens)

    pending: list[tuple[Metrics, PackedBatch]] = []
    with closing(prefetched(source.batches())) as batches:
        for packed_batch in batches:
            state, metrics = train_step(state, packed_batch.batch)
            pending.append((metrics, packed_batch))
            # A loss is read after the next update has started, so that the device never waits; but the first at once.
            if len(pending) > 1 or not timer.losses:
                record(*pending.pop(0))
    for metrics, packed_batch in pending:
        record(metrics, packed_batch)
    train_step.close()
    trained = devices.place(merged(model.config.adapters, prepared.in_units(evaluation_params(state))))
    return RunnerOutput(
        losses=timer.losses,
        speed=timer.speed,
        params=jax.device_get(trained),
        predict=partial(Forward(devices, prepared.model), trained),
        num_devices=devices.count,
        device=jax.devices()[0].device_kind,
        device_peak_bytes=(jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
    )
