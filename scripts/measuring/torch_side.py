"""PyTorch's sides of a comparison, each at its best: transformers' model with fused attention and fused AdamW, and
nothing that makes the host wait for the device.

`torch_loop` is what one writes by hand, with each batch padded to its longest text, in random order or grouped by
length; `PacedTrainer` is transformers' Trainer at its defaults, which does a step when it may.
"""

import queue
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from bertjax.baselines.torch.torch_model import device, make_module
from bertjax.data.encode.examples import ExampleStore
from bertjax.tasks import Model, Params
from bertjax.training.settings.options import Optimizer
from measuring.turns import Counts, Steps

_ENDLESS = 1_000_000  # steps
_SECONDS_A_STEP = 120  # after which the Trainer is taken for dead


class Rows(NamedTuple):
    """Tokenized texts, ragged, and their labels."""

    token_ids: list[list[int]]
    labels: list[int]

    @classmethod
    def of(cls, examples: ExampleStore) -> "Rows":
        """The rows of a run."""
        taken = examples.take(np.arange(examples.num_examples))
        ids = np.split(taken.token_ids, taken.offsets[1:-1])
        return cls([part.tolist() for part in ids], np.asarray(taken.labels).tolist())

    def padded(self, indices: Sequence[int], length: int | None = None) -> tuple[dict[str, torch.Tensor], Counts]:
        """Arguments of the model for some texts, padded to a length or to the longest of them; on the host."""
        lengths = [len(self.token_ids[i]) for i in indices]
        longest = length or max(lengths)
        ids = np.zeros((len(indices), longest), np.int64)
        for row, i in enumerate(indices):
            ids[row, : lengths[row]] = self.token_ids[i]
        mask = (np.arange(longest) < np.array(lengths)[:, None]).astype(np.int64)
        tensors = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.tensor([self.labels[i] for i in indices]),
        }
        return tensors, Counts(len(indices), sum(lengths), ids.size)


def torch_step(model: Model, params: Params, compiled: str | None = None) -> Callable[[dict[str, torch.Tensor]], None]:
    """Trains transformers' model on a batch that is on the device, and does not wait for the result.

    Args:
      compiled: backend of `torch.compile`; None leaves the model as it is.
    """
    settings: Any = Optimizer().resolved()
    module: Any = make_module(model, params).train()
    assert module.config._attn_implementation == "sdpa", "transformers' own choice"
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    betas = (settings.b1, settings.b2)
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, eps=settings.eps, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / _ENDLESS)
    forward = module if compiled is None else torch.compile(module, dynamic=False, backend=compiled)
    half = model.config.execution.precision == "bfloat16"

    def step(inputs: dict[str, torch.Tensor]) -> None:
        with torch.autocast(device().type, torch.bfloat16, enabled=half):
            loss = forward(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    return step


def torch_on_full_rows(model: Model, params: Params, batch: Any, compiled: str | None = None) -> Steps:
    """The loop on one batch of full rows, which need no mask."""
    step = torch_step(model, params, compiled)
    inputs = {
        "input_ids": torch.from_numpy(np.asarray(batch.token_ids, np.int64)).to(device()),
        "labels": torch.from_numpy(np.asarray(batch.labels[:, 0], np.int64)).to(device()),
    }
    rows, length = batch.token_ids.shape

    def run(steps: int) -> Counts:
        for _ in range(steps):
            step(inputs)
        wait()
        return Counts(steps * rows, steps * rows * length, steps * rows * length)

    return run


def torch_loop(
    model: Model, params: Params, rows: Rows, batch_size: int, grouped: bool, length: int | None = None
) -> Steps:
    """The loop that one writes by hand; with a length, every batch is padded to that."""
    step, batches = torch_step(model, params), _batches(rows, batch_size, grouped)

    def run(steps: int) -> Counts:
        done = np.zeros(3, np.int64)
        for _ in range(steps):
            tensors, counts = rows.padded(next(batches), length)
            step({name: _sent(tensor) for name, tensor in tensors.items()})
            done += counts
        wait()
        return Counts(*map(int, done))

    return run


def _batches(rows: Rows, batch_size: int, grouped: bool) -> Iterator[Sequence[int]]:
    """Indices of the texts of each batch, epoch after epoch."""
    generator, lengths = torch.Generator().manual_seed(0), [len(ids) for ids in rows.token_ids]
    while True:
        order = (
            get_length_grouped_indices(lengths, batch_size, generator=generator)
            if grouped
            else torch.randperm(len(lengths), generator=generator).tolist()
        )
        yield from (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def _sent(tensor: torch.Tensor) -> torch.Tensor:
    """On the device; the host does not wait for the copy."""
    return tensor.pin_memory().to(device(), non_blocking=True) if torch.cuda.is_available() else tensor


def wait() -> None:
    """Until the device has done everything."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class _Dataset(torch.utils.data.Dataset):
    """Rows as the Trainer takes them: it groups them by the length of their token ids."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows.labels)

    def __getitem__(self, i: int) -> dict[str, Any]:
        if i >= len(self):  # the Trainer reads the rows to their end
            raise IndexError(i)
        return {"input_ids": self._rows.token_ids[i], "row": i}


class PacedTrainer(TrainerCallback):
    """transformers' Trainer at its defaults, in a thread of its own that trains only while `run` waits for it.

    Without logs, which make it wait for the device, and without checkpoints.
    """

    def __init__(self, model: Model, params: Params, rows: Rows, batch_size: int, grouped: bool):
        module: Any = make_module(model, params)
        assert module.config._attn_implementation == "sdpa", "transformers' own choice"
        self._counts: deque[Counts] = deque()
        self._may_step, self._done = threading.Semaphore(0), queue.SimpleQueue[Any]()
        self._ends = False
        settings: Any = Optimizer().resolved()

        def collate(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            tensors, counts = rows.padded([feature["row"] for feature in features])
            self._counts.append(counts)
            return tensors

        self._scratch = tempfile.TemporaryDirectory()
        arguments = TrainingArguments(
            output_dir=self._scratch.name,
            max_steps=_ENDLESS,
            per_device_train_batch_size=batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.clip_norm,
            bf16=model.config.execution.precision == "bfloat16",
            train_sampling_strategy="group_by_length" if grouped else "random",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        self._trainer: Any = Trainer(
            model=module, args=arguments, train_dataset=_Dataset(rows), data_collator=collate, callbacks=[self]
        )
        # Not started yet: to make another Trainer changes state that Accelerate keeps for the whole process.
        self._thread = threading.Thread(target=self._train, daemon=True)

    def run(self, steps: int) -> Counts:
        """Lets it do so many steps.

        Raises:
          Exception: of the Trainer.
        """
        if not self._thread.ident:
            self._thread.start()
        for _ in range(steps):
            self._may_step.release()
        done = np.zeros(3, np.int64)
        for _ in range(steps):
            counts = self._done.get(timeout=_SECONDS_A_STEP)
            if isinstance(counts, Exception):
                raise counts
            done += counts
        wait()
        return Counts(*map(int, done))

    def close(self) -> None:
        """Ends the training."""
        self._ends = True
        self._may_step.release()
        if self._thread.ident:
            self._thread.join()
        self._scratch.cleanup()
        del self._trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._may_step.acquire()

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._done.put(self._counts.popleft())
        control.should_training_stop = self._ends

    def _train(self) -> None:
        try:
            self._trainer.train()
        except Exception as error:
            self._done.put(error)
