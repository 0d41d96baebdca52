"""Int8 weights of the encoder with one scale per vector: a quarter of the memory, for inference only.

    N rows   M columns   D features of the input   F features of the output   V vocabulary   W width of the embeddings

A weight w becomes round(w / s), with s = max |w| / 127 over its vector: a column of a matrix (one output feature) or a
row of a table (symmetric quantisation, LLM.int8() section 2.1; Dettmers et al. 2022, arXiv:2208.07339). So it changes
by s / 2 at most. Activations are not quantised: XLA has no fast product of two int8 matrices on a CPU.

Each layer converts its integers to the compute dtype, which represents them exactly, only while it multiplies with
them, and applies the scales to the product.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int8

Params = Mapping[str, Mapping[str, Any]]

_LARGEST = 127
_WORDS = "bert/embeddings/word"


class QuantizedWeight(NamedTuple):
    """A quantised matrix or table, which replaces its float32 array among the parameters.

    Attributes (NumPy or JAX arrays):
      values: from -127 to 127.
      scale: [1, M] for a matrix, [N, 1] for a table.
    """

    values: Int8[Array, "N M"]
    scale: Float32[Array, "_ _"]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight, which Haiku compares with the layer's."""
        return self.values.shape


def has_int8_weights(params: Params) -> bool:
    """Whether some of the parameters are quantised."""
    return any(isinstance(weight, QuantizedWeight) for leaves in params.values() for weight in leaves.values())


def with_int8_weights(params: Params) -> Params:
    """Quantises the word embeddings and the encoder's matrices; the other parameters are few, and stay float32.

    Args:
      params: float32 arrays of the host.
    """

    def converted(module: str, name: str, weight: np.ndarray) -> Any:
        if module == _WORDS:
            return quantized(weight, of_rows=True)
        return quantized(weight, of_rows=False) if module.startswith("bert/") and name == "w" else weight

    return {
        module: {name: converted(module, name, weight) for name, weight in leaves.items()}
        for module, leaves in params.items()
    }


def quantized(weight: Float32[np.ndarray, "N M"], of_rows: bool) -> QuantizedWeight:
    """A weight as integers.

    Args:
      weight: finite numbers.
      of_rows: whether each row has a scale, as in a table; otherwise each column has one.
    """
    largest = np.abs(weight).max(axis=1 if of_rows else 0, keepdims=True)
    # A vector of zeros has a scale too. So has one of numbers so small that theirs would be rounded to nothing.
    scale = np.maximum(largest / _LARGEST, np.finfo(np.float32).tiny)
    values = np.rint(weight / scale)
    integers: Any = np.clip(values, -_LARGEST, _LARGEST).astype(np.int8)
    return QuantizedWeight(integers, scale.astype(np.float32))


def int8_product(x: Float[Array, "*shape D"], matrix: QuantizedWeight) -> Float[Array, "*shape F"]:
    """`x @ w` for the matrix w."""
    products = jnp.dot(x, matrix.values.astype(x.dtype), preferred_element_type=jnp.float32)
    return (products * matrix.scale.reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


def int8_scores(x: Float[Array, "B T W"], table: QuantizedWeight) -> Float[Array, "B T V"]:
    """The product of each vector with each row of a table."""
    products = jnp.einsum("BTW,VW->BTV", x, table.values.astype(x.dtype), preferred_element_type=jnp.float32)
    return (products * table.scale.reshape(1, 1, -1)).astype(x.dtype)


def int8_rows(table: QuantizedWeight, indices: Int[Array, "B T"]) -> Float32[Array, "B T D"]:
    """Rows of a table; NaN where it has none of an index."""
    values = table.values.at[indices].get(mode="clip")
    scale = table.scale.at[indices].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    return values.astype(jnp.float32) * scale
