"""`make_model`: the network of a task as pure functions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bertjax.batch import Batch, padded_batch
from bertjax.config import BertConfig, Execution, Pooling
from bertjax.devices.made_once import made_once
from bertjax.errors import ConfigError, check_interpreter
from bertjax.members import HeadScheme, find_member
from bertjax.members.weight_table import WeightTable
from bertjax.model.bert import ForwardOptions
from bertjax.model.heads import BertOutput, HeadConfig
from bertjax.model.inputs import check_batch
from bertjax.model.precision import check_execution, in_32_bits, matmul_precision, policy_of, to_compute
from bertjax.tasks.registry import find_task

Params = Mapping[str, Mapping[str, Any]]
Head = Callable[[HeadConfig, Batch, ForwardOptions], BertOutput]
_Keys = tuple[Array, tuple[Array, ...]]  # a `hk.PRNGSequence`: the key that it goes on from, and those it gives before


class Model(NamedTuple):
    """A network as a pair of pure functions, with the settings it was made from.

    Attributes:
      init: rng_key -> freshly initialised parameters.
      apply: (params, rng_key, batch, deterministic=True, return_hidden_states=False, return_attentions=False,
        word_embeddings=None) -> BertOutput. rng_key may be None when deterministic. Outside `jax.jit` the batch is
        checked first; inside, an index out of range gives NaN. `word_embeddings` [B, T, D] replace those of the batch's
        tokens, as transformers' `inputs_embeds`.
      config: the architecture, and how to run it.
      task: its name in the registry.
      pooling: how an example becomes one vector.
      labels: the names of the labels, by index; empty if they have none.
    """

    init: Callable[[Array], Params]
    apply: Callable[..., BertOutput]
    config: BertConfig
    task: str
    pooling: Pooling
    labels: tuple[str, ...]


def make_model(config: BertConfig, task: str, labels: tuple[str, ...] = (), pooling: Pooling | None = None) -> Model:
    """The network of a task. Equal settings give the same function objects, so that they compile once.

    Args:
      config: the architecture, and how to run it.
      task: an entry of `TASKS`.
      labels: names of the classes, in index order, if the task has names.
      pooling: how an example becomes one vector, if the task leaves it open; default: "pooler".

    Raises:
      ConfigError: an unknown task, or one that this kind of encoder does not have in transformers; a pooling that the
        task does not have; a single class; or a device or interpreter that cannot run the network.
    """
    check_interpreter()
    entry = find_task(task)
    if len(labels) == 1 and entry.problem_type == "single_label_classification":
        raise ConfigError(f"task {task!r} needs two labels or more, got only {labels[0]!r}; see multi_label")
    check_execution(config.execution)
    scheme = find_member(config.model_type).scheme_of(entry.architecture)
    head_config = HeadConfig(config, len(labels), _pooling(task, pooling, scheme), scheme)
    # The initial parameters do not depend on the execution.
    init = _initialised(entry.head, head_config._replace(config=replace(config, execution=Execution())))
    apply = _applied(entry.head, head_config, entry.float32_modules)
    return Model(init, apply, config, task, head_config.pooling, labels)


def with_head(model: Model, head: Head) -> Model:
    """The same network with another head, which must have the same parameters."""
    scheme = find_member(model.config.model_type).scheme_of(find_task(model.task).architecture)
    head_config = HeadConfig(model.config, len(model.labels), model.pooling, scheme)
    return model._replace(apply=_applied(head, head_config, find_task(model.task).float32_modules))


@made_once
def _initialised(head: Head, head_config: HeadConfig) -> Callable[[Array], Params]:
    """`Model.init` of a head."""
    network = _transformed(head, head_config)

    @in_32_bits()
    def init(rng_key: Array | _Keys) -> Params:
        return network.init(
            rng_key, padded_batch(attention_mask=np.ones((1, 1)), token_ids=np.zeros((1, 1))), ForwardOptions()
        )

    return init


def _transformed(head: Head, head_config: HeadConfig) -> hk.Transformed:
    # numpy where a user calls with a batch of the host
    return hk.transform(lambda batch, options: head(head_config, jax.tree.map(jnp.asarray, batch), options))


@made_once
def _applied(head: Head, head_config: HeadConfig, float32_modules: Sequence[str]) -> Callable[..., BertOutput]:
    """`Model.apply` of a head."""
    config, network = head_config.config, _transformed(head, head_config)
    policy = policy_of(config.execution)
    computed = partial(to_compute, policy, kept=float32_modules)

    @in_32_bits()
    def apply(
        params: Params, rng_key: Array | None, batch: Batch, deterministic: bool = True,
        return_hidden_states: bool = False, return_attentions: bool = False, word_embeddings: Any = None,
    ) -> BertOutput:  # fmt: skip
        check_batch(config, batch)
        given = None if word_embeddings is None else jnp.asarray(word_embeddings, jnp.float32)
        options = ForwardOptions(deterministic, return_hidden_states, return_attentions, given)
        with matmul_precision(config.execution):
            return policy.cast_to_output(network.apply(computed(params), rng_key, batch, options))

    return apply


def _pooling(task: str, requested: Pooling | None, scheme: HeadScheme) -> Pooling:
    """The pooling of a task: its own, or the requested one where the task leaves it open."""
    fixed = find_task(task).pooling
    if fixed == "chosen":
        if requested == "pooler" and not scheme.pooler:
            raise ConfigError("pooling 'pooler' needs a pooler, which this encoder does not have; choose cls or mean")
        return requested or ("pooler" if scheme.pooler else "cls")
    if requested not in (None, fixed) and fixed is not None:
        raise ConfigError(f"task {task!r} has pooling {fixed!r}, not {requested!r}")
    return fixed or "pooler"


def parameter_shapes(model: Model) -> Params:
    """The parameters of a model as shapes and dtypes, without computing any."""
    leaves, structure = _initial_shapes(model.init)
    return structure.unflatten(leaves)


@made_once  # each call of `jax.eval_shape` leaves an entry in JAX's caches for as long as its function lives
def _initial_shapes(
    init: Callable[[Array], Params],
) -> tuple[list[jax.ShapeDtypeStruct], jax.tree_util.PyTreeDef]:
    return jax.tree.flatten(jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0))))


def weight_table(model: Model) -> WeightTable:
    """The table of a model's weights by Hugging Face's names."""
    return find_member(model.config.model_type).weights_of(find_task(model.task).architecture)


@made_once
def initialised(
    init: Callable[[Any], Params], parameters: tuple[tuple[str, str], ...]
) -> Callable[[Array], list[Array]]:
    """rng_key -> some parameters, by module and name, as `Model.init` initialises them; compiled."""
    leaves, _ = _initial_shapes(init)

    @jax.jit  # only these leave the function, so XLA drops the initialisation of all others
    def initial(keys: _Keys) -> list[Array]:
        params = init(keys)
        return [params[module][parameter] for module, parameter in parameters]

    def of_key(rng_key: Array) -> list[Array]:
        # A key for each parameter at most. XLA would spend a second on the splits that lead to those of a head.
        keys = hk.PRNGSequence(rng_key)
        drawn = tuple(next(keys) for _ in leaves)
        rest, _ = keys.internal_state
        return initial((rest, drawn))

    return of_key
