"""The adapters of a network as a folder that peft loads beside the base they were trained on."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bertjax.errors import ConfigError
from bertjax.members import suffix_of
from bertjax.members.weight_table import Part, WeightTable
from bertjax.model.lora import adapter_of, is_adapter
from bertjax.model_folder.save_pretrained import departure_from_transformers
from bertjax.pretrained.convert import rules_of, to_hugging_face
from bertjax.pretrained.peft_files import Update, write_adapter
from bertjax.tasks import Model, Params, find_task, weight_table

logger = logging.getLogger(__name__)

_TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "Model": "FEATURE_EXTRACTION",
}


def save_adapter(folder: Path, model: Model, params: Params, base: str) -> None:
    """Writes the adapters and the whole head of a network; says so in the log where peft could not load them.

    Args:
      folder: the folder to write; an existing one is replaced in one step.
      model: with adapters.
      params: its parameters, adapters not merged.
      base: the model that was trained on, for peft's `base_model_name_or_path`.

    Raises:
      DiskError: the folder cannot be written.
    """
    adapters, table = model.config.adapters, weight_table(model)
    assert adapters is not None, "there is something to write"
    if reason := _not_for_peft(model, params):
        logger.warning("%s is not written: %s; the model has its adapters merged", folder, reason)
        return
    head = {module: leaves for module, leaves in params.items() if not module.startswith("bert/")}
    suffix = suffix_of(find_task(model.task).architecture)
    # transformers' bare encoder has no prefix before its modules.
    prefix = table.prefix if suffix == "Model" else ""
    updates = {name.removeprefix(prefix): update for name, update in weight_updates(model, params, table).items()}
    saved = {name.removeprefix(prefix): tensor for name, tensor in to_hugging_face(head, table).items()}
    config = {
        "base_model_name_or_path": base,
        "task_type": _TASK_TYPES.get(suffix),
        "r": adapters.rank,
        "lora_alpha": adapters.scale * adapters.rank,
        "lora_dropout": adapters.dropout_rate,
        "modules_to_save": sorted({name.removeprefix(table.prefix).split(".")[0] for name in saved}) or None,
    }
    write_adapter(folder, config, updates, saved)


def _not_for_peft(model: Model, params: Params) -> str | None:
    """Why peft has no adapter for a network; None where it has."""
    if "masked_lm" in params:
        return "its decoder is tied to the word embeddings, and peft would keep a copy of them"
    return departure_from_transformers(model)


def weight_updates(model: Model, params: Params, table: WeightTable) -> dict[str, Update]:
    """Name of a weight -> what its adapters add.

    A weight of several parts, such as query, key and value, has the adapters of all of them as one of their joint rank:
    the rows of A one below the other, and B with a block for each part.
    """
    adapters = model.config.adapters
    assert adapters is not None, "the caller has checked"
    plain = {module: leaves for module, leaves in params.items() if not is_adapter(module)}
    of_weight: dict[str, list[tuple[Part, Mapping[str, np.ndarray]]]] = {}
    for rule in rules_of(plain, table):
        if rule.module in adapters.modules and rule.parameter == "w":
            matrices = {name: np.asarray(value) for name, value in params[adapter_of(rule.module)].items()}
            of_weight.setdefault(rule.hugging_face, []).append((rule.part, matrices))
    updates = {}
    for name, parts in of_weight.items():
        a = np.concatenate([matrices["down"].T for _, matrices in parts])  # [sum of r, D]
        b = np.concatenate([_block(part, matrices["up"].T) for part, matrices in parts], axis=1)
        updates[name] = Update(a, b, adapters.scale)
    return updates


def peft_names(model: Model) -> dict[tuple[str, str], str]:
    """(module, parameter) of each adapter -> the name that peft gives to the matrix; none without adapters.

    Raises:
      ConfigError: a weight of several parts, which has one adapter in peft and one for each part here.
    """
    adapters, names = model.config.adapters, {}
    layers = {} if adapters is None else {module: {"w": None} for module in sorted(adapters.modules)}
    for rule in rules_of(layers, weight_table(model)):
        if rule.part.parts > 1:
            raise ConfigError(
                f"peft has one adapter where {model.config.model_type} has one for each part of a weight "
                f"({rule.module}); compare it without --lora-rank"
            )
        layer = rule.hugging_face.removesuffix(".weight")
        for parameter, side in (("down", "A"), ("up", "B")):
            names[adapter_of(rule.module), parameter] = f"{layer}.lora_{side}.default.weight"
    return names


def _block(part: Part, up: np.ndarray) -> np.ndarray:
    """[F, r] at its place among the rows of a weight of several parts, between zeros."""
    return np.concatenate([up if i == part.number else np.zeros_like(up) for i in range(part.parts)])
