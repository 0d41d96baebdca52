"""The Trainer runner: transformers' Trainer with the same recipe and everything else at its default.

It shuffles by itself (`trainer`), or puts texts of similar length together (`trainer-grouped`); each batch is padded
to its longest text. Loss, optimizer and schedule are the Trainer's.
"""

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from bertjax.baselines.runners.run_torch import trained_output
from bertjax.baselines.runners.runner import RunnerInput, RunnerOutput, StepTimer
from bertjax.baselines.torch.padded_texts import texts_of
from bertjax.baselines.torch.torch_model import Inputs, inputs_of, label_arguments, make_module
from bertjax.data.batching.collate import collate
from bertjax.data.batching.packing import Layout, unpacked
from bertjax.training.settings.finetune_config import FineTuneConfig


class _Rows(torch.utils.data.Dataset):
    """Indices of the examples, with token ids of the right length, by which the Trainer groups them."""

    def __init__(self, lengths: np.ndarray):
        self._lengths = lengths

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, i: int) -> dict[str, Any]:
        if i >= len(self):  # the Trainer reads the rows to their end
            raise IndexError(i)
        return {"input_ids": range(int(self._lengths[i])), "row": i}


class _TimerCallback(TrainerCallback):
    """Records time and loss of every update; `counts` are the examples and tokens of the present batch."""

    def __init__(self, timer: StepTimer):
        self._timer = timer
        self.counts = (0, 0, 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **rest: Any) -> None:
        if logs and "loss" in logs:
            self._timer.lap(logs["loss"], *self.counts)


def run(job: RunnerInput) -> RunnerOutput:
    """Trains with the Trainer and returns the module's parameters and predictions."""
    config, model, store = job.config, job.prepared.model, job.prepared.train.examples
    timer = StepTimer()
    callback = _TimerCallback(timer)
    module = make_module(model, job.prepared.params)

    def padded(rows: Sequence[dict[str, Any]]) -> Inputs:
        examples = store.take(np.sort([row["row"] for row in rows]))
        lengths = examples.lengths.tolist()
        layout = Layout(len(rows), max(lengths), examples.kind.texts)
        batch = collate(examples, np.arange(len(rows)), unpacked(lengths), layout).batch
        texts = texts_of(model, batch)
        callback.counts = (len(rows), int(texts.attention_mask.sum()), texts.token_ids.size)
        return {**inputs_of(model, texts), **label_arguments(model, batch, texts)}

    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=module,
            args=_arguments(config, scratch, grouped=job.framework == "trainer-grouped"),
            train_dataset=_Rows(store.lengths),
            data_collator=padded,
            callbacks=[callback],
        )
        trainer.train()
    return trained_output(module, job.prepared, timer)


def _arguments(config: FineTuneConfig, folder: str, grouped: bool) -> Any:
    settings = config.optimizer.resolved()
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.b1,
        adam_beta2=settings.b2,
        adam_epsilon=settings.eps,
        max_grad_norm=settings.clip_norm or 0.0,
        seed=config.seed,
        bf16=config.execution.precision == "bfloat16",
        train_sampling_strategy="group_by_length" if grouped else "random",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
    )
