"""The PyTorch runner: a plain training loop over transformers' model, with bertjax's batches in the same order.

Same initial parameters, same texts in every update, same loss, same AdamW with the same decay mask, schedule and
clipping. Each batch is padded to its longest text. Only the arithmetic and the random numbers of dropout differ.
Adapters are peft's, with the same initial matrices.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from bertjax.baselines.runners.runner import RunnerInput, RunnerOutput, StepTimer
from bertjax.baselines.torch.padded_texts import texts_of
from bertjax.baselines.torch.reference import make_adamw
from bertjax.baselines.torch.torch_model import answer_with, device_name, make_module, mean_loss, params_of, predict
from bertjax.batch import Batch
from bertjax.data.batching.collate import PackedBatch
from bertjax.training.optim.fresh_adapters import with_adapters
from bertjax.training.run.prepare import Prepared
from bertjax.training.settings.finetune_config import FineTuneConfig

Update = Callable[[int, PackedBatch], tuple[float, int]]
"""(number of the update, batch) -> (loss, computed tokens)."""


def run(job: RunnerInput) -> RunnerOutput:
    """Trains and returns the module's parameters and predictions."""
    timer = StepTimer()
    module, update = make_update(job.config, job.prepared)
    for step, packed_batch in enumerate(job.prepared.train.batches()):
        loss, computed_tokens = update(step, packed_batch)
        timer.lap(loss, packed_batch.num_examples, packed_batch.num_tokens, computed_tokens)
    if job.config.lora.rank:
        from bertjax.baselines.torch.peft_adapters import merge_adapters

        merge_adapters(module)
    return trained_output(module, job.prepared, timer)


def trained_output(module: torch.nn.Module, prepared: Prepared, timer: StepTimer) -> RunnerOutput:
    """The output of a runner that has trained transformers' model."""
    model, scale = prepared.model, prepared.target_scale

    def answers(batch: Batch) -> Any:
        outputs = predict(model, batch, partial(answer_with, module, model))
        return outputs if scale is None else scale.in_units(outputs)

    return RunnerOutput(
        losses=timer.losses,
        speed=timer.speed,
        params=prepared.in_units(params_of(module, model)),
        predict=answers,
        num_devices=1,
        device=device_name(),
        device_peak_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
    )


def make_update(config: FineTuneConfig, prepared: Prepared) -> tuple[torch.nn.Module, Update]:
    """transformers' model with the initial parameters, and a function that trains it in place on one batch."""
    model, params = with_adapters(prepared.model, prepared.params, config.lora, config.seed)
    torch.manual_seed(config.seed)
    module = make_module(prepared.model, prepared.params).train()
    if config.lora.rank:
        from bertjax.baselines.torch.peft_adapters import put_adapters

        put_adapters(module, model, params)
    total_steps = prepared.train.plan.total_steps
    apply_gradients = make_adamw(module, model, params, config.optimizer.resolved(), total_steps, config.freeze)

    def update(step: int, packed_batch: PackedBatch) -> tuple[float, int]:
        texts = texts_of(model, packed_batch.batch)
        loss = mean_loss(module, model, packed_batch.batch, texts, config.imbalance)
        loss.backward()
        apply_gradients(step)
        return loss.item(), texts.token_ids.size

    return module, update
