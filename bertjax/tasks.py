"""Tasks: one row a task, naming its head, its loss, and the class that transformers has for it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bertjax import losses
from bertjax.batch import Batch, padded_batch
from bertjax.config import BertConfig, Execution
from bertjax.errors import ConfigError
from bertjax.losses import Loss
from bertjax.model import heads
from bertjax.model.bert import ForwardOptions
from bertjax.model.heads import BertOutput, HeadConfig, Pooling
from bertjax.model.inputs import check_batch
from bertjax.model.precision import check_execution, matmul_precision, policy_of, to_compute

Params = Mapping[str, Mapping[str, Any]]


class Metric(NamedTuple):
    """A number by which models are compared.

    Attributes:
      name: its key in a report, without the rows it is of: `accuracy` for `test/accuracy`.
      greater_is_better: a loss is the other way round.
    """

    name: str
    greater_is_better: bool = True


class Task(NamedTuple):
    """What makes a network of the encoder.

    Attributes:
      head: (setup, batch, wanted) -> BertOutput, in a Haiku transform.
      loss: (output, batch) -> a loss for each of the batch's weights, or None where there is nothing to train.
      metric: the one that says which of two models is better, or None where there is nothing to train.
      architecture: transformers' class, for `config.json`.
      pipeline_tag: the hub's name of what such a model is for.
      head_modules: Haiku paths of what a bare encoder's checkpoint does not have.
      labels: what one label is given for: an example, each token of it, the tokens that bound an answer, a group of
        examples, or both kinds of pre-training.
      names: whether the labels have names, as many as the head has outputs.
      pooling: "chosen" by the user, fixed to one, or None where the head reads tokens.
      problem_type: transformers' name of the loss, where one class has several.
      scores: (output, batch) -> what evaluation reads, [B, E, ...] of examples, [B, G, ...] of groups or [B, T, ...] of
        tokens.
    """

    head: Callable[[HeadConfig, Batch, ForwardOptions], BertOutput]
    loss: Loss | None
    metric: Metric | None
    architecture: str
    pipeline_tag: str
    head_modules: tuple[str, ...] = ()
    labels: Literal["example", "tokens", "span", "group", "pretraining"] = "example"
    names: bool = False
    pooling: Literal["chosen", "pooler", "mean"] | None = "pooler"
    problem_type: str | None = None
    scores: Callable[[BertOutput, Batch], Any] = losses.logits


_MASKED_LM = ("masked_lm", "masked_lm/transform", "masked_lm/norm")
_SEQUENCE = Task(
    head=heads.classification,
    loss=losses.cross_entropy,
    metric=Metric("f1_macro"),
    architecture="BertForSequenceClassification",
    pipeline_tag="text-classification",
    head_modules=("classifier",),
    names=True,
    pooling="chosen",
    problem_type="single_label_classification",
)

TASKS: Mapping[str, Task] = {
    "encoder": Task(heads.encoder, None, None, "BertModel", "feature-extraction", pooling="chosen"),
    "classification": _SEQUENCE,
    "multi_label": _SEQUENCE._replace(
        loss=losses.binary_cross_entropy, metric=Metric("f1_micro"), problem_type="multi_label_classification"
    ),
    "regression": _SEQUENCE._replace(
        loss=losses.squared_error, metric=Metric("mse", greater_is_better=False), problem_type="regression"
    ),
    "token_classification": Task(
        head=heads.token_classification,
        loss=losses.cross_entropy,
        metric=Metric("f1"),
        architecture="BertForTokenClassification",
        pipeline_tag="token-classification",
        head_modules=("classifier",),
        labels="tokens",
        names=True,
        pooling=None,
    ),
    "question_answering": Task(
        head=heads.question_answering,
        loss=losses.span_cross_entropy,
        metric=Metric("f1"),
        architecture="BertForQuestionAnswering",
        pipeline_tag="question-answering",
        head_modules=("qa_outputs",),
        labels="span",
        pooling=None,
    ),
    "multiple_choice": Task(
        head=heads.multiple_choice,
        loss=losses.cross_entropy,
        metric=Metric("accuracy"),
        architecture="BertForMultipleChoice",
        pipeline_tag="multiple-choice",
        head_modules=("classifier",),
        labels="group",
    ),
    "next_sentence": Task(
        head=heads.next_sentence,
        loss=losses.cross_entropy,
        metric=Metric("accuracy"),
        architecture="BertForNextSentencePrediction",
        pipeline_tag="text-classification",
        head_modules=("next_sentence",),
    ),
    "masked_lm": Task(
        head=heads.masked_lm,
        loss=losses.cross_entropy,
        metric=Metric("loss", greater_is_better=False),
        architecture="BertForMaskedLM",
        pipeline_tag="fill-mask",
        head_modules=_MASKED_LM,
        labels="tokens",
        pooling=None,
        scores=losses.masked_words,
    ),
    "pretraining": Task(
        head=heads.pretraining,
        loss=losses.pretraining_cross_entropy,
        metric=Metric("loss", greater_is_better=False),
        architecture="BertForPreTraining",
        pipeline_tag="fill-mask",
        head_modules=(*_MASKED_LM, "next_sentence"),
        labels="pretraining",
    ),
    "sentence_embedding": Task(
        head=heads.sentence_embedding,
        loss=losses.cosine_error,
        metric=Metric("spearman"),
        architecture="BertModel",
        pipeline_tag="sentence-similarity",
        labels="group",
        pooling="mean",
        scores=losses.cosine,
    ),
}


class Model(NamedTuple):
    """A network as pure functions, and what it was made from.

    Attributes:
      init: rng_key -> parameters, freshly initialised.
      apply: (params, rng_key, batch, deterministic=True, return_hidden_states=False, return_attentions=False) ->
        BertOutput. rng_key may be None when deterministic. A batch of the host is checked first; inside of `jax.jit`,
        an index out of range gives NaN.
      labels: the label vocabulary, one name an index; empty where labels have no names.
    """

    init: Callable[[Array], Params]
    apply: Callable[..., BertOutput]
    config: BertConfig
    task: str
    pooling: Pooling
    labels: tuple[str, ...]


def make_model(config: BertConfig, task: str, labels: tuple[str, ...] = (), pooling: Pooling | None = None) -> Model:
    """The network of a task.

    Args:
      config: the architecture, and how to run it.
      task: a row of `TASKS`.
      labels: names of the classes, in index order, where the task has them.
      pooling: how an example becomes one vector, where the task leaves it open; default: "pooler".

    Raises:
      ConfigError: a task that is not in the table, a pooling that it does not have, or a device that cannot run it.
    """
    row = find_task(task)
    check_execution(config.execution)
    setup = HeadConfig(config, len(labels), _pooling(task, pooling))
    policy = policy_of(config.execution)

    def transformed(setup: HeadConfig) -> hk.Transformed:
        # numpy where a user calls with a batch of the host
        return hk.transform(lambda batch, wanted: row.head(setup, jax.tree.map(jnp.asarray, batch), wanted))

    # Parameters start the same however the network is run.
    plain = transformed(setup._replace(config=replace(config, execution=Execution())))
    network = transformed(setup)

    def init(rng_key: Array) -> Params:
        return plain.init(
            rng_key, padded_batch(attention_mask=np.ones((1, 1)), token_ids=np.zeros((1, 1))), ForwardOptions()
        )

    def apply(
        params: Params, rng_key: Array | None, batch: Batch, deterministic: bool = True,
        return_hidden_states: bool = False, return_attentions: bool = False,
    ) -> BertOutput:  # fmt: skip
        check_batch(config, batch)
        wanted = ForwardOptions(deterministic, return_hidden_states, return_attentions)
        with matmul_precision(config.execution):
            return policy.cast_to_output(network.apply(to_compute(policy, params), rng_key, batch, wanted))

    return Model(init, apply, config, task, setup.pooling, labels)


def find_task(name: str) -> Task:
    """A row of the table.

    Raises:
      ConfigError: there is none of that name.
    """
    if name not in TASKS:
        raise ConfigError(f"task {name!r} is unknown; bertjax has {', '.join(TASKS)}")
    return TASKS[name]


def _pooling(task: str, wanted: Pooling | None) -> Pooling:
    """The pooling of a task: its own, or the wanted one where it leaves that open."""
    offered = TASKS[task].pooling
    if offered == "chosen":
        return wanted or "pooler"
    if wanted not in (None, offered) and offered is not None:
        raise ConfigError(f"task {task!r} has pooling {offered!r}, not {wanted!r}")
    return offered or "pooler"


def parameter_shapes(model: Model) -> Params:
    """The parameters of a model as shapes and dtypes, without computing any."""
    return jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)))
