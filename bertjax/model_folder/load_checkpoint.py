"""`from_pretrained`: a network with the weights of a checkpoint, loaded strictly."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import numpy as np

from bertjax.config import BertConfig, Execution, Pooling, read_config_json
from bertjax.data.encode.pretrained_tokenizer import UnsupportedTokenizer, beyond, has_tokenizer, load_tokenizer
from bertjax.errors import ConfigError
from bertjax.members import find_member
from bertjax.model.quantized import with_int8_weights
from bertjax.model_folder.stored_settings import numbered_labels, stored_labels, stored_settings, stored_task
from bertjax.pretrained.convert import Exceptions, check_member, has_module, to_haiku
from bertjax.pretrained.files import read_tensors, resolve_model
from bertjax.pretrained.grow import with_vocabulary
from bertjax.pretrained.peft_files import read_adapter, with_adapter
from bertjax.pretrained.prefixes import without_prefix
from bertjax.tasks import Model, Params, Task, find_task, initialised, make_model, parameter_shapes, weight_table

logger = logging.getLogger(__name__)

POOLER_MODULES = ("pooler", "pooler_norm")  # modules of a head that a checkpoint of another task may lack


def from_pretrained(
    name: str | Path,
    task: str | None = None,
    labels: tuple[str, ...] | None = None,
    num_labels: int | None = None,
    new_head: bool = False,
    pooling: Pooling | None = None,
    seed: int = 0,
    init_missing: Sequence[str] = (),
    drop: Sequence[str] = (),
    execution: Execution | None = None,
    vocab_size: int | None = None,
    adapter: str | Path | None = None,
) -> tuple[Model, Params]:
    """A network with the weights of a checkpoint.

    Without `labels`, `num_labels` or `new_head` every parameter must come from the checkpoint. With them, the head is
    taken from a checkpoint that was trained on the same labels, and initialised from `seed` otherwise;
    so is a pooler that the checkpoint never had.

    Args:
      name: a folder, a hub id, a name of the catalog, or `models:/NAME@ALIAS` of MLflow's registry.
      task: an entry of `bertjax.tasks.TASKS`; default: the one the checkpoint was saved for, else "encoder".
      labels: names of the classes.
      num_labels: how many classes, where names do not matter.
      new_head: initialise a head that the checkpoint lacks, where its labels have no names either.
      pooling: default: the one the folder was saved with, else "pooler".
      seed: of the initialisation.
      init_missing: patterns of tensors (Hugging Face's names, such as `cls.*`) to initialise where they are missing.
      drop: patterns of tensors to leave out.
      execution: how to run the network.
      vocab_size: entries of the tokenizer that will be used; where the checkpoint embeds fewer, rows are added as
        transformers' `resize_token_embeddings` adds them. Default: what the checkpoint embeds, which has to be enough
        for the folder's own tokenizer.
      adapter: a folder that peft saved, or `adapter/` of a run, which is merged into the weights; it says task and
        number of labels where the caller does not.

    Returns:
      The model and its parameters, a plain nested dict of float32 arrays; with `Execution(weights="int8")` some of them
      are a `QuantizedWeight`.

    Raises:
      AssetError: there is no such model.
      ConfigError: an architecture or a task that bertjax does not have.
      CheckpointError: weights that do not fit, or an adapter of another base; every mismatch is named.
    """
    loaded = load_checkpoint(
        name, task, labels, num_labels, new_head, pooling, seed, init_missing, drop, execution, vocab_size, adapter
    )
    return loaded.model, loaded.params


class LoadedCheckpoint(NamedTuple):
    """A network with the weights of a checkpoint.

    Attributes:
      params: float32 arrays of the host, or `QuantizedWeight`s instead of some.
      initialised: Haiku paths of the modules with a parameter that the checkpoint does not have.
    """

    model: Model
    params: Params
    initialised: frozenset[str]


def load_checkpoint(
    name: str | Path,
    task: str | None = None,
    labels: tuple[str, ...] | None = None,
    num_labels: int | None = None,
    new_head: bool = False,
    pooling: Pooling | None = None,
    seed: int = 0,
    init_missing: Sequence[str] = (),
    drop: Sequence[str] = (),
    execution: Execution | None = None,
    vocab_size: int | None = None,
    adapter: str | Path | None = None,
) -> LoadedCheckpoint:
    """`from_pretrained`, with the names of the modules that were initialised."""
    folder = resolve_model(str(name))
    stored = read_config_json(folder)
    added = None if adapter is None else read_adapter(Path(adapter))
    task = task or (added and added.task) or stored_task(stored)
    config = replace(BertConfig.from_hugging_face(stored), execution=execution or Execution())
    row = find_task(task)
    table = find_member(config.model_type).weights_of(row.architecture)
    if added is not None and row.names and labels is None and num_labels is None:
        num_labels = added.num_outputs(row.head_modules, table)
    if not row.names and (labels is not None or num_labels is not None):
        raise ConfigError(f"the labels of task {task!r} have no names; leave out labels and num_labels")
    may_lack_head = new_head or labels is not None or num_labels is not None
    known_labels = stored_labels(stored) if row.names else ()
    if labels is None:
        labels = known_labels if num_labels in (None, len(known_labels)) else numbered_labels(num_labels)
    pooling = _pooling(pooling, stored, row)

    stored_tensors = read_tensors(folder)
    check_member(folder, config.model_type, stored_tensors)
    tensors = without_prefix(stored_tensors, table, drop)
    if added is not None:
        tensors = with_adapter(tensors, added, table)
    problems = _vocabulary_problems(folder, config) if vocab_size is None else []
    if vocab_size is not None and vocab_size > config.vocab_size:
        tensors = with_vocabulary(tensors, table, config.vocab_size, vocab_size, seed)
        config = replace(config, vocab_size=vocab_size)
    model = make_model(config, task, labels, pooling)

    fresh: set[str] = set()
    if may_lack_head:
        other_labels = row.names and labels != known_labels
        for module in row.head_modules:
            brought = added is not None and has_module(added.saved, module, table)
            if (other_labels and not brought) or not has_module(tensors, module, table, drop):
                fresh.add(module)
        fresh |= {module for module in POOLER_MODULES if not has_module(tensors, module, table, drop)}
    params, initial = _fill(model, tensors, Exceptions(fresh, init_missing, drop), problems, seed)
    return LoadedCheckpoint(model, with_int8_weights(params) if config.execution.weights == "int8" else params, initial)


def _pooling(requested: Pooling | None, stored: Mapping[str, Any], task: Task) -> Pooling | None:
    """The requested pooling, or that of the `config.json`, or None for the default; of one that bertjax has.

    Raises:
      ConfigError: it has no such pooling.
    """
    pooling = requested or (stored_settings(stored).get("pooling") if task.pooling == "chosen" else None)
    if pooling not in (None, *get_args(Pooling)):
        raise ConfigError(f"pooling {pooling!r} is unknown; there are {', '.join(get_args(Pooling))}")
    return pooling


def _fill(
    model: Model, tensors: Mapping[str, np.ndarray], exceptions: Exceptions, problems: Sequence[str], seed: int
) -> tuple[Params, frozenset[str]]:
    """Parameters from the checkpoint, those that it may lack from the model's initialisation; the modules of these."""
    template = parameter_shapes(model)
    params, missing = to_haiku(tensors, template, weight_table(model), exceptions, problems)
    if missing:
        names = ", ".join(sorted({module for module, _ in missing}))
        logger.info("initialised %s from seed %d: the checkpoint does not have it", names, seed)
        initial = initialised(model.init, tuple(missing))(jax.random.key(seed))
        for (module, parameter), value in zip(missing, initial, strict=True):
            params.setdefault(module, {})[parameter] = np.asarray(value)
    filled = {module: {name: params[module][name] for name in leaves} for module, leaves in template.items()}
    return filled, frozenset(module for module, _ in missing)


def _vocabulary_problems(folder: Path, config: BertConfig) -> list[str]:
    """Whether the folder's tokenizer has more entries than the network embeds; weights can do without a tokenizer."""
    if not has_tokenizer(folder):
        return []
    try:
        problem = beyond(load_tokenizer(folder), config)
    except UnsupportedTokenizer:
        return []
    return [problem] if problem else []
