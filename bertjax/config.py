"""`BertConfig`, the architecture of a checkpoint, and its way from and to Hugging Face's `config.json`.

Source: the fields of `transformers.BertConfig`; the shapes of Devlin et al. 2018 (arXiv:1810.04805), section 3.
Only what changes the numbers is kept. A value that this network would compute differently is an error, never ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bertjax.errors import ConfigError
from bertjax.storage.small_files import read_object

# By transformers' names, some of which are second names of one formula.
ACTIVATIONS = (
    "gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate",
    "quick_gelu", "relu", "silu", "swish", "tanh",
)  # fmt: skip

# Our field name -> the key in config.json. Names that agree are not listed.
_HUGGING_FACE_KEYS = {
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dropout_rate": "hidden_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
    "classifier_dropout_rate": "classifier_dropout",
}


Pooling = Literal["pooler", "cls", "mean"]
"""How an example becomes one vector: `[CLS]` through dense and tanh, `[CLS]` as it is, or the mean of its tokens."""


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


@dataclass(frozen=True)
class BertConfig:
    """The architecture of a BERT encoder; the defaults are BERT-base uncased.

    Attributes:
      vocab_size: word pieces in the vocabulary, V.
      hidden_size: width of the residual stream, D.
      num_layers: encoder layers.
      num_heads: attention heads, H; the head size is K = D / H.
      intermediate_size: width of the feed-forward block, F.
      hidden_act: its activation, one of `ACTIVATIONS`; "gelu" is the exact one (erf).
      hidden_dropout_rate: dropout on embeddings and on each sublayer's output.
      attention_dropout_rate: dropout on attention weights.
      classifier_dropout_rate: dropout on a classifier's input; None stands for `hidden_dropout_rate`.
      max_position_embeddings: longest example, in tokens.
      type_vocab_size: kinds of segment an example can have.
      initializer_range: standard deviation of freshly initialised weights.
      layer_norm_eps: added to the variance under the root.
      pad_token_id: the vocabulary index of padding.
      execution: how the network is computed; the one field that is no part of `config.json`.
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
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(f"hidden_act {self.hidden_act!r} is unknown; this network has {', '.join(ACTIVATIONS)}")
        for name in ("vocab_size", "hidden_size", "num_heads", "intermediate_size", "max_position_embeddings"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{_HUGGING_FACE_KEYS.get(name, name)} must be 1 or more, got {getattr(self, name)}")
        if self.hidden_size % self.num_heads:
            raise ConfigError(f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} attention heads")
        for name in ("hidden_dropout_rate", "attention_dropout_rate", "classifier_dropout_rate"):
            rate = getattr(self, name)
            if rate is not None and not 0 <= rate < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {rate}")

    @property
    def head_size(self) -> int:
        """Width of one attention head, K."""
        return self.hidden_size // self.num_heads

    def with_dropout(self, rate: float) -> "BertConfig":
        """The same architecture with one dropout rate everywhere."""
        return replace(self, hidden_dropout_rate=rate, attention_dropout_rate=rate, classifier_dropout_rate=None)

    @classmethod
    def from_hugging_face(cls, values: Mapping[str, Any]) -> "BertConfig":
        """Reads the values of a `config.json`; missing keys take the defaults of BERT-base.

        Raises:
          ConfigError: not a BERT encoder, a feature this network does not have, or a value of the wrong type.
        """
        model_type = values.get("model_type")
        if model_type is None:
            raise ConfigError('config.json has no model_type; if it is a BERT, add "model_type": "bert" to it')
        if model_type != "bert":
            raise ConfigError(
                f"model_type {model_type!r} is not supported; bertjax reads model_type 'bert' (BERT, MiniLM, SciBERT, "
                "BGE, E5, LaBSE and all others of its architecture)"
            )
        if values.get("position_embedding_type", "absolute") != "absolute":
            raise ConfigError(
                f"position_embedding_type {values['position_embedding_type']!r} is not supported; only 'absolute' is"
            )
        if values.get("quantization_config"):
            raise ConfigError("quantization_config is set; bertjax reads the weights as they were before quantization")
        for feature in ("is_decoder", "add_cross_attention"):
            if values.get(feature):
                raise ConfigError(f"{feature} is set; bertjax has the BERT encoder only")
        known = {name: key for name, key in _keys() if values.get(key) is not None}
        kinds = cls.__dataclass_fields__
        return cls(**{name: _typed(key, values[key], kinds[name].type) for name, key in known.items()})

    def to_hugging_face(self) -> dict[str, Any]:
        """The inverse of `from_hugging_face`, ready for `config.json`."""
        return {"model_type": "bert", **{key: getattr(self, name) for name, key in _keys()}}


def _keys() -> list[tuple[str, str]]:
    """(field, key in config.json) of all that is architecture."""
    names = (name for name in BertConfig.__dataclass_fields__ if name != "execution")
    return [(name, _HUGGING_FACE_KEYS.get(name, name)) for name in names]


def _typed(key: str, value: Any, wanted: Any) -> Any:
    """`value` as `wanted` (int, float or str), where a whole number may stand for a float."""
    wanted = float if wanted == float | None else wanted
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
