"""ModernBERT (Warner et al. 2024, arXiv:2412.13663): rotary positions, gated feed-forward blocks, pre-norm.

Two of three layers have local attention. There are no token types, and biases only in the decoder and the classifier.
Query, key and value are a single tensor of the checkpoint.
"""

from collections.abc import Mapping
from typing import Any

from bertjax.errors import ConfigError
from bertjax.members.member import ConfigRule, Head, HeadScheme, Member, check_rope_type
from bertjax.members.weight_table import Bijection, Part, Rule, WeightTable, embedding, linear, matrix, scale

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
_BASES = {_GLOBAL: 160_000.0, _LOCAL: 10_000.0}  # transformers' defaults
_OLD_BASES = {_GLOBAL: "global_rope_theta", _LOCAL: "local_rope_theta"}  # before transformers 5
_EVERY = 3  # one global layer in three
_WINDOW = 128
_LAYERS = 22


def _derived(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rotary positions and the reach of each layer."""
    if values.get("rope_scaling"):
        scaling = values["rope_scaling"]
        check_rope_type("rope_scaling", scaling.get("rope_type", scaling) if isinstance(scaling, Mapping) else scaling)
    given = values.get("rope_parameters") or {}
    if not isinstance(given, Mapping) or not all(isinstance(part or {}, Mapping) for part in given.values()):
        raise ConfigError(f"config.json: rope_parameters must hold an object for each kind of layer, got {given!r}")
    if unknown := sorted(set(given) - set(_BASES)):
        raise ConfigError(f"config.json: rope_parameters has {unknown[0]!r}; there are {_GLOBAL} and {_LOCAL}")
    bases = {}
    for kind, default in _BASES.items():
        settings = given.get(kind) or {}
        check_rope_type(f"rope_parameters of {kind}", settings.get("rope_type"))
        if further := sorted(set(settings) - {"rope_type", "rope_theta"}):
            raise ConfigError(f"config.json: rope_parameters of {kind} has {further[0]!r}, which is not supported")
        bases[kind] = _number(settings.get("rope_theta"), values.get(_OLD_BASES[kind]), default)
    kinds = _layer_kinds(values)
    window = values.get("local_attention")
    return {
        "rotary": {
            "base": bases[_GLOBAL],
            "local_base": bases[_LOCAL],
            "window": (window if isinstance(window, int) else _WINDOW) // 2,
            "local": tuple(kind == _LOCAL for kind in kinds),
        },
        "mean_pooler": values.get("classifier_pooling", "cls") == "mean",
    }


def _layer_kinds(values: Mapping[str, Any]) -> list[str]:
    count = values.get("num_hidden_layers")
    count = count if isinstance(count, int) else _LAYERS
    every = values.get("global_attn_every_n_layers") or _EVERY
    kinds = values.get("layer_types") or [_LOCAL if i % every else _GLOBAL for i in range(count)]
    if not isinstance(kinds, list) or len(kinds) != count or not set(kinds) <= set(_BASES):
        raise ConfigError(f"config.json: layer_types must say {_GLOBAL} or {_LOCAL} for each of {count} layers")
    return kinds


def _number(*candidates: Any) -> float:
    return float(next(value for value in candidates if isinstance(value, int | float)))


def _written(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    rotary = fields["rotary"]
    bases = {_GLOBAL: rotary.base, _LOCAL: rotary.local_base}
    return {
        "layer_types": [_LOCAL if is_local else _GLOBAL for is_local in rotary.local],
        "local_attention": 2 * rotary.window,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()},
        **{key: bases[kind] for kind, key in _OLD_BASES.items()},
        "classifier_pooling": "mean" if fields["mean_pooler"] else "cls",
    }


_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "hidden_act": "hidden_activation",
    "embedding_dropout_rate": "embedding_dropout",
    "hidden_dropout_rate": "mlp_dropout",
    "attention_dropout_rate": "attention_dropout",
    "classifier_dropout_rate": "classifier_dropout",
    "max_position_embeddings": "max_position_embeddings",
    "initializer_range": "initializer_range",
    "layer_norm_eps": "norm_eps",
    "pad_token_id": "pad_token_id",
}

_LAYER = "model.layers.{i}"

_WEIGHTS = WeightTable(
    rules=(
        *embedding("model.embeddings.tok_embeddings", "bert/embeddings/word"),
        *scale("model.embeddings.norm", "bert/embeddings/norm"),
        *scale(f"{_LAYER}.attn_norm", "bert/layer_{i}/attention_norm"),
        *matrix(f"{_LAYER}.attn.Wqkv", "bert/layer_{i}/attention/query", Part(0, 3)),
        *matrix(f"{_LAYER}.attn.Wqkv", "bert/layer_{i}/attention/key", Part(1, 3)),
        *matrix(f"{_LAYER}.attn.Wqkv", "bert/layer_{i}/attention/value", Part(2, 3)),
        *matrix(f"{_LAYER}.attn.Wo", "bert/layer_{i}/attention/output"),
        *scale(f"{_LAYER}.mlp_norm", "bert/layer_{i}/output_norm"),
        *matrix(f"{_LAYER}.mlp.Wi", "bert/layer_{i}/intermediate"),
        *matrix(f"{_LAYER}.mlp.Wo", "bert/layer_{i}/output"),
        *scale("model.final_norm", "bert/final_norm"),
        *matrix("head.dense", "pooler"),
        *scale("head.norm", "pooler_norm"),
        *linear("classifier", "classifier"),
        *linear("classifier", "qa_outputs"),
        *matrix("head.dense", "masked_lm/transform"),
        *scale("head.norm", "masked_lm/norm"),
        Rule("decoder.bias", "masked_lm", "b", Bijection.COPY),
    ),
    prefix="model.",
    prefixed=("embeddings.", "layers.", "final_norm."),
    tied={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
    ignored=(),
    optional=("head.", "decoder."),
)

# The dense layer is over whatever the classifier reads: an example's vector, or each token.
_HEAD = Head(HeadScheme(activation="gelu", normalizes=True, over_tokens=True))

MODERNBERT = Member(
    model_type="modernbert",
    title="ModernBERT",
    classes="ModernBert",
    config=ConfigRule(
        _KEYS,
        settings={"type_vocab_size": 0, "biases": False, "gated": True, "norm_position": "before"},
        defaults={
            "vocab_size": 50368,
            "intermediate_size": 1152,
            "num_layers": _LAYERS,
            "max_position_embeddings": 8192,
            "layer_norm_eps": 1e-5,
            "pad_token_id": 50283,
            "embedding_dropout_rate": 0.0,
            "hidden_dropout_rate": 0.0,
            "attention_dropout_rate": 0.0,
            "classifier_dropout_rate": 0.0,
        },
        fixed={
            "norm_bias": False,
            "attention_bias": False,
            "mlp_bias": False,
            "classifier_bias": False,
            "decoder_bias": True,
            "classifier_activation": "gelu",
        },
        derived=_derived,
        written=_written,
        kept=("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"),
    ),
    weights=_WEIGHTS,
    heads={
        "Model": Head(HeadScheme(pooler=False)),
        "ForSequenceClassification": _HEAD,
        "ForTokenClassification": _HEAD,
        "ForQuestionAnswering": _HEAD,
        "ForMultipleChoice": _HEAD,
        "ForMaskedLM": Head(HeadScheme(word_activation="gelu")),
    },
)
