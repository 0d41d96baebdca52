"""A model folder, in and out: weights, architecture, label names and tokenizer, in Hugging Face's layout.

What Hugging Face's `config.json` has no key for (task and pooling) stands in it under `bertjax`; transformers reads
the folder all the same.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from transformers import PreTrainedTokenizerBase

from bertjax.config import BertConfig, read_config_json
from bertjax.errors import ConfigError
from bertjax.model.heads import Pooling
from bertjax.pretrained.convert import has_module, to_haiku, to_hugging_face
from bertjax.pretrained.files import read_tensors, resolve_model, write_tensors, written_at_once
from bertjax.tasks import TASKS, Model, Params, make_model, parameter_shapes

logger = logging.getLogger(__name__)


def from_pretrained(
    name: str | Path,
    task: str | None = None,
    labels: tuple[str, ...] | None = None,
    num_labels: int | None = None,
    pooling: Pooling | None = None,
    seed: int = 0,
) -> tuple[Model, Params]:
    """A network with the weights of a checkpoint.

    Without `labels` or `num_labels` everything must come from the checkpoint. With them, the head is the caller's:
    it is taken from a checkpoint that was trained on the same labels, and initialised from `seed` otherwise; so is a
    pooler that the checkpoint never had.

    Args:
      name: a folder, a catalog name, or a hub id.
      task: a row of `bertjax.tasks.TASKS`; default: the one the folder was saved with, else "encoder".
      labels: names of the classes.
      num_labels: how many classes, where names do not matter.
      pooling: default: the one the folder was saved with, else "pooler".
      seed: of what is initialised.

    Returns:
      The model and its parameters, a plain nested dict of float32 arrays.

    Raises:
      AssetError: the name leads nowhere.
      ConfigError: an architecture or a task that bertjax does not have.
      CheckpointError: weights that do not fit; every mismatch is named.
    """
    folder = resolve_model(str(name))
    stored = read_config_json(folder)
    saved = stored.get("bertjax", {})
    task = task or saved.get("task", "encoder")
    stored_labels = _stored_labels(stored)
    named = labels is not None or num_labels is not None
    if labels is None:
        labels = stored_labels if num_labels in (None, len(stored_labels)) else _numbered_labels(num_labels)
    model = make_model(BertConfig.from_hugging_face(stored), task, labels, pooling or saved.get("pooling", "pooler"))
    tensors = read_tensors(folder)

    fresh: set[str] = set()
    if named:
        head = TASKS[task].head_module
        if head is not None and not (labels == stored_labels and has_module(tensors, head)):
            fresh.add(head)
        if not has_module(tensors, "pooler"):
            fresh.add("pooler")
    return model, _fill(model, tensors, fresh, seed)


def _fill(model: Model, tensors: Mapping[str, np.ndarray], fresh: set[str], seed: int) -> Params:
    """Parameters from the checkpoint, and for the fresh modules from the model's own initialisation."""
    template = parameter_shapes(model)
    params = to_haiku(tensors, template, fresh)
    fresh_here = fresh & set(template)
    if fresh_here:
        logger.info("initialised %s from seed %d: the checkpoint does not have it", ", ".join(sorted(fresh_here)), seed)
        # Only these modules leave the function, so XLA drops the initialisation of all others.
        initial = jax.jit(lambda rng_key: {module: model.init(rng_key)[module] for module in sorted(fresh_here)})
        params |= jax.tree.map(np.asarray, initial(jax.random.PRNGKey(seed)))
    return {module: params[module] for module in template}


def save_pretrained(
    folder: str | Path, model: Model, params: Params, tokenizer: PreTrainedTokenizerBase | None = None
) -> Path:
    """Writes a model folder that `from_pretrained` and transformers read; an existing one is replaced in one step.

    Args:
      folder: where to.
      model: what `from_pretrained` or `make_model` returned.
      params: its parameters.
      tokenizer: saved with it, so that the folder stands alone.
    """
    labels = {"id2label": dict(enumerate(model.labels)), "label2id": {name: i for i, name in enumerate(model.labels)}}
    config = {
        "architectures": [TASKS[model.task].architecture],
        **model.config.to_hugging_face(),
        **(labels if model.labels else {}),
        "bertjax": {"task": model.task, "pooling": model.pooling},
    }
    folder = Path(folder)
    with written_at_once(folder) as scratch:
        (scratch / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_tensors(scratch, to_hugging_face(params))
        if tokenizer is not None:
            tokenizer.save_pretrained(scratch)
    return folder


def _stored_labels(stored: Mapping[str, Any]) -> tuple[str, ...]:
    """The label names of a `config.json`, in index order.

    Raises:
      ConfigError: indices that are not 0, 1, 2, ...
    """
    by_index = stored.get("id2label") or {}
    try:
        indices = sorted(map(int, by_index))
        if indices != list(range(len(indices))):
            raise ValueError
    except ValueError:
        raise ConfigError(f"config.json: id2label must number its labels 0, 1, 2, ..., got {list(by_index)}") from None
    return tuple(str(by_index[key]) for key in sorted(by_index, key=int))


def _numbered_labels(count: int | None) -> tuple[str, ...]:
    return tuple(f"LABEL_{i}" for i in range(count or 0))
