"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108): BERT's layers under other names; no token types, no pooler."""

from bertjax.members.member import ConfigRule, Head, HeadScheme, Member
from bertjax.members.weight_table import Bijection, Rule, WeightTable, embedding, layer_norm, linear

_EMBEDDINGS, _LAYER = "distilbert.embeddings", "distilbert.transformer.layer.{i}"

_WEIGHTS = WeightTable(
    rules=(
        *embedding(f"{_EMBEDDINGS}.word_embeddings", "bert/embeddings/word"),
        *embedding(f"{_EMBEDDINGS}.position_embeddings", "bert/embeddings/position"),
        *layer_norm(f"{_EMBEDDINGS}.LayerNorm", "bert/embeddings/norm"),
        *linear(f"{_LAYER}.attention.q_lin", "bert/layer_{i}/attention/query"),
        *linear(f"{_LAYER}.attention.k_lin", "bert/layer_{i}/attention/key"),
        *linear(f"{_LAYER}.attention.v_lin", "bert/layer_{i}/attention/value"),
        *linear(f"{_LAYER}.attention.out_lin", "bert/layer_{i}/attention/output"),
        *layer_norm(f"{_LAYER}.sa_layer_norm", "bert/layer_{i}/attention_norm"),
        *linear(f"{_LAYER}.ffn.lin1", "bert/layer_{i}/intermediate"),
        *linear(f"{_LAYER}.ffn.lin2", "bert/layer_{i}/output"),
        *layer_norm(f"{_LAYER}.output_layer_norm", "bert/layer_{i}/output_norm"),
        *linear("pre_classifier", "pooler"),
        *linear("classifier", "classifier"),
        *linear("qa_outputs", "qa_outputs"),
        *linear("vocab_transform", "masked_lm/transform"),
        *layer_norm("vocab_layer_norm", "masked_lm/norm"),
        Rule("vocab_projector.bias", "masked_lm", "b", Bijection.COPY),
    ),
    prefix="distilbert.",
    prefixed=("embeddings.", "transformer."),
    tied={"vocab_projector.weight": f"{_EMBEDDINGS}.word_embeddings.weight"},
    ignored=(f"{_EMBEDDINGS}.position_ids",),
    optional=("vocab_transform.", "vocab_layer_norm.", "vocab_projector."),
)

_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "num_layers": "n_layers",
    "num_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
    "hidden_dropout_rate": "dropout",
    "attention_dropout_rate": "attention_dropout",
    "classifier_dropout_rate": "seq_classif_dropout",
    "span_dropout_rate": "qa_dropout",
    "max_position_embeddings": "max_position_embeddings",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
}

DISTILBERT = Member(
    model_type="distilbert",
    title="DistilBERT",
    classes="DistilBert",
    config=ConfigRule(
        _KEYS,
        settings={"type_vocab_size": 0, "layer_norm_eps": 1e-12},
        defaults={"num_layers": 6, "classifier_dropout_rate": 0.2, "span_dropout_rate": 0.1},
    ),
    weights=_WEIGHTS,
    heads={
        "Model": Head(HeadScheme(pooler=False)),
        "ForSequenceClassification": Head(HeadScheme(activation="relu")),
        "ForTokenClassification": Head(HeadScheme(dropout="hidden_dropout_rate")),
        "ForQuestionAnswering": Head(HeadScheme(dropout="span_dropout_rate")),
        "ForMultipleChoice": Head(HeadScheme(activation="relu")),
        "ForMaskedLM": Head(),
    },
    tokenizer="BertTokenizer",
)
