"""Hugging Face tensors to Haiku parameters and back, strictly: every tensor is used or named, every mismatch reported.

Parameters are a plain nested dict: module path -> parameter name -> array.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from bertjax.errors import CheckpointError
from bertjax.pretrained.rules import IGNORED, LEGACY_SUFFIXES, PREFIX, PREFIXED, PRETRAINING_HEADS, RULES, Rule

Params = dict[str, dict[str, Any]]


def to_haiku(
    tensors: Mapping[str, np.ndarray], template: Mapping[str, Mapping[str, Any]], fresh: Collection[str] = ()
) -> Params:
    """Fills the parameters that a network expects.

    Args:
      tensors: a checkpoint, by Hugging Face's names: with or without the `bert.` prefix, old names included.
      template: the parameters of the network, as anything with a shape.
      fresh: modules that the caller initialises; what the checkpoint has for them is left out.

    Returns:
      float32 arrays for every parameter outside `fresh`.

    Raises:
      CheckpointError: tensors that are missing, not expected, of another shape or no floats; all of them at once.
    """
    tensors = {canonical_name(name): tensor for name, tensor in tensors.items()}
    problems: list[str] = []
    params: Params = {}
    used: set[str] = set()
    for rule in rules_of(template):
        used.add(rule.hugging_face)
        if rule.module in fresh:
            continue
        expected = tuple(template[rule.module][rule.parameter].shape)
        tensor = tensors.get(rule.hugging_face)
        if tensor is None:
            problems.append(f"{rule.hugging_face} is missing")
        elif not _is_float(tensor):
            problems.append(f"{rule.hugging_face} is {tensor.dtype}, expected floats")
        elif rule.bijection.apply(tensor).shape != expected:
            stored_shape = rule.bijection.apply(np.empty(expected, np.bool_)).shape
            problems.append(f"{rule.hugging_face} is {list(tensor.shape)}, expected {list(stored_shape)}")
        else:
            array = np.ascontiguousarray(rule.bijection.apply(tensor), dtype=np.float32)
            params.setdefault(rule.module, {})[rule.parameter] = array
    unexpected = sorted(set(tensors) - used - set(_ignored(tensors, template)))
    problems += [f"{name} is not expected" for name in unexpected]
    if problems:
        raise CheckpointError(f"the checkpoint does not fit the network: {'; '.join(problems)}")
    return params


def to_hugging_face(params: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The inverse of `to_haiku`: tensors under Hugging Face's names, in float32, ready to be saved."""
    return {
        rule.hugging_face: np.ascontiguousarray(rule.bijection.apply(np.asarray(params[rule.module][rule.parameter])))
        for rule in rules_of(params)
    }


def rules_of(params: Mapping[str, Mapping[str, Any]]) -> Iterator[Rule]:
    """The rows of the table for the parameters of one network, with layer numbers filled in.

    Raises:
      CheckpointError: a parameter that no row carries.
    """
    by_path = {(rule.module, rule.parameter): rule for rule in RULES}
    for module, parameters in params.items():
        number = re.search(r"layer_(\d+)", module)
        layer = number.group(1) if number else ""
        generic = module.replace(f"layer_{layer}", "layer_{i}") if number else module
        for parameter in parameters:
            rule = by_path.get((generic, parameter))
            if rule is None:
                raise CheckpointError(f"no rule carries the parameter {module}/{parameter}")
            yield rule._replace(hugging_face=rule.hugging_face.replace("{i}", layer), module=module)


def canonical_name(name: str) -> str:
    """A tensor's name as the table has it.

    >>> canonical_name("embeddings.LayerNorm.gamma")
    'bert.embeddings.LayerNorm.weight'
    """
    for old, new in LEGACY_SUFFIXES.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return PREFIX + name if name.startswith(PREFIXED) else name


def has_module(tensors: Collection[str], module: str) -> bool:
    """Whether a checkpoint has every tensor of a Haiku module without layers, such as `pooler` or `classifier`."""
    found = {canonical_name(name) for name in tensors}
    wanted = {rule.hugging_face for rule in RULES if rule.module == module}
    return bool(wanted) and wanted <= found


def _ignored(tensors: Collection[str], template: Mapping[str, Any]) -> Iterator[str]:
    """Tensors that may be left out: constants, heads of pre-training, a pooler that this network does not read."""
    prefixes = PRETRAINING_HEADS if "pooler" in template else (*PRETRAINING_HEADS, "bert.pooler.")
    return (name for name in tensors if name in IGNORED or name.startswith(prefixes))


def _is_float(tensor: np.ndarray) -> bool:
    # bfloat16 is no numpy kind of its own; ml_dtypes gives it the kind of an opaque type.
    return tensor.dtype.kind == "f" or tensor.dtype.name == "bfloat16"
