"""A model folder, in and out: weights, architecture, label names and tokenizer, in Hugging Face's layout.

Settings for which Hugging Face's `config.json` has no key (task, pooling, preprocessing, longest text) are in it under
`bertjax`; transformers ignores them.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import numpy as np
from transformers import PreTrainedTokenizerBase

from bertjax.config import BertConfig, Execution, Pooling, read_config_json
from bertjax.data.encode.pretrained_tokenizer import UnsupportedTokenizer, beyond, has_tokenizer, load_tokenizer
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.errors import ConfigError, writing
from bertjax.members import find_member
from bertjax.model.quantized import has_int8_weights, with_int8_weights
from bertjax.pretrained.convert import Exceptions, check_member, has_module, to_haiku, to_hugging_face
from bertjax.pretrained.files import read_tensors, resolve_model, write_tensors
from bertjax.pretrained.grow import with_vocabulary
from bertjax.pretrained.peft_files import read_adapter, with_adapter
from bertjax.pretrained.prefixes import without_prefix
from bertjax.storage.atomic_write import replaced_folder, write_json
from bertjax.tasks import TASKS, Model, Params, find_task, initialised, make_model, parameter_shapes, weight_table

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
      params: float32 arrays of the host, or `QuantizedWeight`s in the place of some.
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
    saved = _settings_in(stored)
    added = None if adapter is None else read_adapter(Path(adapter))
    task = task or (added and added.task) or stored_task(stored)
    config = replace(BertConfig.from_hugging_face(stored), execution=execution or Execution())
    row = find_task(task)
    table = find_member(config.model_type).weights_of(row.architecture)
    if added is not None and row.names and labels is None and num_labels is None:
        num_labels = added.num_outputs(row.head_modules, table)
    named = labels is not None or num_labels is not None
    if named and not row.names:
        raise ConfigError(f"the labels of task {task!r} have no names; leave out labels and num_labels")
    known_labels = stored_labels(stored) if row.names else ()
    if labels is None:
        labels = known_labels if num_labels in (None, len(known_labels)) else _numbered_labels(num_labels)
    pooling = pooling or (saved.get("pooling") if row.pooling == "chosen" else None)
    if pooling not in (None, *get_args(Pooling)):
        raise ConfigError(f"pooling {pooling!r} is unknown; there are {', '.join(get_args(Pooling))}")
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
    if named or new_head:
        for module in row.head_modules:
            brought = added is not None and has_module(added.saved, module, table)
            others = row.names and labels != known_labels and not brought
            if others or not has_module(tensors, module, table, drop):
                fresh.add(module)
        fresh |= {module for module in POOLER_MODULES if not has_module(tensors, module, table, drop)}
    exceptions = Exceptions(fresh, init_missing, drop)
    params, initial = _fill(model, tensors, exceptions, problems, seed)
    return LoadedCheckpoint(model, with_int8_weights(params) if config.execution.weights == "int8" else params, initial)


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


def stored_task(stored: Mapping[str, Any]) -> str:
    """The task that a `config.json` was saved for: as bertjax wrote it, or by transformers' class."""
    if "task" in _settings_in(stored):
        return str(_settings_in(stored)["task"])
    member = find_member(str(stored.get("model_type", "bert")))
    architecture = member.of_bert((stored.get("architectures") or ["Model"])[0])
    problem = stored.get("problem_type")
    if problem is None:  # transformers decides by the number of outputs
        problem = "regression" if len(stored_labels(stored)) == 1 else "single_label_classification"
    for name, row in TASKS.items() if member.has(architecture) else ():
        if row.architecture == architecture and row.problem_type in (None, problem):
            return name
    return "encoder"


def stored_preprocessing(stored: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that a `config.json` was saved with; the identity where it has none.

    Raises:
      ConfigError: the entry is no preprocessing, or has a step that bertjax lacks.
    """
    saved = _settings_in(stored)
    return Preprocessing.from_json(saved["preprocessing"]) if "preprocessing" in saved else Preprocessing()


def stored_max_length(stored: Mapping[str, Any]) -> int:
    """The length in tokens at which texts were cut when the model of a `config.json` was trained.

    Where it is not known, as many as the network has positions.
    """
    length = _settings_in(stored).get("max_length") or BertConfig.from_hugging_face(stored).max_length
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ConfigError(f"config.json: bertjax.max_length must be a number of tokens, got {length!r}")
    return length


def says_pooling(stored: Mapping[str, Any]) -> bool:
    """Whether a `config.json` settles how a text becomes one vector: bertjax wrote it, or its task has one way.

    transformers' bare encoder leaves that to its user.
    """
    row = find_task(stored_task(stored))
    return bool(_settings_in(stored).get("pooling")) or row.pooling != "chosen" or bool(row.head_modules)


def stored_reading(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by which the rows of a `config.json`'s model were read; none where it was saved without."""
    reading = _settings_in(stored).get("reading", {})
    if not isinstance(reading, Mapping):
        raise ConfigError(f"config.json: bertjax.reading must hold an object, got {reading!r}")
    return dict(reading)


def stored_temperature(stored: Mapping[str, Any]) -> float:
    """The number by which a `config.json`'s model has its logits divided where they become probabilities; 1 where it
    was saved without one, as by transformers.

    Raises:
      ConfigError: it is no number above 0, or the model's task gives no probabilities of labels.
    """
    saved = _settings_in(stored)
    if "temperature" not in saved:
        return 1.0
    temperature = saved["temperature"]
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not is_number or not 0 < temperature < math.inf:
        raise ConfigError(f"config.json: bertjax.temperature must be a number above 0, got {temperature!r}")
    if find_task(stored_task(stored)).probabilities is None:
        raise ConfigError(
            f"config.json: bertjax.temperature means nothing for task {stored_task(stored)!r}; leave it out"
        )
    return float(temperature)


def save_temperature(folder: Path, temperature: float) -> None:
    """Gives the model in a folder another temperature; its `config.json` is replaced in one step.

    Raises:
      DiskError: the folder cannot be written; it stays as it was.
    """
    stored = read_config_json(folder)
    settings = {key: value for key, value in _settings_in(stored).items() if key != "temperature"}
    if temperature != 1:
        settings["temperature"] = temperature
    with writing(folder, "give a folder that can be written"):
        write_json(folder / "config.json", stored | {"bertjax": settings})


def _settings_in(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of bertjax in a `config.json`; none where another program wrote it.

    Raises:
      ConfigError: the entry is no object.
    """
    saved = stored.get("bertjax", {})
    if not isinstance(saved, Mapping):
        raise ConfigError(f"config.json: bertjax must hold an object, got {saved!r}")
    return saved


def stored_labels(stored: Mapping[str, Any]) -> tuple[str, ...]:
    """The label names of a `config.json`, in index order; two numbered ones, as in transformers, where it has none.

    Raises:
      ConfigError: indices that are not 0, 1, 2, ...
    """
    by_index = stored.get("id2label")
    if not by_index:
        count = stored.get("num_labels") or 2
        if isinstance(count, bool) or not isinstance(count, int):
            raise ConfigError(f"config.json: num_labels must be a whole number, got {count!r}")
        return _numbered_labels(count)
    try:
        indices = sorted(map(int, by_index))
        if indices != list(range(len(indices))):
            raise ValueError
    except ValueError:
        raise ConfigError(f"config.json: id2label must number its labels 0, 1, 2, ..., got {list(by_index)}") from None
    return tuple(str(by_index[key]) for key in sorted(by_index, key=int))


def _numbered_labels(count: int | None) -> tuple[str, ...]:
    return tuple(f"LABEL_{i}" for i in range(count or 0))
