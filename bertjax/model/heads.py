"""Pooling, and the task heads, which compute logits from the encoder's hidden states.

    B rows   T tokens in a row   D hidden size   E example slots in a row   L labels   V vocabulary
    G groups in a row (a multiple choice's candidates, a pair of sentences)   C candidates in a group, E = G C

An example becomes one vector by one of three poolings: `pooler` (dense and tanh over `[CLS]`, as in transformers'
BertForSequenceClassification; in BERT's code, not in the paper), `cls` (the hidden state of `[CLS]`) or `mean` (over
the example's tokens, as in sentence encoders). Other encoders have another activation in the pooler, a norm after it,
or apply it to every token; a `HeadScheme` describes that.

A head is a function (head_config, batch, options) -> BertOutput, called inside a Haiku transform.
"""

from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bertjax.batch import Batch, Pretraining
from bertjax.config import BertConfig, Pooling
from bertjax.members import HeadScheme
from bertjax.model.bert import Bert, ForwardOptions
from bertjax.model.dropout import drop_features, drop_pooled, token_places
from bertjax.model.encoder import Encoded
from bertjax.model.layers import activation, gather_positions, layer_norm, linear
from bertjax.model.quantized import QuantizedWeight, int8_scores

_SMALLEST_NORM = 1e-12  # as torch's normalize has it


class HeadConfig(NamedTuple):
    """The configuration of a head.

    Attributes:
      num_labels: L, where the head has one output per label.
      pooling: how an example becomes one vector, where the head reads one.
      scheme: what differs in this head between kinds of encoders.
    """

    config: BertConfig
    num_labels: int
    pooling: Pooling
    scheme: HeadScheme = HeadScheme()

    @property
    def dropout_rate(self) -> float:
        """Dropout rate of the last linear layer's input."""
        return 0.0 if self.scheme.dropout is None else self.config.rate(self.scheme.dropout)


class BertOutput(NamedTuple):
    """The output of the network for a batch.

    Attributes:
      logits: of a task head; None for a bare encoder. [B, E, L] per example, [B, T, L] per token, [B, T, 2] (start,
        end) for spans, [B, G, C] for multiple choice, [B, T, V] for masked words, [B, T] for replaced tokens; a
        `Pretraining` of two of them for BERT's pre-training.
      pooled_output: [B, E, D] one vector per example slot; None where the head reads tokens.
      hidden_states: [N + 1, B, T, D] the embeddings and each layer's output; None unless requested.
      attentions: [N, B, H, T, T] attention weights of each layer, before dropout; None unless requested.
    """

    logits: Any
    pooled_output: Float[Array, "B E D"] | None
    hidden_states: Float[Array, "N1 B T D"] | None
    attentions: Float[Array, "N B H T T"] | None


