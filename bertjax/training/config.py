"""The settings of a fine-tuning run: data only, frozen, and without an import that costs time."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bertjax.config import Execution
from bertjax.data.table import Table
from bertjax.errors import ConfigError


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with linear warmup and decay, clipped by the global norm of the gradient."""

    learning_rate: float = 1e-4
    """Peak learning rate. The default suits MiniLM; BERT-base and larger want 2e-5 to 5e-5."""

    warmup: float = 0.1
    """Share of the steps over which the learning rate rises to its peak; it falls to 0 over the rest."""

    weight_decay: float = 0.01
    """Decoupled weight decay; biases and layer norms have none."""

    clip_norm: float = 1.0
    """Largest global norm of the gradient."""

    b1: float = 0.9
    """Decay of the first moment."""

    b2: float = 0.999
    """Decay of the second moment."""

    eps: float = 1e-8
    """Added to the root of the second moment."""

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "learning_rate must be positive", self.learning_rate)
        _require(0 <= self.warmup < 1, "warmup is a share of the steps, in [0, 1)", self.warmup)
        _require(self.weight_decay >= 0, "weight_decay must not be negative", self.weight_decay)
        _require(self.clip_norm > 0, "clip_norm must be positive", self.clip_norm)


@dataclass(frozen=True)
class Imbalance:
    """What is done about classes of very different size; nothing, unless it is asked for."""

    class_weights: tuple[str, ...] = ()
    """Weight of each class in the loss: `balanced` (inverse to its share of the training rows), or `label=weight` for
    some classes, the others weighing 1."""

    label_smoothing: float = 0.0
    """Share of a label that is spread evenly over all classes."""

    focal_gamma: float = 0.0
    """Focal loss: an answer given with probability p weighs (1 - p)^gamma; 2 is usual."""

    oversample: bool = False
    """Repeat training rows of smaller classes, until each class has as many as the largest."""

    def __post_init__(self) -> None:
        _require(0 <= self.label_smoothing < 1, "label_smoothing must be in [0, 1)", self.label_smoothing)
        _require(self.focal_gamma >= 0, "focal_gamma must not be negative", self.focal_gamma)
        if self.oversample and self.class_weights:
            raise ConfigError("oversample and class_weights both make up for small classes; give one of them")


@dataclass(frozen=True)
class FineTuneConfig:
    """Everything a fine-tuning run depends on. The defaults fine-tune MiniLM-L6 on TREC questions."""

    model: str = "minilm-l6"
    """Weights to start from: a folder, a hub id, or a name of the catalog."""

    data: Table = field(default_factory=Table)
    """The labelled table."""

    task: Literal["classification"] = "classification"
    """What is learned."""

    pooling: Literal["pooler", "cls", "mean"] = "pooler"
    """How an example becomes one vector."""

    max_length: int = 128
    """Longest example, in tokens; what is longer is cut."""

    epochs: int = 3
    """Passes over the training rows."""

    batch_size: int = 32
    """Examples an update, over all devices."""

    packing: Literal["on", "off"] = "on"
    """Several examples in a row of tokens, or one padded row an example; the maths are the same."""

    seed: int = 0
    """Of the head's initialisation, the order of examples, and dropout."""

    dropout_rate: float | None = None
    """Dropout everywhere; default: the checkpoint's own rates."""

    freeze: tuple[str, ...] = ()
    """What stays as it is: `embeddings`, `layers:N` (the first N), `backbone` (everything but the head), or patterns of
    parameter paths such as `bert/layer_*/attention/*`."""

    init_missing: tuple[str, ...] = ()
    """Tensors that the checkpoint may lack, by Hugging Face's names or patterns of them (`cls.*`)."""

    drop: tuple[str, ...] = ()
    """Tensors of the checkpoint to leave out, by Hugging Face's names or patterns of them."""

    execution: Execution = field(default_factory=Execution)
    """How the network is computed."""

    optimizer: Optimizer = field(default_factory=Optimizer)
    """How parameters are updated."""

    imbalance: Imbalance = field(default_factory=Imbalance)
    """What is done about classes of very different size."""

    experiment: str = "bertjax"
    """MLflow experiment that the run belongs to."""

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs must be 1 or more", self.epochs)
        _require(self.batch_size >= 1, "batch_size must be 1 or more", self.batch_size)
        _require(self.max_length >= 3, "max_length must be 3 or more ([CLS], a token, [SEP])", self.max_length)
        _require(self.seed >= 0, "seed must not be negative", self.seed)
        if self.dropout_rate is not None:
            _require(0 <= self.dropout_rate < 1, "dropout_rate must be in [0, 1)", self.dropout_rate)


def _require(condition: bool, rule: str, value: object) -> None:
    if not condition:
        raise ConfigError(f"{rule}, got {value!r}")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """A config as dotted keys and plain values: what sweeps override and MLflow records.

    >>> flatten(FineTuneConfig())["optimizer.learning_rate"]
    0.0001
    """
    values: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            values |= flatten(value, f"{prefix}{item.name}.")
        else:
            values[prefix + item.name] = list(value) if isinstance(value, tuple) else value
    return values


def override(config: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a config with some dotted keys changed.

    Raises:
      ConfigError: a key that the config does not have, or a value of another type.

    >>> override(FineTuneConfig(), {"optimizer.learning_rate": 3e-5}).optimizer.learning_rate
    3e-05
    """
    known = flatten(config)
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"unknown setting {', '.join(unknown)}; there are {', '.join(known)}")
    changes: dict[str, Any] = {}
    hints = typing.get_type_hints(type(config))
    for item in dataclasses.fields(config):
        inner = {key.removeprefix(f"{item.name}."): value for key, value in values.items() if _under(key, item.name)}
        if inner:
            changes[item.name] = override(getattr(config, item.name), inner)
        elif item.name in values:
            changes[item.name] = _as_type(item.name, values[item.name], hints[item.name])
    return dataclasses.replace(config, **changes)


def _under(key: str, name: str) -> bool:
    return key.startswith(f"{name}.")


def _as_type(name: str, value: Any, wanted: Any) -> Any:
    """`value` if its type fits the annotation, with the freedoms of JSON: lists for tuples, integers for floats."""
    options = typing.get_args(wanted) if typing.get_origin(wanted) in (typing.Union, types.UnionType) else (wanted,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if typing.get_origin(option) is Literal and value in typing.get_args(option):
            return value
        if typing.get_origin(option) is tuple and isinstance(value, list | tuple):
            return tuple(value)
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if option in (bool, int, str) and type(value) is option:
            return value
    raise ConfigError(f"{name} cannot be {value!r}")
