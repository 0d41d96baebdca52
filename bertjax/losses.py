"""Losses, unreduced: one number per label, against the true labels or a teacher's scores.

    B rows   T tokens in a row   E example slots in a row   G groups of slots in a row   L labels

A loss has the shape of the batch's weights, and the training step takes the weighted mean. Where the weight is 0, its
value is arbitrary but finite. `cosine` and `masked_words` are scores, which evaluation and prediction read instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bertjax.batch import Batch, Pretraining
from bertjax.devices.made_once import made_once
from bertjax.model.heads import BertOutput

Loss = Callable[[BertOutput, Batch], Any]
SoftLoss = Callable[[BertOutput, Batch, float], Any]
"""(output, batch with `teacher_scores`, temperature) -> a loss of the shape of the batch's weights."""


class Losses(NamedTuple):
    """The losses of a batch, or their weights. The training step adds up the weighted means of both parts.

    Attributes:
      of_labels: of the shape of the batch's weights.
      of_tokens: [B, T] against a teacher's hidden states; None without them.
    """

    of_labels: Any
    of_tokens: Any = None


_LEAST_ERROR = 1e-7  # 1 - p of a label that is certain in float32


def cross_entropy(output: BertOutput, batch: Batch) -> Float[Array, "B N"]:
    """Softmax cross-entropy over the last axis of the logits, per slot, token or group.

    A label is the index of a class, or a probability for each class [B, N, L].
    """
    if _are_probabilities(output, batch):
        return optax.softmax_cross_entropy(output.logits, batch.labels)
    return optax.softmax_cross_entropy_with_integer_labels(output.logits, batch.labels)


def _are_probabilities(output: BertOutput, batch: Batch) -> bool:
    """Whether labels are class probabilities and not class indices; known when the step is traced."""
    return batch.labels.ndim == output.logits.ndim


@made_once
def imbalanced_cross_entropy(label_smoothing: float = 0.0, focal_gamma: float = 0.0) -> Loss:
    """Softmax cross-entropy with label smoothing, or the focal loss, which gives easy examples less weight.

    Args:
      label_smoothing: share of a label that is spread evenly over all classes (Szegedy et al. 2016), in [0, 1).
      focal_gamma: the loss of a label with probability p is weighted by (1 - p)**gamma (Lin et al. 2017). Labels must
        be class indices then.
    """

    def loss(output: BertOutput, batch: Batch) -> Float[Array, "B N"]:
        log_shares = jax.nn.log_softmax(output.logits)
        if _are_probabilities(output, batch):
            of_label = (batch.labels * log_shares).sum(axis=-1)
        else:
            of_label = jnp.take_along_axis(log_shares, batch.labels[..., None], axis=-1)[..., 0]
        softened = (1 - label_smoothing) * of_label + label_smoothing * log_shares.mean(axis=-1)
        if not focal_gamma:
            return -softened
        # expm1 keeps the digits of 1 - p for p near 1. The floor is for gamma < 1, whose power has no gradient at 0.
        return -softened * jnp.maximum(-jnp.expm1(of_label), _LEAST_ERROR) ** focal_gamma

    return loss


def divergence(first: BertOutput, second: BertOutput) -> Float[Array, "B N"]:
    """The symmetric Kullback-Leibler divergence of two outputs for the same batch, over the softmax of the last axis
    (Liang et al. 2021, equation 2)."""
    p, q = jax.nn.log_softmax(first.logits), jax.nn.log_softmax(second.logits)
    return ((jnp.exp(p) - jnp.exp(q)) * (p - q)).sum(axis=-1) / 2


def binary_cross_entropy(output: BertOutput, batch: Batch) -> Float[Array, "B E"]:
    """Sigmoid cross-entropy of independent labels [B, E, L], their mean."""
    return _sigmoid_cross_entropy(output, batch).mean(axis=-1)


def replaced_cross_entropy(output: BertOutput, batch: Batch) -> Float[Array, "B T"]:
    """Sigmoid cross-entropy per token, with label 1 if it was replaced, else 0 (ELECTRA, section 2)."""
    return _sigmoid_cross_entropy(output, batch)


def _sigmoid_cross_entropy(output: BertOutput, batch: Batch) -> Float[Array, "..."]:
    return optax.sigmoid_binary_cross_entropy(output.logits, batch.labels.astype(output.logits.dtype))


def squared_error(output: BertOutput, batch: Batch) -> Float[Array, "B E"]:
    """Squared error of numbers [B, E, L], their mean."""
    return jnp.square(output.logits - batch.labels.reshape(output.logits.shape)).mean(axis=-1)


def pretraining_cross_entropy(output: BertOutput, batch: Batch) -> Pretraining:
    """Both losses of BERT's pre-training; the step adds up their means (BERT, section A.2)."""
    return Pretraining(
        *map(optax.softmax_cross_entropy_with_integer_labels, output.logits, batch.labels),
    )


