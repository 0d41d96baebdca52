"""LoRA adapters in peft's format: read and merged into the tensors of their base, or written.

    r rank   F, D output and input width of a linear layer, as torch keeps its weight: [F, D]

A folder has `adapter_config.json` and `adapter_model.safetensors`. The latter holds, for a layer `X`, the matrices
`base_model.model.X.lora_A.weight` [r, D] and `base_model.model.X.lora_B.weight` [F, r], whose product times a factor is
added to the layer's weight, and whole tensors, those of peft's `modules_to_save`, under `base_model.model.` and their
own names.

Source: `LoraConfig` and `save_pretrained` of peft 0.21.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bertjax.errors import CheckpointError
from bertjax.members.weight_table import WeightTable
from bertjax.pretrained.files import ADAPTER_CONFIG, read_file, write_file
from bertjax.storage.atomic_write import replaced_folder, write_json
from bertjax.storage.small_files import read_object

TENSORS = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_MATRIX = re.compile(r"(.+)\.lora_([AB])\.weight")
_WITHOUT = "save an adapter of LoRA without it"

# peft's type of a task -> the task; classes are classes unless the caller says otherwise.
_TASKS = {
    "SEQ_CLS": "classification",
    "TOKEN_CLS": "token_classification",
    "QUESTION_ANS": "question_answering",
}

# Keys of `adapter_config.json` under which peft computes something else -> the values that are plain LoRA.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "use_dora": (None, False),
    "lora_bias": (None, False),
    "fan_in_fan_out": (None, False),
    "bias": (None, "none"),
    "layer_replication": (None,),
    "alora_invocation_tokens": (None,),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "use_bdlora": (None, False),
    "use_qalora": (None, False),
}


class Update(NamedTuple):
    """What is added to a weight: `scale` times `b` [F, r] times `a` [r, D]."""

    a: np.ndarray
    b: np.ndarray
    scale: float


class StoredAdapter(NamedTuple):
    """The content of an adapter's folder.

    Attributes:
      folder: where it was read.
      base: the model that it was trained on, as far as it says so.
      task_type: peft's, such as "SEQ_CLS"; None where it has none.
      updates: name of a weight -> what is added to it.
      saved: name of a tensor -> what takes its place.
    """

    folder: Path
    base: str | None
    task_type: str | None
    updates: Mapping[str, Update]
    saved: Mapping[str, np.ndarray]

    @property
    def task(self) -> str | None:
        """bertjax's name of its task, where peft's says one."""
        return _TASKS.get(self.task_type or "")

    def num_outputs(self, head_modules: Sequence[str], table: WeightTable) -> int | None:
        """The outputs of the head that it brings; None where it brings none."""
        biases = {rule.hugging_face for rule in table.rules if rule.module in head_modules and rule.parameter == "b"}
        found = [tensor for name, tensor in self.saved.items() if table.canonical(name) in biases]
        return len(found[0]) if found else None


def read_adapter(folder: Path) -> StoredAdapter:
    """Reads the folder of an adapter.

    Raises:
      CheckpointError: there is none, or it is no plain LoRA.
    """
    config = read_object(folder / ADAPTER_CONFIG, "fetch it again", CheckpointError)
    if config is None:
        raise CheckpointError(f"{folder} has no {ADAPTER_CONFIG}; an adapter is a folder that peft saved")
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{folder} has peft_type {config.get('peft_type')!r}; bertjax reads 'LORA'")
    for key, plain in _PLAIN.items():
        if config.get(key) not in plain:
            raise CheckpointError(f"{folder} has {key} {config[key]!r}, which is not supported; {_WITHOUT}")
    matrices: dict[str, dict[str, np.ndarray]] = {}
    saved: dict[str, np.ndarray] = {}
    for full_name, tensor in read_file(folder / TENSORS).items():
        name = full_name.removeprefix(_PREFIX)
        if match := _MATRIX.fullmatch(name):
            matrices.setdefault(match.group(1), {})[match.group(2)] = tensor.astype(np.float32)
        elif name == full_name or ".lora_" in name:
            raise CheckpointError(f"{folder} has the tensor {full_name}, which is not supported; {_WITHOUT}")
        else:
            saved[name] = tensor
    updates = {f"{module}.weight": _update(folder, config, module, pair) for module, pair in matrices.items()}
    return StoredAdapter(folder, config.get("base_model_name_or_path"), config.get("task_type"), updates, saved)


def _update(folder: Path, config: Mapping[str, Any], module: str, pair: Mapping[str, np.ndarray]) -> Update:
    if pair.keys() != {"A", "B"} or pair["A"].ndim != 2 or pair["B"].shape[1:] != pair["A"].shape[:1]:
        shapes = ", ".join(f"lora_{name} {list(matrix.shape)}" for name, matrix in sorted(pair.items()))
        raise CheckpointError(f"{folder} has {shapes} for {module}, which are no pair; fetch it again")
    alpha, rank = _setting(config, "alpha_pattern", module, config.get("lora_alpha")), len(pair["A"])
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise CheckpointError(f"{folder} has lora_alpha {alpha!r}, which is no number; fetch it again")
    return Update(pair["A"], pair["B"], alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _setting(config: Mapping[str, Any], key: str, module: str, default: Any) -> Any:
    """What a module has by patterns of names' ends, as peft reads them."""
    patterns = config.get(key) or {}
    return next((value for end, value in patterns.items() if re.match(rf"(.*\.)?({end})$", module)), default)


