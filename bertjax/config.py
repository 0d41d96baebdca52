"""`BertConfig`, the architecture of a checkpoint, converted from and to Hugging Face's `config.json`.

Source: the fields of `transformers.BertConfig`, and Devlin et al. 2018 (arXiv:1810.04805), section 3. Other encoders
are described by further settings; `members` maps the keys of their `config.json` to these. Only settings that affect
the numbers are kept, and a value that this network would compute differently is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bertjax.errors import ConfigError
from bertjax.members import find_member
from bertjax.storage.small_files import read_object

# By transformers' names, some of which are second names of one formula.
ACTIVATIONS = (
    "gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate",
    "quick_gelu", "relu", "silu", "swish", "tanh",
)  # fmt: skip

Pooling = Literal["pooler", "cls", "mean"]
"""How an example becomes one vector: `[CLS]` through dense and tanh, `[CLS]` as it is, or the mean of its tokens.

Members other than BERT may have another activation behind the dense layer of "pooler" (`members.HeadScheme`)."""


@dataclass(frozen=True)
class Execution:
    """How a network is computed, never what: no choice here changes a result beyond rounding."""

    layers: Literal["unrolled", "stacked"] = "unrolled"
    """Each layer compiled on its own, or one layer compiled and scanned over; the parameters are the same."""

    remat: bool = False
    """Keep only each layer's input for the backward pass and compute the rest again: less memory, a third more time."""

    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """Of matrix products, and with bfloat16 of activations too; parameters, embeddings, layer norms, the sums between
    them and softmax stay in float32.
    float32 is that on every device, as in PyTorch, where JAX's own default is less on a GPU or TPU. tensorfloat32 is
    fast on both and changes nothing on a CPU."""

    attention: Literal["xla", "auto", "pallas", "cudnn"] = "xla"
    """What computes attention: XLA everywhere; on an NVIDIA GPU also this package's fused kernel (pallas), or cuDNN's
    (bfloat16, without dropout on the attention weights). auto is the fastest that was measured on the device: xla on
    all so far."""

    weights: Literal["float32", "int8"] = "float32"
    """What the word embeddings and the encoder's matrices are kept in. int8, with a scale for each vector, takes a
    quarter of their memory; it is for answers, and has no gradients to train with."""

    def check_trainable(self) -> None:
        """Checks that a network that is computed so has gradients.

        Raises:
          ConfigError: its weights are integers.
        """
        if self.weights == "int8":
            raise ConfigError("weights int8 is for answers (predict, evaluate, serve); training needs float32")


class LayerRotary(NamedTuple):
    """The rotary positions of one layer.

    Attributes:
      base: of the angles.
      window: how far it looks, in tokens to either side; None is at every token of a text.
    """

    base: float
    window: int | None


