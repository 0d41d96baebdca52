"""Converts Hugging Face tensors to Haiku parameters and back, strictly: all mismatches are collected in one error.

Parameters are a plain nested dict: module path -> parameter name -> array.
"""

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bertjax.errors import CheckpointError
from bertjax.members import likely_member
from bertjax.members.weight_table import Rule, WeightTable

logger = logging.getLogger(__name__)

Params = dict[str, dict[str, Any]]

_DECODER = "masked_lm"  # the module of the decoder's bias
_DTYPES = ("float32", "float64", "float16", "bfloat16")


class Exceptions(NamedTuple):
    """Tensors that a checkpoint may lack or have in excess.

    Attributes:
      fresh: Haiku modules that the caller initialises even if the checkpoint has them.
      init_missing: patterns (`*` matches anything) of Hugging Face's tensor names that may be missing.
      drop: patterns of tensor names that are ignored.
    """

    fresh: Collection[str] = ()
    init_missing: Sequence[str] = ()
    drop: Sequence[str] = ()


class Converted(NamedTuple):
    """Parameters from a checkpoint.

    Attributes:
      params: the float32 arrays in the checkpoint.
      missing: (module, parameter) of each one that the caller has to initialise.
    """

    params: Params
    missing: tuple[tuple[str, str], ...]


def to_haiku(
    tensors: Mapping[str, np.ndarray],
    template: Mapping[str, Mapping[str, Any]],
    table: WeightTable,
    exceptions: Exceptions = Exceptions(),  # noqa: B008 (immutable)
    other_problems: Iterable[str] = (),
) -> Converted:
    """Converts a checkpoint to the parameters that a network expects.

    Args:
      tensors: a checkpoint by Hugging Face's names, with or without the encoder's prefix, legacy names included.
      template: the parameters of the network, arrays or any values with a shape.
      table: of the weights of such a network.
      exceptions: the mismatches that are allowed.
      other_problems: messages of the caller for the same error.

    Raises:
      CheckpointError: tensors that are missing, not expected, of another shape or dtype, not finite, or untied; one
        error names all of them.
    """
    tensors = {table.canonical(name): tensor for name, tensor in tensors.items()}
    rules = list(rules_of(template, table))
    problems = [*other_problems, *_idle_patterns(tensors, rules, exceptions, table)]
    tensors = {name: tensor for name, tensor in tensors.items() if not matches(name, exceptions.drop, table)}
    tensors, untied = _without_second_names(tensors, {rule.hugging_face for rule in rules}, table)
    problems += untied

    params: Params = {}
    missing: list[tuple[str, str]] = []
    refused: list[str] = []
    double: dict[str, np.ndarray] = {}
    for rule in rules:
        tensor = tensors.get(rule.hugging_face)
        is_optional = tensor is None and matches(rule.hugging_face, exceptions.init_missing, table)
        if rule.module in exceptions.fresh or is_optional:
            missing.append((rule.module, rule.parameter))
            continue
        problem = _mismatch(rule, tensor, tuple(template[rule.module][rule.parameter].shape))
        if problem is not None:
            problems.append(f"{rule.hugging_face} {problem}")
            refused += [rule.hugging_face] if tensor is not None else []
        elif tensor is not None:
            array = np.ascontiguousarray(rule.bijection.apply(rule.part.of(tensor)), dtype=np.float32)
            params.setdefault(rule.module, {})[rule.parameter] = array
            double |= {rule.hugging_face: tensor} if tensor.dtype == np.float64 else {}
    used = {rule.hugging_face for rule in rules}
    unused = sorted(set(tensors) - used - set(_ignored(tensors, used, table)))
    problems += [f"{name} is not expected" for name in unused]
    problems += _ways_out(unused, refused, table)
    if problems:
        # A problem of a tensor of several parts is reported once.
        raise CheckpointError(f"the checkpoint does not fit the network: {'; '.join(dict.fromkeys(problems))}")
    if double:
        exact = sum(np.array_equal(tensor, tensor.astype(np.float32)) for tensor in double.values())
        logger.info("%d tensors of float64 became float32, %d of them without rounding", len(double), exact)
    return Converted(params, tuple(missing))


def to_hugging_face(params: Mapping[str, Mapping[str, Any]], table: WeightTable) -> dict[str, np.ndarray]:
    """The inverse of `to_haiku`: float32 tensors by Hugging Face's names."""
    parts: dict[str, dict[int, np.ndarray]] = {}
    for rule in rules_of(params, table):
        tensor = np.ascontiguousarray(rule.bijection.apply(np.asarray(params[rule.module][rule.parameter])))
        parts.setdefault(rule.hugging_face, {})[rule.part.number] = tensor
    return {name: _joined([of[number] for number in sorted(of)]) for name, of in parts.items()}


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def rules_of(params: Mapping[str, Mapping[str, Any]], table: WeightTable) -> Iterator[Rule]:
    """The rules for the parameters of one network, with layer numbers filled in.

    Raises:
      CheckpointError: a parameter without a rule.
    """
    by_path = {(rule.module, rule.parameter): rule for rule in table.rules}
    for module, parameters in params.items():
        number = re.search(r"layer_(\d+)", module)
        layer = number.group(1) if number else ""
        generic = module.replace(f"layer_{layer}", "layer_{i}") if number else module
        for parameter in parameters:
            rule = by_path.get((generic, parameter))
            if rule is None:
                raise CheckpointError(f"no rule carries the parameter {module}/{parameter}")
            yield rule._replace(hugging_face=rule.hugging_face.replace("{i}", layer), module=module)


