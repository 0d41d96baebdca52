"""`save_pretrained`: a model folder that transformers loads, written in one step."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.errors import ConfigError
from bertjax.members import find_member
from bertjax.model.quantized import has_int8_weights
from bertjax.pretrained.convert import to_hugging_face
from bertjax.pretrained.files import write_tensors
from bertjax.storage.atomic_write import replaced_folder
from bertjax.tasks import Model, Params, find_task, weight_table

logger = logging.getLogger(__name__)


def save_pretrained(
    folder: str | Path,
    model: Model,
    params: Params,
    tokenizer: PreTrainedTokenizerBase | None = None,
    card: str | None = None,
    preprocessing: Preprocessing | None = None,
    max_length: int | None = None,
    reading: Mapping[str, Any] | None = None,
    temperature: float = 1.0,
) -> Path:
    """Writes a model folder that `from_pretrained` and transformers read; an existing one is replaced in one step.

    Args:
      folder: the folder to write.
      model: as `from_pretrained` or `make_model` returns it.
      params: its parameters.
      tokenizer: saved so that the folder is complete.
      card: text of its `README.md`.
      preprocessing: of every text it was trained on, for `stored_preprocessing`.
      max_length: of the texts it was trained on, in tokens, for `stored_max_length`.
      reading: settings by which the rows it was trained on were read, for `stored_reading`.
      temperature: by which its logits are divided where they become probabilities, for `stored_temperature`.

    Raises:
      ConfigError: the parameters are of int8, which the format does not have.
      DiskError: the folder cannot be written; nothing is left of it.
    """
    if has_int8_weights(params):
        raise ConfigError("int8 weights are not saved: load the checkpoint without them, and save that")
    row, member = find_task(model.task), find_member(model.config.model_type)
    labels = {"id2label": dict(enumerate(model.labels)), "label2id": {name: i for i, name in enumerate(model.labels)}}
    config = {
        "architectures": [member.architecture(row.architecture)],
        **model.config.to_hugging_face(),
        **(labels if model.labels else {}),
        **({"problem_type": row.problem_type} if row.problem_type else {}),
        "bertjax": {
            "task": model.task,
            "pooling": model.pooling,
            **({"preprocessing": preprocessing.to_json()} if preprocessing and preprocessing.steps else {}),
            **({"max_length": max_length} if max_length else {}),
            **({"reading": dict(reading)} if reading else {}),
            **({"temperature": temperature} if temperature != 1 else {}),
        },
    }
    tensors = to_hugging_face(params, weight_table(model))
    if row.architecture == "BertModel" and member.scheme_of(row.architecture).pooler and "pooler" not in params:
        tensors |= _zero_pooler(model)
    folder = Path(folder)
    if departure := departure_from_transformers(model):
        logger.warning("%s is for bertjax alone: %s", folder, departure)
    with replaced_folder(folder) as scratch:
        (scratch / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_tensors(scratch, tensors)
        if tokenizer is not None:
            tokenizer.save_pretrained(scratch)
        if card is not None:
            (scratch / "README.md").write_text(card, encoding="utf-8")
    return folder


def departure_from_transformers(model: Model) -> str | None:
    """Why transformers would compute other numbers from the folder of a model; None where it computes the same.

    A bare encoder leaves the pooling to its user, and its card says how. A head on a pooling that transformers does not
    have would get its input from a pooler that was never trained.
    """
    row = find_task(model.task)
    if model.pooling == "pooler" or row.pooling != "chosen" or not row.head_modules:
        return None
    architecture = find_member(model.config.model_type).architecture(row.architecture)
    return f"transformers' {architecture} always reads the pooler, and this model has pooling {model.pooling!r}"


def _zero_pooler(model: Model) -> dict[str, np.ndarray]:
    """The pooler that transformers' bare encoder always has, for a network that pools otherwise.

    transformers would make up random numbers for a missing one; a pooled output of zeros is plainly not meant to be
    read.
    """
    size = model.config.hidden_size
    zeros = {"w": np.zeros((size, size), np.float32), "b": np.zeros(size, np.float32)}
    return to_hugging_face({"pooler": zeros}, weight_table(model))