def with_adapter(
    tensors: Mapping[str, np.ndarray], adapter: StoredAdapter, table: WeightTable
) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint, by the names of the table, with an adapter merged into them.

    Raises:
      CheckpointError: the adapter was trained on another network; every mismatch is named.
    """
    merged = {table.canonical(name): tensor for name, tensor in tensors.items()}
    updates = {table.canonical(name): update for name, update in adapter.updates.items()}
    if problems := list(_mismatches(merged, updates)):
        of_base = f" (its own is {adapter.base})" if adapter.base else ""
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} others" if len(problems) > 3 else "")
        raise CheckpointError(f"{adapter.folder} is an adapter for another base{of_base}: {shown}")
    for name, (a, b, scale) in updates.items():
        merged[name] = merged[name].astype(np.float32) + np.float32(scale) * (b @ a)
    return merged | {table.canonical(name): tensor for name, tensor in adapter.saved.items()}


def _mismatches(tensors: Mapping[str, np.ndarray], updates: Mapping[str, Update]) -> Iterator[str]:
    for name, update in updates.items():
        shape = [len(update.b), update.a.shape[1]]
        if name not in tensors:
            yield f"the checkpoint has no {name}"
        elif list(tensors[name].shape) != shape:
            yield f"{name} is {list(tensors[name].shape)}, expected {shape}"


def write_adapter(
    folder: Path,
    config: Mapping[str, Any],
    updates: Mapping[str, Update],
    saved: Mapping[str, np.ndarray],
) -> None:
    """Writes the folder of an adapter, which peft loads; an existing one is replaced in one step.

    Args:
      folder: the folder to write.
      config: keys of `adapter_config.json` beside those that follow from the rest; `r` and `lora_alpha` are those of
        every update that has no others.
      updates: name of a weight -> what is added to it.
      saved: name of a tensor -> what takes its place.

    Raises:
      DiskError: the folder cannot be written.
    """
    modules = {name.removesuffix(".weight"): update for name, update in updates.items()}
    others = {module: update for module, update in modules.items() if len(update.a) != config["r"]}
    tensors = {f"{_PREFIX}{name}": tensor for name, tensor in saved.items()}
    for module, update in modules.items():
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = update.a
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = update.b
    own = {
        "peft_type": "LORA",
        "target_modules": sorted(modules),
        "rank_pattern": {module: len(update.a) for module, update in others.items()},
        "alpha_pattern": {module: update.scale * len(update.a) for module, update in others.items()},
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
    }
    with replaced_folder(folder) as scratch:
        write_json(scratch / ADAPTER_CONFIG, dict(config) | own)
        write_file(scratch / TENSORS, tensors)