def encoder(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """The bare encoder: one vector per example."""
    return _of_examples(*_pooled(head_config, batch, options), logits=None)


def _pooled(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> tuple[Encoded, Float[Array, "B E D"]]:
    """One vector per example slot. The last layer runs at `[CLS]` alone, unless more is requested or needed."""
    config, starts, pools = head_config.config, batch.example_starts, head_config.pooling == "pooler"
    of_mean = head_config.pooling == "mean" or (pools and config.mean_pooler)
    everywhere = of_mean or options.every_position
    encoded, _ = Bert(config)(batch, options, output_positions=None if everywhere else starts)
    vectors = encoded.last_hidden_states  # [B, T, D], or [B, E, D]
    if of_mean:
        vectors = mean_of_examples(vectors, batch.segment_ids, starts.shape[1])
    elif everywhere:
        vectors = gather_positions(vectors, starts)
    if pools and head_config.scheme.drops_before:
        vectors = drop_pooled(head_config.dropout_rate, vectors, batch.example_numbers, options.deterministic)
    return encoded, pooler(head_config, vectors) if pools else vectors


def pooler(head_config: HeadConfig, vectors: Float[Array, "B E D"]) -> Float[Array, "B E D"]:
    """The pooler: dense and tanh over the hidden state of `[CLS]`, or what the head's scheme has instead."""
    config, scheme = head_config.config, head_config.scheme
    pooled = activation(scheme.activation)(linear(config, config.hidden_size, "pooler")(vectors))
    return layer_norm(config, "pooler_norm")(pooled) if scheme.normalizes else pooled


def sentence_embedding(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """Pooled vectors of unit length, whose dot product is their cosine (Reimers and Gurevych 2019)."""
    encoded, pooled = _pooled(head_config, batch, options)
    pooled = pooled.astype(jnp.float32)
    squared = jnp.square(pooled).sum(axis=-1, keepdims=True)
    # The floor is inside the root, since the gradient of the norm at an empty slot's zeros would be NaN.
    unit = pooled / jnp.sqrt(jnp.maximum(squared, _SMALLEST_NORM**2))
    return _of_examples(encoded, unit, logits=None)


def classification(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """Sequence classification: pool, dropout, one linear layer named `classifier` (BERT, section 4.1)."""
    return _classified(head_config, head_config.num_labels, batch, options)


def regression(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """`classification` with a float32 output layer: bfloat16 has no number between 250,000 and 251,000."""
    encoded, pooled, features = _classifier_input(head_config, batch, options)
    logits = _last(head_config, head_config.num_labels, "classifier", dtype=jnp.float32)(features)
    return _of_examples(encoded, pooled, logits)


def _classified(head_config: HeadConfig, num_outputs: int, batch: Batch, options: ForwardOptions) -> BertOutput:
    encoded, pooled, features = _classifier_input(head_config, batch, options)
    return _of_examples(encoded, pooled, _last(head_config, num_outputs, "classifier")(features))


def _classifier_input(
    head_config: HeadConfig, batch: Batch, options: ForwardOptions
) -> tuple[Encoded, Float[Array, "B E D"], Float[Array, "B E D"]]:
    """The encoder's output, the pooled vectors, and these after dropout."""
    encoded, pooled = _pooled(head_config, batch, options)
    features = drop_pooled(head_config.dropout_rate, pooled, batch.example_numbers, options.deterministic)
    return encoded, pooled, features


def multiple_choice(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """One score per candidate; the softmax is over the candidates of a group (BERT, section 4.4).

    The candidates of a group are consecutive slots of one row. Their number follows from the labels, one per group.
    """
    output = _classified(head_config, 1, batch, options)
    rows, groups = batch.labels.shape
    return output._replace(logits=output.logits.reshape(rows, groups, -1))


def next_sentence(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """Whether the second text follows the first: label 0 means yes (BERT, section 3.1, task 2)."""
    encoded, pooled = _pooled(head_config, batch, options)
    return _of_examples(encoded, pooled, linear(head_config.config, 2, "next_sentence")(pooled))


def token_classification(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """One label per token: dropout and one linear layer named `classifier` (BERT, section 5.3)."""
    encoded, features = _token_features(head_config, batch, options)
    return _of_tokens(encoded, _last(head_config, head_config.num_labels, "classifier")(features))


def question_answering(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """Start and end of the answer: two scores per token, layer `qa_outputs` (BERT, section 4.2)."""
    encoded, features = _token_features(head_config, batch, options)
    return _of_tokens(encoded, _last(head_config, 2, "qa_outputs")(features))


def _token_features(
    head_config: HeadConfig, batch: Batch, options: ForwardOptions
) -> tuple[Encoded, Float[Array, "B T D"]]:
    """The encoder's output, and the input of a linear layer over tokens, after dropout."""
    encoded, _ = Bert(head_config.config)(batch, options)
    features = encoded.last_hidden_states
    if head_config.scheme.over_tokens:
        features = pooler(head_config, features)
    return encoded, drop_features(head_config.dropout_rate, features, token_places(batch), options.deterministic)


def _last(head_config: HeadConfig, size: int, name: str, dtype: Any = None) -> Any:
    """The output layer of a head, which has a bias in every encoder."""
    return linear(head_config.config, size, name, dtype, bias=True)


class MaskedLanguageModel(hk.Module):
    """Vocabulary logits per token: a transform, then a decoder tied to the word embeddings (BERT, section 3.1, task 1).

    The transform (dense, activation, layer norm) is in BERT's code and not in the paper.
    """

    def __init__(self, head_config: HeadConfig, name: str = "masked_lm"):
        super().__init__(name)
        self.config = head_config.config
        self.activation = head_config.scheme.word_activation or self.config.hidden_act

    def __call__(
        self, hidden_states: Float[Array, "B T D"], word_embeddings: Float[Array, "V W"] | QuantizedWeight
    ) -> Float[Array, "B T V"]:
        c = self.config
        transformed = activation(self.activation)(linear(c, c.embedding_width, "transform")(hidden_states))
        transformed = layer_norm(c, "norm")(transformed)
        bias = hk.get_parameter("b", [c.vocab_size], init=jnp.zeros)
        transformed = transformed.astype(bias.dtype)
        if isinstance(word_embeddings, QuantizedWeight):
            scores = int8_scores(transformed, word_embeddings)
        else:
            scores = jnp.einsum("BTW,VW->BTV", transformed, word_embeddings.astype(bias.dtype))
        return scores + bias[None, None]


def masked_lm(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """The masked language model (BERT, section 3.1, task 1)."""
    encoded, words = Bert(head_config.config)(batch, options)
    return _of_tokens(encoded, MaskedLanguageModel(head_config)(encoded.last_hidden_states, words))


def pretraining(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """Masked language model and next sentence prediction over one encoder (BERT, section 3.1)."""
    config = head_config.config
    encoded, words = Bert(config)(batch, options)
    pooled = pooler(head_config, gather_positions(encoded.last_hidden_states, batch.example_starts))
    logits = Pretraining(
        masked_lm=MaskedLanguageModel(head_config)(encoded.last_hidden_states, words),
        next_sentence=linear(config, 2, "next_sentence")(pooled),
    )
    return _of_examples(encoded, pooled, logits)


class ReplacedTokens(hk.Module):
    """One logit per token, that it was replaced (ELECTRA, section 2).

    The dense layer and the activation before it are in ELECTRA's code and not in the paper.
    """

    def __init__(self, config: BertConfig, name: str = "replaced_tokens"):
        super().__init__(name)
        self.config = config

    def __call__(self, hidden_states: Float[Array, "B T D"]) -> Float[Array, "B T"]:
        c = self.config
        transformed = activation(c.hidden_act)(linear(c, c.hidden_size, "transform")(hidden_states))
        return linear(c, 1, "prediction")(transformed)[..., 0]


def replaced_tokens(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """Whether each token was replaced by another (ELECTRA, section 2)."""
    encoded, _ = Bert(head_config.config)(batch, options)
    return _of_tokens(encoded, ReplacedTokens(head_config.config)(encoded.last_hidden_states))


def _of_examples(encoded: Encoded, pooled: Float[Array, "B E D"], logits: Any) -> BertOutput:
    return BertOutput(logits, pooled, encoded.hidden_states, encoded.attention_weights)


def _of_tokens(encoded: Encoded, logits: Any) -> BertOutput:
    return BertOutput(logits, None, encoded.hidden_states, encoded.attention_weights)


def mean_of_examples(
    hidden_states: Float[Array, "B T D"], segment_ids: Int[Array, "B T"], num_slots: int
) -> Float[Array, "B E D"]:
    """The mean hidden state of each example; 0 in an empty slot."""
    membership = jax.nn.one_hot(segment_ids - 1, num_slots, axis=1)  # [B, E, T], float32
    total = jnp.einsum("BET,BTD->BED", membership, hidden_states.astype(membership.dtype))
    return (total / jnp.maximum(membership.sum(axis=-1, keepdims=True), 1)).astype(hidden_states.dtype)
