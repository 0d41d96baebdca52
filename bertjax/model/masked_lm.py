"""The masked-language-model head: a transform of each token, then a decoder that is the word embeddings transposed.

B rows   T tokens in a row   D hidden size   V vocabulary

Source: BERT, section 3.1, task 1; the transform (dense, activation, layer norm) is in BERT's code and not in the paper.
"""

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from bertjax.config import BertConfig
from bertjax.model.layers import activation, layer_norm, linear


class MaskedLanguageModel(hk.Module):
    """Scores of every word of the vocabulary for each token."""

    def __init__(self, config: BertConfig, name: str = "masked_lm"):
        super().__init__(name)
        self.config = config

    def __call__(
        self, hidden_states: Float[Array, "B T D"], word_embeddings: Float[Array, "V D"]
    ) -> Float[Array, "B T V"]:
        c = self.config
        transformed = activation(c.hidden_act)(linear(c, c.hidden_size, "transform")(hidden_states))
        transformed = layer_norm(c, "norm")(transformed)
        bias = hk.get_parameter("b", [c.vocab_size], init=jnp.zeros)
        return jnp.einsum("BTD,VD->BTV", transformed, word_embeddings) + bias[None, None]