def has_module(tensors: Collection[str], module: str, table: WeightTable, drop: Sequence[str] = ()) -> bool:
    """Whether a checkpoint has every tensor of a Haiku module without layers, such as `pooler` or `classifier`.

    Tensors that match a pattern of `drop` do not count.
    """
    names = {name for name in map(table.canonical, tensors) if not matches(name, drop, table)}
    names |= {first for second, first in table.tied.items() if second in names}
    required = {rule.hugging_face for rule in table.rules if rule.module == module}
    return bool(required) and required <= names


def check_member(folder: Path, model_type: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Checks that weights are of the kind that the `config.json` beside them says.

    Raises:
      CheckpointError: they have the names of another kind.
    """
    likely = likely_member(model_type, tensors).model_type
    if likely != model_type:
        raise CheckpointError(
            f"{folder}: config.json says model_type {model_type!r}, and the weights have the names of a {likely!r}; "
            "set the model_type that they were saved with"
        )


def _mismatch(rule: Rule, tensor: np.ndarray | None, expected: tuple[int, ...]) -> str | None:
    """How a tensor differs from the rule and the expected shape, or None."""
    if tensor is None:
        return "is missing"
    if tensor.dtype.name not in _DTYPES:
        return f"is {tensor.dtype}, expected {', '.join(_DTYPES[:-1])} or {_DTYPES[-1]}"
    stored_shape = rule.part.whole(rule.bijection.apply(np.empty(expected, np.bool_)).shape)
    if tensor.shape != stored_shape:
        return f"is {list(tensor.shape)}, expected {list(stored_shape)}"
    with np.errstate(over="ignore"):
        broken = tensor.size - int(np.isfinite(tensor.astype(np.float32, copy=False)).sum())
    return f"has {broken} NaN or infinite numbers" if broken else None


def _ways_out(unused: Collection[str], refused: Collection[str], table: WeightTable) -> Iterator[str]:
    """Suggestions for tensors of a head that the network does not have, or has in another shape.

    `--drop` is not suggested for the encoder's tensors, without which another network would be trained.
    """
    if heads := _heads(unused, table):
        yield f"leave the others out with --drop {heads}"
    if heads := _heads((name for name in refused if not name.startswith(table.optional)), table):
        yield f"start the head anew with --drop {heads}"


def _heads(names: Iterable[str], table: WeightTable) -> str:
    """Patterns for all tensors of the heads that these belong to, as a shell reads them."""
    heads = {name.split(".")[0] for name in names if "." in name and not name.startswith(table.prefix)}
    return " ".join(f"'{head}.*'" for head in sorted(heads))


def _without_second_names(
    tensors: Mapping[str, np.ndarray], expected: Collection[str], table: WeightTable
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The tensors with tied ones under their first name only, and a message for each tied pair that differs."""
    tensors, problems = dict(tensors), []
    # Without a decoder, the tensor under the second name is a leftover of pre-training.
    if not any(rule.module == _DECODER and rule.hugging_face in expected for rule in table.rules):
        return tensors, []
    for second, first in table.tied.items():
        if second not in tensors:
            continue
        tensor = tensors.pop(second)
        if not np.array_equal(tensors.setdefault(first, tensor), tensor):
            problems.append(f"{second} differs from {first}, to which the network ties it")
    return tensors, problems


def _ignored(tensors: Collection[str], used: Collection[str], table: WeightTable) -> Iterator[str]:
    """Tensors that are ignored: constants, and pre-training heads that this network does not have."""
    prefixes = tuple(prefix for prefix in table.optional if not any(name.startswith(prefix) for name in used))
    return (name for name in tensors if name in table.ignored or name.startswith(prefixes))


def matches(name: str, patterns: Iterable[str], table: WeightTable) -> bool:
    """Whether a tensor's name matches a pattern, in which the encoder's prefix may be left out."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, table.prefix + pattern) for pattern in patterns)


def _idle_patterns(
    tensors: Collection[str], rules: Iterable[Rule], exceptions: Exceptions, table: WeightTable
) -> Iterator[str]:
    """A message for each pattern that matches nothing, most likely a typo."""
    names = [rule.hugging_face for rule in rules]
    for pattern in exceptions.init_missing:
        if not any(matches(name, [pattern], table) for name in names):
            yield f"--init-missing {pattern} matches no parameter of the network"
    for pattern in exceptions.drop:
        if not any(matches(name, [pattern], table) for name in tensors):
            yield f"--drop {pattern} matches no tensor of the checkpoint"