ANY_LAYER = "layer_any"  # the name of the layer that "stacked" compiles for all


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters beside linear layers, see `model.lora`.

    Attributes:
      rank: of the product of two matrices that is added to a layer's, r.
      scale: its factor, s.
      dropout_rate: dropout on an adapter's input.
      modules: Haiku paths of the layers that have one.
    """

    rank: int
    scale: float
    dropout_rate: float
    modules: frozenset[str]


@dataclass(frozen=True)
class Rotary:
    """Rotary positions, which turn queries and keys by an angle for each position (Su et al. 2021, arXiv:2104.09864).

    Attributes:
      base: of the angles in layers that look at every token of a text.
      local_base: of those in layers that look at near ones.
      window: how far such a layer looks, in tokens to either side.
      local: of each layer, whether it looks at near tokens alone.
    """

    base: float
    local_base: float
    window: int
    local: tuple[bool, ...]

    def of_layer(self, layer: int) -> LayerRotary:
        """What a layer has of it."""
        return LayerRotary(self.local_base, self.window) if self.local[layer] else LayerRotary(self.base, None)


@dataclass(frozen=True)
class BertConfig:
    """The architecture of an encoder; the defaults are BERT-base uncased.

    Attributes:
      vocab_size: word pieces in the vocabulary, V.
      hidden_size: width of the residual stream, D.
      num_layers: encoder layers.
      num_heads: attention heads, H; the head size is K = D / H.
      intermediate_size: width of the feed-forward block, F.
      hidden_act: its activation, one of `ACTIVATIONS`; "gelu" is the exact one (erf).
      hidden_dropout_rate: dropout on embeddings and on each sublayer's output.
      attention_dropout_rate: dropout on attention weights.
      classifier_dropout_rate: dropout on a classifier's input; None for `hidden_dropout_rate`.
      max_position_embeddings: rows of the position embeddings; without these, the maximum length in tokens.
      type_vocab_size: number of token types; 0 for a network without them.
      initializer_range: standard deviation of freshly initialised weights.
      layer_norm_eps: added to the variance under the root.
      pad_token_id: the vocabulary index of padding.
      model_type: the kind of encoder, a key of `members.MEMBERS`; no layer reads it.
      embedding_size: width of the embeddings, which are projected to D after their norm; None for D.
      position_offset: row of the position embeddings for the first token of a text.
      rotary: rotary position embeddings instead of learned ones.
      distance_buckets: buckets of the relative position bias of the attention scores; 0 for no bias.
      norm_position: "after" each sublayer and its residual (post-norm), or "before" each sublayer (pre-norm).
      biases: whether the encoder's linear layers and all layer norms have biases.
      gated: whether the feed-forward block is gated, with a first layer of width 2F.
      mean_pooler: whether the pooler reads the mean of an example's tokens instead of `[CLS]`.
      embedding_dropout_rate: dropout on embeddings; None for `hidden_dropout_rate`.
      span_dropout_rate: dropout on the input of `qa_outputs`, if the encoder has one; None as above.
      choice_dropout_rate: dropout on the input of the multiple choice classifier, if it has its own.
      special_tokens: keys of `config.json` with the ids of special tokens, which no layer reads.
      execution: how the network is computed; like `adapters`, not part of `config.json`.
      adapters: LoRA adapters during training; a network is saved with them merged.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_rate: float = 0.1
    attention_dropout_rate: float = 0.1
    classifier_dropout_rate: float | None = None
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    model_type: str = "bert"
    embedding_size: int | None = None
    position_offset: int = 0
    rotary: Rotary | None = None
    distance_buckets: int = 0
    norm_position: Literal["after", "before"] = "after"
    biases: bool = True
    gated: bool = False
    mean_pooler: bool = False
    embedding_dropout_rate: float | None = None
    span_dropout_rate: float | None = None
    choice_dropout_rate: float | None = None
    special_tokens: tuple[tuple[str, int], ...] = ()
    execution: Execution = field(default_factory=Execution)
    adapters: Adapters | None = None

    def __post_init__(self) -> None:
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(f"hidden_act {self.hidden_act!r} is unknown; this network has {', '.join(ACTIVATIONS)}")
        keys = find_member(self.model_type).config.keys
        for name in ("vocab_size", "hidden_size", "num_heads", "intermediate_size", "max_position_embeddings"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{keys[name]} must be 1 or more, got {getattr(self, name)}")
        if self.hidden_size % self.num_heads:
            raise ConfigError(f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} attention heads")
        for name in _DROPOUT_RATES:
            rate = getattr(self, name)
            if rate is not None and not 0 <= rate < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {rate}")
        if self.max_length < 1:
            raise ConfigError(
                f"max_position_embeddings {self.max_position_embeddings} leaves no position for a text, whose first "
                f"one is {self.position_offset}"
            )
        self._check_rotary()
        if self.distance_buckets and self.execution.attention in ("pallas", "cudnn"):
            raise ConfigError(
                f"attention {self.execution.attention!r} has no bias for the distance of two tokens, as that of a "
                f"{self.model_type} has; use 'auto' or 'xla'"
            )

    def _check_rotary(self) -> None:
        if self.rotary is None:
            return
        if self.head_size % 2:
            raise ConfigError(f"rotary positions turn pairs of numbers, and heads have {self.head_size}, an odd count")
        if len(self.rotary.local) != self.num_layers:
            raise ConfigError(f"layer_types has {len(self.rotary.local)} entries for {self.num_layers} layers")
        if self.execution.layers == "stacked":
            raise ConfigError(
                f"layers 'stacked' compiles one layer for all of them, and those of a {self.model_type} differ; use "
                "'unrolled'"
            )
        if self.execution.attention in ("pallas", "cudnn"):
            raise ConfigError(
                f"attention {self.execution.attention!r} has no layers that look at near tokens alone, as those of a "
                f"{self.model_type} do; use 'auto' or 'xla'"
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head, K."""
        return self.hidden_size // self.num_heads

    @property
    def max_length(self) -> int:
        """The longest example, in tokens."""
        return self.max_position_embeddings - self.position_offset

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings."""
        return self.embedding_size or self.hidden_size

    def rate(self, name: str) -> float:
        """The dropout rate that a field says, which may be None for `hidden_dropout_rate`."""
        rate = getattr(self, name)
        return self.hidden_dropout_rate if rate is None else float(rate)

    def with_dropout(self, rate: float) -> "BertConfig":
        """The same architecture with one dropout rate everywhere."""
        rates = dict.fromkeys(_DROPOUT_RATES, None) | {"hidden_dropout_rate": rate, "attention_dropout_rate": rate}
        return replace(self, **rates)  # type: ignore[arg-type]

    @classmethod
    def from_hugging_face(cls, values: Mapping[str, Any]) -> "BertConfig":
        """Reads the values of a `config.json`; missing keys take the defaults of its `model_type`.

        Raises:
          ConfigError: no encoder that bertjax has, a feature this network does not have, or a value of the wrong type.
        """
        model_type = values.get("model_type")
        if model_type is None:
            raise ConfigError('config.json has no model_type; if it is a BERT, add "model_type": "bert" to it')
        rule = find_member(model_type).config
        if values.get("position_embedding_type", "absolute") != "absolute":
            raise ConfigError(
                f"position_embedding_type {values['position_embedding_type']!r} is not supported; only 'absolute' is"
            )
        if values.get("quantization_config"):
            raise ConfigError("quantization_config is set; bertjax reads the weights as they were before quantization")
        for feature in ("is_decoder", "add_cross_attention"):
            if values.get(feature):
                raise ConfigError(f"{feature} is set; bertjax has the BERT encoder only")
        for key, only in rule.fixed.items():
            if values.get(key, only) != only:
                raise ConfigError(f"config.json: {key} {values[key]!r} is not supported; only {only!r} is")
        known = {name: key for name, key in rule.keys.items() if values.get(key) is not None}
        kinds = cls.__dataclass_fields__
        fields = {**rule.defaults, **{name: _typed(key, values[key], kinds[name].type) for name, key in known.items()}}
        derived = dict(rule.derived(values))
        if "rotary" in derived:
            derived["rotary"] = Rotary(**derived["rotary"])
        tokens = tuple((key, values[key]) for key in rule.kept if isinstance(values.get(key), int))
        return cls(model_type=model_type, special_tokens=tokens, **{**fields, **rule.settings, **derived})

    def to_hugging_face(self) -> dict[str, Any]:
        """The inverse of `from_hugging_face`, ready for `config.json`."""
        rule, fields = find_member(self.model_type).config, {name: getattr(self, name) for name in _ARCHITECTURE}
        # Where transformers has a rate by default, it takes none for an answer.
        rates = {name: self.rate(name) for name in _DROPOUT_RATES if name in rule.defaults}
        own = {key: rates.get(name, fields[name]) for name, key in rule.keys.items()}
        return {"model_type": self.model_type, **own, **rule.written(fields), **dict(self.special_tokens)}


_ARCHITECTURE = tuple(name for name in BertConfig.__dataclass_fields__ if name not in ("execution", "adapters"))
_DROPOUT_RATES = tuple(name for name in _ARCHITECTURE if name.endswith("_dropout_rate"))


def _typed(key: str, value: Any, wanted: Any) -> Any:
    """`value` as `wanted` (int, float or str), where a whole number may stand for a float."""
    wanted = {float | None: float, int | None: int}.get(wanted, wanted)
    accepted = (int, float) if wanted is float else (wanted,)
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise ConfigError(f"config.json: {key} must be {wanted.__name__}, got {value!r}")
    return wanted(value)


def read_config_json(folder: Path) -> dict[str, Any]:
    """The values of `folder/config.json`.

    Raises:
      ConfigError: the file is missing or is not a JSON object.
    """
    values = read_object(Path(folder) / "config.json", "fetch it again", ConfigError)
    if values is None:
        raise ConfigError(f"{folder} has no config.json; a model is a folder in Hugging Face's layout")
    return values
