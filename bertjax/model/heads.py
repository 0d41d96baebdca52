"""Pooling of an example to one vector, and the heads, which compute logits from the encoder's hidden states.

    B rows   T tokens in a row   D hidden size   E example slots in a row   L labels   V vocabulary
    G groups in a row (a multiple choice's candidates, a pair of sentences)   C candidates in a group, E = G C

Three poolings: `pooler` (dense and tanh over `[CLS]`, as transformers' BertForSequenceClassification; it is in BERT's
code and not in the paper), `cls` (the hidden state of `[CLS]` as it is), `mean` (over the example's tokens, as
sentence encoders have it). Other members have another activation there, or a norm behind it, or the layer over each
token: a `HeadScheme` says so.

A head is a function (head_config, batch, options) -> BertOutput, called inside of a Haiku transform.
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
      num_labels: L, where the head has as many outputs as there are labels.
      pooling: how an example becomes one vector, where the head reads one.
      scheme: how the member that the network is of reads the encoder in this head.
    """

    config: BertConfig
    num_labels: int
    pooling: Pooling
    scheme: HeadScheme = HeadScheme()

    @property
    def dropout_rate(self) -> float:
        """Of the input of the last linear layer."""
        return 0.0 if self.scheme.dropout is None else self.config.rate(self.scheme.dropout)


class BertOutput(NamedTuple):
    """The output of the network for a batch.

    Attributes:
      logits: of a task head, None for a bare encoder. [B, E, L] for one answer an example, [B, T, L] for one a token,
        [B, T, 2] (start, end) for spans, [B, G, C] for multiple choice, [B, T, V] for masked words, [B, T] for replaced
        tokens; `Pretraining` has two of them.
      pooled_output: [B, E, D] one vector for each example slot; None where the head reads tokens.
      hidden_states: [N + 1, B, T, D] the embeddings and each layer's output; None unless requested.
      attentions: [N, B, H, T, T] attention weights of each layer, before dropout; None unless requested.
    """

    logits: Any
    pooled_output: Float[Array, "B E D"] | None
    hidden_states: Float[Array, "N1 B T D"] | None
    attentions: Float[Array, "N B H T T"] | None


