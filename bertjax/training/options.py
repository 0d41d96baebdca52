"""The groups of settings that a run is made of: data only, frozen, and without an import that costs time."""

from dataclasses import dataclass

from bertjax.errors import ConfigError
from bertjax.settings import require


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
        require(self.learning_rate > 0, "learning_rate must be positive", self.learning_rate)
        require(0 <= self.warmup < 1, "warmup is a share of the steps, in [0, 1)", self.warmup)
        require(self.weight_decay >= 0, "weight_decay must not be negative", self.weight_decay)
        require(self.clip_norm > 0, "clip_norm must be positive", self.clip_norm)


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
        require(0 <= self.label_smoothing < 1, "label_smoothing must be in [0, 1)", self.label_smoothing)
        require(self.focal_gamma >= 0, "focal_gamma must not be negative", self.focal_gamma)
        if self.oversample and self.class_weights:
            raise ConfigError("oversample and class_weights both make up for small classes; give one of them")