def span_cross_entropy(output: BertOutput, batch: Batch) -> Float[Array, "B E"]:
    """Mean of the cross-entropies of an answer's first and last token, labels [B, E, 2].

    The softmax is over the example's tokens. In transformers it includes padding, so the loss there depends on the
    length of the batch.
    """
    logits = output.logits.astype(jnp.float32)  # [B, T, 2]
    slots = jnp.arange(1, batch.example_starts.shape[1] + 1)
    of_example = batch.segment_ids[:, None, :, None] == slots[None, :, None, None]  # [B, E, T, 1]
    scores = jnp.where(of_example, logits[:, None], jnp.finfo(logits.dtype).min)  # [B, E, T, 2]
    positions = batch.example_starts[:, :, None] + batch.labels  # [B, E, 2]
    correct = jnp.take_along_axis(scores, positions[:, :, None, :], axis=2)[:, :, 0]  # [B, E, 2]
    return (jax.nn.logsumexp(scores, axis=2) - correct).mean(axis=-1)


def cosine_error(output: BertOutput, batch: Batch) -> Float[Array, "B G"]:
    """Squared error of the cosine of two texts in consecutive slots, labels [B, G] (Reimers and Gurevych 2019)."""
    return jnp.square(cosine(output, batch) - batch.labels)


def cosine(output: BertOutput, batch: Batch) -> Float[Array, "B G"]:
    """The cosine of two texts in consecutive slots."""
    assert output.pooled_output is not None
    first, second = output.pooled_output[:, 0::2], output.pooled_output[:, 1::2]  # of length 1 each
    return (first * second).sum(axis=-1)


def masked_words(output: BertOutput, batch: Batch) -> Float[Array, "B T 2"]:
    """Per token, the cross-entropy, and 1 if the most likely token is the right one."""
    is_right = output.logits.argmax(axis=-1) == batch.labels
    return jnp.stack([cross_entropy(output, batch), is_right.astype(jnp.float32)], axis=-1)


@made_once
def distilled(hard: Loss, soft: SoftLoss, weight: float, temperature: float) -> Loss:
    """(1 - weight) * hard loss + weight * soft loss: distillation (Hinton et al. 2015)."""

    def loss(output: BertOutput, batch: Batch) -> Any:
        return (1 - weight) * hard(output, batch) + weight * soft(output, batch, temperature)

    return loss


def soft_cross_entropy(output: BertOutput, batch: Batch, temperature: float) -> Float[Array, "B N"]:
    """T^2 KL(teacher || output), of the softmax over the last axis at temperature T; the factor T^2 keeps the scale of
    the gradient (Hinton et al. 2015, section 2.1)."""
    teacher = jax.nn.log_softmax(batch.teacher_scores / temperature)
    student = jax.nn.log_softmax(output.logits / temperature)
    return temperature**2 * (jnp.exp(teacher) * (teacher - student)).sum(axis=-1)


def soft_binary_cross_entropy(output: BertOutput, batch: Batch, temperature: float) -> Float[Array, "B E"]:
    """`soft_cross_entropy` for independent labels [B, E, L] with a sigmoid each, their mean."""
    teacher, student = batch.teacher_scores / temperature, output.logits / temperature
    of_yes = jnp.exp(jax.nn.log_sigmoid(teacher)) * (jax.nn.log_sigmoid(teacher) - jax.nn.log_sigmoid(student))
    of_no = jnp.exp(jax.nn.log_sigmoid(-teacher)) * (jax.nn.log_sigmoid(-teacher) - jax.nn.log_sigmoid(-student))
    return temperature**2 * (of_yes + of_no).mean(axis=-1)


def soft_squared_error(output: BertOutput, batch: Batch, temperature: float) -> Float[Array, "B E"]:
    """Squared error against a teacher's numbers [B, E, L], their mean; the temperature does not apply."""
    return jnp.square(output.logits - batch.teacher_scores).mean(axis=-1)


def soft_cosine_error(output: BertOutput, batch: Batch, temperature: float) -> Float[Array, "B G"]:
    """Squared error against a teacher's cosine of two texts in consecutive slots; the temperature does not apply."""
    return jnp.square(cosine(output, batch) - batch.teacher_scores)


@made_once
def hidden_state_error(layers: tuple[int, ...], weight: float) -> Loss:
    """`weight` times the squared error of a teacher's hidden states, the mean over their entries and over the layers
    (Jiao et al. 2020, arXiv:1909.10351, equation 8, for states of one width).

    Args:
      layers: of the output, one for each layer of the batch's `teacher_hidden_states`; 0 is the embeddings.
      weight: a factor.

    Returns:
      (output with hidden states, batch) -> [B, T], a loss for each token; that of padding means nothing.
    """

    def loss(output: BertOutput, batch: Batch) -> Float[Array, "B T"]:
        assert output.hidden_states is not None, "the pass returns them"
        ours = jnp.stack([output.hidden_states[layer] for layer in layers], axis=2)  # [B, T, K, D]
        return weight * jnp.square(ours - batch.teacher_hidden_states).mean(axis=(2, 3))

    return loss


def logits(output: BertOutput, batch: Batch) -> Any:
    """The logits as they are: the scores of most tasks."""
    return output.logits