def encoder(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """The bare encoder: one vector an example."""
    return _of_examples(*_pooled(head_config, batch, options), logits=None)


def _pooled(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> tuple[Encoded, Float[Array, "B E D"]]:
    """One vector an example slot. Unless more is requested or needed, the last layer runs at `[CLS]` alone."""
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
    """Dense and tanh over the hidden state of `[CLS]`, or as the head's scheme has it."""
    config, scheme = head_config.config, head_config.scheme
    pooled = activation(scheme.activation)(linear(config, config.hidden_size, "pooler")(vectors))
    return layer_norm(config, "pooler_norm")(pooled) if scheme.normalizes else pooled


def sentence_embedding(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """Pooled and scaled to length 1, so that a dot product is a cosine (Reimers and Gurevych 2019)."""
    encoded, pooled = _pooled(head_config, batch, options)
    pooled = pooled.astype(jnp.float32)
    squared = jnp.square(pooled).sum(axis=-1, keepdims=True)
    # The floor lies under the root: the norm of an empty slot's zeros has a gradient too.
    unit = pooled / jnp.sqrt(jnp.maximum(squared, _SMALLEST_NORM**2))
    return _of_examples(encoded, unit, logits=None)


def classification(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """Sequence classification: pool, dropout, one linear layer named `classifier` (BERT, section 4.1)."""
    return _classified(head_config, head_config.num_labels, batch, options)


def regression(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """`classification` whose linear layer is in float32: bfloat16 has no number between 250,000 and 251,000."""
    encoded, pooled, features = _classifier_input(head_config, batch, options)
    logits = _last(head_config, head_config.num_labels, "classifier", dtype=jnp.float32)(features)
    return _of_examples(encoded, pooled, logits)


def _classified(head_config: HeadConfig, num_outputs: int, batch: Batch, options: ForwardOptions) -> BertOutput:
    encoded, pooled, features = _classifier_input(head_config, batch, options)
    return _of_examples(encoded, pooled, _last(head_config, num_outputs, "classifier")(features))


def _classifier_input(
    head_config: HeadConfig, batch: Batch, options: ForwardOptions
) -> tuple[Encoded, Float[Array, "B E D"], Float[Array, "B E D"]]:
    """The encoder's output, the pooled one, and that after dropout."""
    encoded, pooled = _pooled(head_config, batch, options)
    features = drop_pooled(head_config.dropout_rate, pooled, batch.example_numbers, options.deterministic)
    return encoded, pooled, features


def multiple_choice(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """One score a candidate, and a softmax over the candidates of a group (BERT, section 4.4).

    The candidates of a group are consecutive slots of one row; their number follows from the batch, which has one
    label for each group.
    """
    output = _classified(head_config, 1, batch, options)
    rows, groups = batch.labels.shape
    return output._replace(logits=output.logits.reshape(rows, groups, -1))


def next_sentence(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """Whether the second text follows the first: label 0 means yes (BERT, section 3.1, task 2)."""
    encoded, pooled = _pooled(head_config, batch, options)
    return _of_examples(encoded, pooled, linear(head_config.config, 2, "next_sentence")(pooled))


def token_classification(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """One label a token: dropout and one linear layer named `classifier` (BERT, section 5.3)."""
    encoded, features = _token_features(head_config, batch, options)
    return _of_tokens(encoded, _last(head_config, head_config.num_labels, "classifier")(features))


def question_answering(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """Where the answer starts and ends: two scores a token, layer `qa_outputs` (BERT, section 4.2)."""
    encoded, features = _token_features(head_config, batch, options)
    return _of_tokens(encoded, _last(head_config, 2, "qa_outputs")(features))


def _token_features(
    head_config: HeadConfig, batch: Batch, options: ForwardOptions
) -> tuple[Encoded, Float[Array, "B T D"]]:
    """The encoder's output, and what a linear layer over tokens reads of it, after dropout."""
    encoded, _ = Bert(head_config.config)(batch, options)
    features = encoded.last_hidden_states
    if head_config.scheme.over_tokens:
        features = pooler(head_config, features)
    return encoded, drop_features(head_config.dropout_rate, features, token_places(batch), options.deterministic)


def _last(head_config: HeadConfig, size: int, name: str, dtype: Any = None) -> Any:
    """The last linear layer of a head, which has a bias in every member."""
    return linear(head_config.config, size, name, dtype, bias=True)


class MaskedLanguageModel(hk.Module):
    """Scores of every word of the vocabulary for each token: a transform of the token, then a decoder that is the word
    embeddings transposed (BERT, section 3.1, task 1).

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
    """The word behind each token (BERT, section 3.1, task 1)."""
    encoded, words = Bert(head_config.config)(batch, options)
    return _of_tokens(encoded, MaskedLanguageModel(head_config)(encoded.last_hidden_states, words))


def pretraining(head_config: HeadConfig, batch: Batch, options: ForwardOptions) -> BertOutput:
    """Both tasks of BERT's pre-training over one encoder (BERT, section 3.1)."""
    config = head_config.config
    encoded, words = Bert(config)(batch, options)
    pooled = pooler(head_config, gather_positions(encoded.last_hidden_states, batch.example_starts))
    logits = Pretraining(
        masked_lm=MaskedLanguageModel(head_config)(encoded.last_hidden_states, words),
        next_sentence=linear(config, 2, "next_sentence")(pooled),
    )
    return _of_examples(encoded, pooled, logits)


class ReplacedTokens(hk.Module):
    """A score of each token, the larger the more likely it was replaced (ELECTRA, section 2).

    The dense layer and the activation in front are in ELECTRA's code and not in the paper.
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
    """The mean of each example's tokens; 0 in an empty slot."""
    membership = jax.nn.one_hot(segment_ids - 1, num_slots, axis=1)  # [B, E, T], float32
    total = jnp.einsum("BET,BTD->BED", membership, hidden_states.astype(membership.dtype))
    return (total / jnp.maximum(membership.sum(axis=-1, keepdims=True), 1)).astype(hidden_states.dtype)
