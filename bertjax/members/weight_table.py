"""`WeightTable`: Hugging Face's name of each tensor, its Haiku path, and the bijection between the two.

Data only, applied in both directions by `pretrained.convert`. `{i}` is the number of an encoder layer. All members have
the same Haiku paths, those of BERT, for the same parts of the network.
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

import numpy as np


class Bijection(Enum):
    """How a tensor changes between the two sides; each change is its own inverse."""

    COPY = "copy"
    TRANSPOSE = "transpose"  # torch keeps a linear layer as [out, in], Haiku as [in, out]

    def apply(self, tensor: np.ndarray) -> np.ndarray:
        return tensor if self is Bijection.COPY else tensor.T


class Part(NamedTuple):
    """A tensor's share of a larger one: the `number`-th (from 0) of so many equal `parts` along the first axis."""

    number: int = 0
    parts: int = 1

    def of(self, tensor: np.ndarray) -> np.ndarray:
        """The part of a tensor, whose first axis `parts` divides."""
        return tensor if self.parts == 1 else np.split(tensor, self.parts)[self.number]

    def whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the larger tensor."""
        return (shape[0] * self.parts, *shape[1:])


class Rule(NamedTuple):
    """One row: a Hugging Face tensor or a part of one, a Haiku module and parameter, and the bijection between them."""

    hugging_face: str
    module: str
    parameter: str
    bijection: Bijection
    part: Part = Part()


class WeightTable(NamedTuple):
    """The weights of a kind of network.

    Attributes:
      rules: the rows; a network has some of them.
      prefix: of the encoder's tensors, which a bare encoder's checkpoint leaves out.
      prefixed: what the names of such a checkpoint start with.
      tied: second name of a tensor -> its first. A checkpoint may have one name or both, with equal values.
      ignored: tensors with nothing to load: position_ids is 0, 1, 2, ...
      optional: starts of names that are ignored where the network has no part for them: a pooler, and the heads of
        pre-training.
    """

    rules: tuple[Rule, ...]
    prefix: str
    prefixed: tuple[str, ...]
    tied: Mapping[str, str]
    ignored: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def words(self) -> str:
        """The name of the word embeddings, without the prefix: every network has them, and has them once."""
        return next(rule.hugging_face for rule in self.rules if rule.module == WORDS).removeprefix(self.prefix)

    def has(self, module: str) -> bool:
        """Whether some row is for a Haiku module."""
        generic = re.sub(r"layer_\d+", "layer_{i}", module)
        return any(rule.module == generic for rule in self.rules)

    def canonical(self, name: str) -> str:
        """A tensor's name in the rules, of the name that a checkpoint has for it."""
        for old, new in _LEGACY_SUFFIXES.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        return self.prefix + name if name.startswith(self.prefixed) else name

    def with_rules(self, rules: tuple[Rule, ...]) -> "WeightTable":
        """The table with other rows for the modules of these."""
        replaced = {rule.module for rule in rules}
        return self._replace(rules=(*(rule for rule in self.rules if rule.module not in replaced), *rules))


WORDS = "bert/embeddings/word"

# Names of the first TensorFlow checkpoints.
_LEGACY_SUFFIXES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def embedding(hugging_face: str, module: str) -> tuple[Rule, ...]:
    """The row of a table of vectors."""
    return (Rule(f"{hugging_face}.weight", module, "embeddings", Bijection.COPY),)


def linear(hugging_face: str, module: str) -> tuple[Rule, ...]:
    """The rows of an affine map."""
    return (*matrix(hugging_face, module), Rule(f"{hugging_face}.bias", module, "b", Bijection.COPY))


def matrix(hugging_face: str, module: str, part: Part = Part()) -> tuple[Rule, ...]:  # noqa: B008 (immutable)
    """The row of a linear map without bias."""
    return (Rule(f"{hugging_face}.weight", module, "w", Bijection.TRANSPOSE, part),)


def layer_norm(hugging_face: str, module: str) -> tuple[Rule, ...]:
    """The rows of a layer norm."""
    return (*scale(hugging_face, module), Rule(f"{hugging_face}.bias", module, "offset", Bijection.COPY))


def scale(hugging_face: str, module: str) -> tuple[Rule, ...]:
    """The row of a layer norm without bias."""
    return (Rule(f"{hugging_face}.weight", module, "scale", Bijection.COPY),)
