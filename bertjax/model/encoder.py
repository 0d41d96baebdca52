"""The encoder: a stack of self-attention and feed-forward layers with post-norm residuals (BERT, section 3).

Encoders such as ModernBERT have the layers of `pre_norm` instead, some of them with local attention.

    B rows   T tokens in a row   D hidden size   F feed-forward size   H heads   R positions to read   N layers

The last layer can be computed only at the positions that a head reads. The result is the same, since nothing reads the
others, and its queries and feed-forward block cost next to nothing.

All layers but the last are unrolled, or run as one scan over their stacked parameters, which compiles a single layer.
Parameters have the same paths either way: `layer_0` .. `layer_{N-1}`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bertjax.config import ANY_LAYER, BertConfig, LayerRotary
from bertjax.model.attention.relative import distance_bias
from bertjax.model.attention.rotary import in_window
from bertjax.model.attention.self_attention import AttentionContext, SelfAttention, attention_mask
from bertjax.model.dropout import TokenPlaces, drop_features
from bertjax.model.layers import activation, add_residual, gather_positions, layer_norm
from bertjax.model.lora import adapted_linear
from bertjax.model.pre_norm import PreNormLayer


class LayerOutputs(NamedTuple):
    """The outputs of a layer that are requested, or of several layers along a leading axis; None for the others."""

    hidden_states: Array | None = None
    attention_weights: Array | None = None


Step = Callable[[str, Array], tuple[Array, LayerOutputs]]


class Encoded(NamedTuple):
    """The output of the encoder.

    Attributes:
      last_hidden_states: [B, R, D] of the last layer, at the requested positions.
      hidden_states: [N + 1, B, T, D] the embeddings, then each layer's output; None unless requested.
      attention_weights: [N, B, H, T, T] of each layer; None unless requested.
    """

    last_hidden_states: Float[Array, "B R D"]
    hidden_states: Float[Array, "N1 B T D"] | None
    attention_weights: Float[Array, "N B H T T"] | None


class EncoderLayer(hk.Module):
    """Self-attention, then a position-wise feed-forward block, each with a residual connection and a norm after it."""

    def __init__(self, config: BertConfig, name: str):
        super().__init__(name)
        self.config = config

    def __call__(
        self,
        queries_from: Float[Array, "B R D"],
        keys_from: Float[Array, "B T D"],
        context: AttentionContext,
        deterministic: bool,
        return_attentions: bool,
    ) -> tuple[Float[Array, "B R D"], Float[Array, "B H R T"] | None]:
        c, queries = self.config, context.queries
        attended, weights = SelfAttention(c)(queries_from, keys_from, context, deterministic, return_attentions)
        attended = drop_features(c.hidden_dropout_rate, attended, queries, deterministic)
        attended = layer_norm(c, "attention_norm")(add_residual(queries_from, attended))

        intermediate = adapted_linear(c, c.intermediate_size, "intermediate")(attended, queries, deterministic)
        activated = activation(c.hidden_act)(intermediate)  # [B, R, F]
        output = adapted_linear(c, c.hidden_size, "output")(activated, queries, deterministic)  # [B, R, D]
        output = drop_features(c.hidden_dropout_rate, output, queries, deterministic)
        return layer_norm(c, "output_norm")(add_residual(attended, output)), weights


def encode(
    config: BertConfig,
    embedded: Float[Array, "B T D"],
    segment_ids: Int[Array, "B T"],
    places: TokenPlaces,
    output_positions: Int[Array, "B R"] | None,
    deterministic: bool,
    return_hidden_states: bool = False,
    return_attentions: bool = False,
    distances: Float[Array, "buckets H"] | None = None,
) -> Encoded:
    """Runs the layers `layer_0` .. `layer_{N-1}` as submodules of the calling module.

    Args:
      config: the architecture, and how to run it.
      embedded: the embeddings.
      segment_ids: the example that each token belongs to; 0 is padding.
      places: of the tokens, for dropout and rotary positions.
      output_positions: positions at which the last layer is computed, or None for all (R = T), as
        `return_hidden_states` and `return_attentions` require.
      deterministic: whether dropout is off.
      return_hidden_states: whether to return every layer's output.
      return_attentions: whether to return every layer's attention weights.
      distances: relative position biases of the attention scores, or None.
    """
    bias = None if distances is None else distance_bias(distances, segment_ids.shape[1])
    every_position = AttentionContext(attention_mask(segment_ids, segment_ids), places, places, bias, segment_ids)
    last = config.num_layers - 1

    def run_layer(
        name: str, queries_from: Array, keys_from: Array, context: AttentionContext
    ) -> tuple[Array, Array | None]:
        layer = _layer(config, name)

        def run(queries_from: Array, keys_from: Array, context: AttentionContext) -> tuple[Array, Array | None]:
            return layer(queries_from, keys_from, context, deterministic, return_attentions)

        context = _in_window_of(config, name, context)
        return (hk.remat(run) if config.execution.remat else run)(queries_from, keys_from, context)

    def step(name: str, hidden_states: Array) -> tuple[Array, LayerOutputs]:
        """A layer at every position: its output, and what is requested of it."""
        output, weights = run_layer(name, hidden_states, hidden_states, every_position)
        return output, LayerOutputs(output if return_hidden_states else None, weights)

    run_all = _stacked if config.execution.layers == "stacked" else _unrolled
    hidden_states, kept = run_all(step, last, embedded)

    queries_from, context = hidden_states, every_position
    if output_positions is not None:
        queries_from = gather_positions(hidden_states, output_positions)  # [B, R, D]
        context = _at_positions(every_position, output_positions)
    output, weights = run_layer(f"layer_{last}", queries_from, hidden_states, context)
    if config.norm_position == "before":
        output = layer_norm(config, "final_norm")(output)

    last_kept = jax.tree.map(lambda leaf: leaf[None], LayerOutputs(output, weights))
    return Encoded(
        output,
        _joined(embedded[None], kept.hidden_states, last_kept.hidden_states) if return_hidden_states else None,
        _joined(kept.attention_weights, last_kept.attention_weights) if return_attentions else None,
    )


def _layer(config: BertConfig, name: str) -> EncoderLayer | PreNormLayer:
    """A layer of the kind that the architecture has."""
    if config.norm_position == "after":
        return EncoderLayer(config, name)
    return PreNormLayer(config, _rotary(config, name), name)


def _rotary(config: BertConfig, name: str) -> LayerRotary | None:
    return None if config.rotary is None else config.rotary.of_layer(int(name.removeprefix("layer_")))


def _at_positions(context: AttentionContext, positions: Int[Array, "B R"]) -> AttentionContext:
    """The context in which only some positions of each row are queries; every position is a key."""
    mask = jnp.take_along_axis(context.mask, positions[:, :, None], axis=1)  # [B, R, T]
    bias = None if context.bias is None else context.bias[0][:, positions].swapaxes(0, 1)  # [B, H, R, T]
    return AttentionContext(mask, context.queries.at(positions), context.keys, bias)


def _in_window_of(config: BertConfig, name: str, context: AttentionContext) -> AttentionContext:
    """The context of a layer: masked to its window, if it has local attention."""
    rotary = _rotary(config, name)
    if rotary is None or rotary.window is None:
        return context
    return context._replace(mask=context.mask & in_window(rotary.window, context.queries, context.keys))


def _unrolled(step: Step, count: int, hidden_states: Array) -> tuple[Array, LayerOutputs]:
    """The first `count` layers, unrolled: the last output, and the requested outputs of each along a leading axis."""
    kept = []
    for i in range(count):
        hidden_states, of_layer = step(f"layer_{i}", hidden_states)
        kept.append(of_layer)
    return hidden_states, jax.tree.map(lambda *of_layers: jnp.stack(of_layers), *kept) if kept else LayerOutputs()


def _stacked(step: Step, count: int, hidden_states: Array) -> tuple[Array, LayerOutputs]:
    """The same layers as one scan."""
    if count == 0:
        return hidden_states, LayerOutputs()
    stack = hk.layer_stack(count, with_per_layer_inputs=True, transparent=True, transparency_map=_LayerNames(count))
    return stack(lambda hidden_states: step(ANY_LAYER, hidden_states))(hidden_states)


@dataclass(frozen=True)
class _LayerNames:
    """Maps the one module name of the scanned layer to the names of the single layers, and back."""

    count: int

    def stacked_to_flat(self, stacked_module_name: str, scan_idx: int) -> str:
        return stacked_module_name.replace(ANY_LAYER, f"layer_{scan_idx}")

    def flat_to_stacked(self, unstacked_module_name: str) -> tuple[str, int] | None:
        match = re.search(r"layer_(\d+)", unstacked_module_name)
        if match is None or int(match.group(1)) >= self.count:
            return None
        return unstacked_module_name.replace(match.group(), ANY_LAYER), int(match.group(1))


def _joined(*stacks: Array | None) -> Array:
    """Concatenates stacks of layers; None is an empty stack."""
    return jnp.concatenate([stack for stack in stacks if stack is not None])
