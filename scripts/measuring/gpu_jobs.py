"""What `benchmark_gpu.py` measures in fresh processes. Without torch: the start of a job must not pay for it."""

import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bertjax import BertConfig, FineTuneConfig, Table, finetune, save_pretrained
from bertjax.training.loop.progress import NoProgress
from measuring.bertjax_side import LABELS, BertjaxSide, full_rows, random_model
from measuring.text_data import text_data

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_job(folder: Path, config: BertConfig, count: int) -> None:
    """A model with random weights and a table, whose texts have the lengths of TREC's questions."""
    from transformers import BertTokenizer

    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join([*WORDS, *(f"w{i}" for i in range(config.vocab_size - len(WORDS)))]) + "\n")
    model, params = random_model(config)
    save_pretrained(folder / "model", model, params, BertTokenizer(str(vocabulary)))
    examples = text_data("trec", count, config.vocab_size).examples
    texts = np.split(examples.token_ids, examples.offsets[1:-1])
    words = config.vocab_size - len(WORDS)
    lines = [
        f"{' '.join(f'w{piece % words}' for piece in text[1:-1])} w{i % 7},{LABELS[i % len(LABELS)]}"
        for i, text in enumerate(texts)
    ]
    (folder / "train.csv").write_text("\n".join(["text,label", *lines]) + "\n")


class _FirstStep(NoProgress):
    """Remembers when the first step was done."""

    at: float | None = None

    def show(self, reading: Any) -> None:
        self.at = self.at or time.time()


def first_step(folder: Path, out: Path, config: BertConfig) -> float:
    """The time at which a job in this process has done its first step; it is stopped after its second."""
    progress, stop = _FirstStep(), iter([False, True])
    settings = FineTuneConfig(
        model=str(folder / "model"),
        data=Table(str(folder / "train.csv"), text=("text",), label="label"),
        execution=config.execution,
        tracking="none",
    )
    try:
        finetune(settings, out, progress=progress, should_stop=lambda: next(stop, True))
    except Exception:
        if progress.at is None:
            raise  # else it was interrupted, as it was told
    assert progress.at is not None, "it has done a step"
    return progress.at


def bertjax_memory(config: BertConfig, length: int, rows: int) -> int:
    """Most bytes of the device that a few steps take."""
    side = BertjaxSide.on_full_rows(*random_model(config), length, rows)
    side.run(3)
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats.get("peak_bytes_in_use", 0))


def torch_memory(config: BertConfig, length: int, rows: int, compiled: str | None) -> int:
    """The same of torch."""
    import torch

    from measuring.torch_side import torch_on_full_rows

    batch = full_rows(config, length, rows).batch
    torch_on_full_rows(*random_model(config), batch, compiled)(3)
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def timed_training(config: BertConfig, length: int, rows: int, steps: int) -> tuple[float, str]:
    """Milliseconds a step, and the digest of the trained parameters."""
    side = BertjaxSide.on_full_rows(*random_model(config), length, rows)
    side.run(3)
    started = time.perf_counter()
    side.run(steps)
    return 1e3 * (time.perf_counter() - started) / steps, side.digest()


def machine() -> dict[str, Any]:
    """The accelerator of this machine, None where it has no GPU, and the versions of what is measured."""
    from importlib.metadata import PackageNotFoundError, version

    def version_of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "none"

    packages = ("jax", "jaxlib", "dm-haiku", "optax", "torch", "transformers")
    device = jax.devices()[0]
    return {
        "card": device.device_kind if device.platform == "gpu" else None,
        "host": f"{os.cpu_count()} CPU cores",
        "versions": {name: version_of(name) for name in packages},
    }
