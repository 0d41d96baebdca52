"""Tasks: one row a task, naming its head, its loss, and the class that transformers has for it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from bertjax.batch import Batch, padded_batch
from bertjax.config import BertConfig
from bertjax.errors import ConfigError
from bertjax.model import heads
from bertjax.model.heads import BertOutput, Pooling

Params = Mapping[str, Mapping[str, Any]]


class Task(NamedTuple):
    """What makes a network of the encoder.

    Attributes:
      head: (config, num_labels, batch, pooling, return_hidden_states, deterministic) -> BertOutput, in a Haiku
        transform.
      loss: (output, batch) -> [B, E] the loss of each example slot, or None where there is nothing to train.
      head_module: Haiku path of what pre-training does not provide, or None.
      architecture: transformers' class, for `config.json`.
    """

    head: Callable[..., BertOutput]
    loss: Callable[[BertOutput, Batch], Array] | None
    head_module: str | None
    architecture: str


def cross_entropy(output: BertOutput, batch: Batch) -> Float[Array, "B E"]:
    """Softmax cross-entropy of each example slot; empty slots hold a finite number that their weight of 0 drops."""
    return optax.softmax_cross_entropy_with_integer_labels(output.logits, batch.labels)


def _bare_encoder(config: BertConfig, num_labels: int, *arguments: Any) -> BertOutput:
    return heads.encoder(config, *arguments)


TASKS: Mapping[str, Task] = {
    "encoder": Task(head=_bare_encoder, loss=None, head_module=None, architecture="BertModel"),
    "classification": Task(
        head=heads.classification,
        loss=cross_entropy,
        head_module="classifier",
        architecture="BertForSequenceClassification",
    ),
}


class Model(NamedTuple):
    """A network as pure functions, and what it was made from.

    Attributes:
      init: rng_key -> parameters, freshly initialised.
      apply: (params, rng_key, batch, deterministic=True, return_hidden_states=False) -> BertOutput. rng_key may be
        None when deterministic.
      labels: the label vocabulary, one name an index; empty for the bare encoder.
    """

    init: Callable[[Array], Params]
    apply: Callable[..., BertOutput]
    config: BertConfig
    task: str
    pooling: Pooling
    labels: tuple[str, ...]


def make_model(config: BertConfig, task: str, labels: tuple[str, ...] = (), pooling: Pooling = "pooler") -> Model:
    """The network of a task.

    Args:
      config: the architecture.
      task: a row of `TASKS`.
      labels: names of the classes, in index order.
      pooling: how an example becomes one vector.

    Raises:
      ConfigError: a task that is not in the table.
    """
    if task not in TASKS:
        raise ConfigError(f"task {task!r} is unknown; bertjax has {', '.join(TASKS)}")
    head = TASKS[task].head

    @hk.transform
    def network(batch: Batch, deterministic: bool, return_hidden_states: bool) -> BertOutput:
        batch = Batch(*map(jnp.asarray, batch))  # numpy where a user calls with a batch of the host
        return head(config, len(labels), batch, pooling, return_hidden_states, deterministic)

    def init(rng_key: Array) -> Params:
        one_token = padded_batch(attention_mask=np.ones((1, 1)), token_ids=np.zeros((1, 1)))
        return network.init(rng_key, one_token, True, False)

    def apply(
        params: Params, rng_key: Array | None, batch: Batch, deterministic: bool = True,
        return_hidden_states: bool = False,
    ) -> BertOutput:  # fmt: skip
        return network.apply(params, rng_key, batch, deterministic, return_hidden_states)

    return Model(init, apply, config, task, pooling, labels)


def parameter_shapes(model: Model) -> Params:
    """The parameters of a model as shapes and dtypes, without computing any."""
    return jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)))
