"""The PyTorch contestant: a plain training loop over transformers' model, fed with our batches in our order.

Same initial parameters, same texts in every update, same loss, same AdamW with the same decay mask, schedule and
clipping. Each batch is padded to its longest text. What differs is the arithmetic, and the random numbers of dropout.
"""

from functools import partial

import jax
import numpy as np
import torch

from bertjax.baselines.contestant import Job, Stopwatch, Trained
from bertjax.baselines.reference import make_adamw
from bertjax.baselines.texts import texts_of
from bertjax.baselines.torch_model import answer_with, device_name, make_module, mean_loss, params_of, predict
from bertjax.pretrained.convert import to_hugging_face
from bertjax.tasks import Model, Params
from bertjax.training.freezing import freezing
from bertjax.training.optimizer import decay_mask
from bertjax.training.options import Optimizer
from bertjax.training.schedules import learning_rate_schedule


def run(job: Job) -> Trained:
    """Trains and returns the trained module's parameters and answers."""
    config, model, params, source = job.config, job.prepared.model, job.prepared.params, job.prepared.train
    watch = Stopwatch()
    torch.manual_seed(config.seed)
    module = make_module(model, params).train()
    settings = config.optimizer.resolved()
    schedule = learning_rate_schedule(settings, source.plan.total_steps)
    update = make_adamw(
        module,
        lambda step: float(schedule(step)),
        decayed_of(model, params, config.freeze, settings.no_decay),
        settings,
    )
    for step, laid_out in enumerate(source.batches()):
        texts = texts_of(model, laid_out.batch)
        loss = mean_loss(module, model, laid_out.batch, texts, config.imbalance)
        loss.backward()
        update(step)
        watch.lap(loss.item(), laid_out.num_examples, laid_out.num_tokens, texts.token_ids.size)
    return Trained(
        losses=watch.losses,
        speed=watch.speed,
        params=params_of(module, model),
        predict=lambda batch: predict(model, batch, partial(answer_with, module, model)),
        num_devices=1,
        device=device_name(),
        device_peak_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
    )


def decayed_of(
    model: Model, params: Params, freeze: tuple[str, ...], no_decay: tuple[str, ...] = Optimizer.no_decay
) -> dict[str, bool]:
    """Of each parameter that is trained, by the names of our weight table, whether weight decay applies."""
    is_frozen = freezing(model, freeze)
    trained = {
        module: {name: value for name, value in leaves.items() if not is_frozen(module, name)}
        for module, leaves in jax.tree.map(np.asarray, decay_mask(model, no_decay)(params)).items()
    }
    return {name: bool(mask.any()) for name, mask in to_hugging_face(trained).items()}
