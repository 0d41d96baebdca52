"""The table of weights: Hugging Face's name of each tensor, its Haiku path, and the bijection between the two.

Data only, read in both directions by `convert`. `{i}` is the number of an encoder layer.
"""

from enum import Enum
from typing import NamedTuple

import numpy as np


class Bijection(Enum):
    """The change of a tensor between the two sides; each is its own inverse."""

    COPY = "copy"
    TRANSPOSE = "transpose"  # torch keeps a linear layer as [out, in], Haiku as [in, out]

    def apply(self, tensor: np.ndarray) -> np.ndarray:
        return tensor if self is Bijection.COPY else tensor.T


class Rule(NamedTuple):
    """One row: a Hugging Face tensor, a Haiku module and parameter, and the bijection between them."""

    hugging_face: str
    module: str
    parameter: str
    bijection: Bijection


def _embedding(hugging_face: str, module: str) -> tuple[Rule, ...]:
    return (Rule(f"{hugging_face}.weight", module, "embeddings", Bijection.COPY),)


def _linear(hugging_face: str, module: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{hugging_face}.weight", module, "w", Bijection.TRANSPOSE),
        Rule(f"{hugging_face}.bias", module, "b", Bijection.COPY),
    )


def _layer_norm(hugging_face: str, module: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{hugging_face}.weight", module, "scale", Bijection.COPY),
        Rule(f"{hugging_face}.bias", module, "offset", Bijection.COPY),
    )


RULES: tuple[Rule, ...] = (
    *_embedding("bert.embeddings.word_embeddings", "bert/embeddings/word"),
    *_embedding("bert.embeddings.position_embeddings", "bert/embeddings/position"),
    *_embedding("bert.embeddings.token_type_embeddings", "bert/embeddings/token_type"),
    *_layer_norm("bert.embeddings.LayerNorm", "bert/embeddings/norm"),
    *_linear("bert.encoder.layer.{i}.attention.self.query", "bert/layer_{i}/attention/query"),
    *_linear("bert.encoder.layer.{i}.attention.self.key", "bert/layer_{i}/attention/key"),
    *_linear("bert.encoder.layer.{i}.attention.self.value", "bert/layer_{i}/attention/value"),
    *_linear("bert.encoder.layer.{i}.attention.output.dense", "bert/layer_{i}/attention/output"),
    *_layer_norm("bert.encoder.layer.{i}.attention.output.LayerNorm", "bert/layer_{i}/attention_norm"),
    *_linear("bert.encoder.layer.{i}.intermediate.dense", "bert/layer_{i}/intermediate"),
    *_linear("bert.encoder.layer.{i}.output.dense", "bert/layer_{i}/output"),
    *_layer_norm("bert.encoder.layer.{i}.output.LayerNorm", "bert/layer_{i}/output_norm"),
    *_linear("bert.pooler.dense", "pooler"),
    *_linear("classifier", "classifier"),
    *_linear("qa_outputs", "qa_outputs"),
    *_linear("cls.predictions.transform.dense", "masked_lm/transform"),
    *_layer_norm("cls.predictions.transform.LayerNorm", "masked_lm/norm"),
    Rule("cls.predictions.bias", "masked_lm", "b", Bijection.COPY),
    *_linear("cls.seq_relationship", "next_sentence"),
)

# Second names of tied tensors. A checkpoint may have one name or both, with equal values.
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

# A bare encoder's checkpoint names its tensors without the prefix.
PREFIX = "bert."
PREFIXED = ("embeddings.", "encoder.", "pooler.")

# Names of the first TensorFlow checkpoints.
LEGACY_SUFFIXES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

# Tensors with nothing to load: position_ids is 0, 1, 2, ...
IGNORED = ("bert.embeddings.position_ids",)

# Prefixes of tensors that belong to an optional Haiku module; ignored where the network does not have the module.
OPTIONAL = {"bert.pooler.": "pooler", "cls.predictions.": "masked_lm", "cls.seq_relationship.": "next_sentence"}
