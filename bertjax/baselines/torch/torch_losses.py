"""The functions of `bertjax.losses` in torch, by the function that each is the counterpart of.

N texts   T tokens in a text   C texts in a group   L labels
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from bertjax import losses
from bertjax.errors import ConfigError
from bertjax.tasks import Task
from bertjax.training.settings.options import Imbalance

_SMALLEST_DOUBT = 1e-7  # as in `losses`


class Targets(NamedTuple):
    """What a loss compares logits with.

    Attributes:
      labels: of texts, tokens or groups, in the order of the logits.
      attention_mask: [N, T] 1 on real tokens.
      imbalance: settings of a cross-entropy.
    """

    labels: torch.Tensor
    attention_mask: torch.Tensor
    imbalance: Imbalance


TorchLoss = Callable[[torch.Tensor, Targets], torch.Tensor]
"""(logits, targets) -> one number for each label."""


def cross_entropy(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Over the last axis of the logits, softened and weighed as in `losses.imbalanced_cross_entropy`."""
    flat, imbalance = logits.flatten(0, -2), targets.imbalance
    if targets.labels.ndim == logits.ndim:  # the probabilities of classes
        labels = targets.labels.flatten(0, -2)
        values = functional.cross_entropy(flat, labels, reduction="none", label_smoothing=imbalance.label_smoothing)
        return values.reshape(targets.labels.shape[:-1])
    labels = targets.labels.long().flatten()
    values = functional.cross_entropy(flat, labels, reduction="none", label_smoothing=imbalance.label_smoothing)
    if imbalance.focal_gamma:
        of_label = functional.log_softmax(flat, dim=-1).gather(1, labels[:, None])[:, 0]
        values = values * (-torch.expm1(of_label)).clamp(min=_SMALLEST_DOUBT) ** imbalance.focal_gamma
    return values.reshape(targets.labels.shape)


def _binary_cross_entropy(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets.labels.float(), reduction="none").mean(-1)


def _replaced_cross_entropy(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets.labels.float(), reduction="none")


def _squared_error(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
    return (logits - targets.labels.reshape(logits.shape)).square().mean(-1)


def _span_cross_entropy(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
    padding = targets.attention_mask[..., None] == 0
    scores = logits.masked_fill(padding, torch.finfo(logits.dtype).min)  # [N, T, 2]
    return functional.cross_entropy(scores, targets.labels.long(), reduction="none").mean(-1)


def _cosine_error(vectors: torch.Tensor, targets: Targets) -> torch.Tensor:
    return (cosine(vectors) - targets.labels).square()


def cosine(vectors: Any) -> Any:
    """The cosine of each two texts that follow one another, whose vectors [N, D] have length 1."""
    return (vectors[0::2] * vectors[1::2]).sum(-1)


def _masked_words(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    words, scores = torch.from_numpy(labels).long(), torch.from_numpy(logits)
    values = functional.cross_entropy(scores.flatten(0, 1), words.flatten(), reduction="none").reshape(words.shape)
    return torch.stack([values, (scores.argmax(-1) == words).float()], dim=-1).numpy()


TorchScores = Callable[[Any, Any], Any]
"""(logits, labels in the same order) -> what evaluation reads, all of them on the host."""

# Two losses for the two tasks of pre-training.
_LOSSES: Mapping[Any, tuple[TorchLoss, ...]] = {
    losses.cross_entropy: (cross_entropy,),
    losses.binary_cross_entropy: (_binary_cross_entropy,),
    losses.replaced_cross_entropy: (_replaced_cross_entropy,),
    losses.squared_error: (_squared_error,),
    losses.span_cross_entropy: (_span_cross_entropy,),
    losses.pretraining_cross_entropy: (cross_entropy, cross_entropy),
    losses.cosine_error: (_cosine_error,),
}
_SCORES: Mapping[Any, TorchScores] = {
    losses.logits: lambda logits, labels: logits,
    losses.cosine: lambda vectors, labels: cosine(vectors),
    losses.masked_words: _masked_words,
}


def find_losses(task: Task) -> tuple[TorchLoss, ...]:
    """The torch counterpart of a task's loss; raises a ConfigError where there is none."""
    return _counterpart(_LOSSES, task.loss)


def find_scores(task: Task) -> TorchScores:
    """The torch counterpart of a task's scores; raises a ConfigError where there is none."""
    return _counterpart(_SCORES, task.scores)


def _counterpart(table: Mapping[Any, Any], function: Any) -> Any:
    if function not in table:
        name = getattr(function, "__name__", function)
        raise ConfigError(f"{name} has no counterpart in PyTorch; add it to {__name__}")
    return table[function]
