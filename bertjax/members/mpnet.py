"""MPNet (Song et al. 2020, arXiv:2004.09297): BERT's layers with a relative position bias that all layers share.

No token types. Positions start after the padding index, as in RoBERTa; that index is fixed here.
"""

from bertjax.members.member import ConfigRule, Head, HeadScheme, Member
from bertjax.members.original_bert import KEYS
from bertjax.members.weight_table import Bijection, Rule, WeightTable, embedding, layer_norm, linear

_PAD = 1  # transformers' network has it, whatever the configuration says
_BUCKETS = 32  # so here
_LAYER = "mpnet.encoder.layer.{i}"

_WEIGHTS = WeightTable(
    rules=(
        *embedding("mpnet.embeddings.word_embeddings", "bert/embeddings/word"),
        *embedding("mpnet.embeddings.position_embeddings", "bert/embeddings/position"),
        *embedding("mpnet.encoder.relative_attention_bias", "bert/embeddings/distance"),
        *layer_norm("mpnet.embeddings.LayerNorm", "bert/embeddings/norm"),
        *linear(f"{_LAYER}.attention.attn.q", "bert/layer_{i}/attention/query"),
        *linear(f"{_LAYER}.attention.attn.k", "bert/layer_{i}/attention/key"),
        *linear(f"{_LAYER}.attention.attn.v", "bert/layer_{i}/attention/value"),
        *linear(f"{_LAYER}.attention.attn.o", "bert/layer_{i}/attention/output"),
        *layer_norm(f"{_LAYER}.attention.LayerNorm", "bert/layer_{i}/attention_norm"),
        *linear(f"{_LAYER}.intermediate.dense", "bert/layer_{i}/intermediate"),
        *linear(f"{_LAYER}.output.dense", "bert/layer_{i}/output"),
        *layer_norm(f"{_LAYER}.output.LayerNorm", "bert/layer_{i}/output_norm"),
        *linear("mpnet.pooler.dense", "pooler"),
        *linear("classifier", "classifier"),
        *linear("qa_outputs", "qa_outputs"),
        *linear("lm_head.dense", "masked_lm/transform"),
        *layer_norm("lm_head.layer_norm", "masked_lm/norm"),
        Rule("lm_head.bias", "masked_lm", "b", Bijection.COPY),
    ),
    prefix="mpnet.",
    prefixed=("embeddings.", "encoder.", "pooler."),
    tied={
        "lm_head.decoder.weight": "mpnet.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    ignored=("mpnet.embeddings.position_ids",),
    optional=("mpnet.pooler.", "lm_head."),
)

MPNET = Member(
    model_type="mpnet",
    title="MPNet",
    classes="MPNet",
    config=ConfigRule(
        {field: key for field, key in KEYS.items() if field not in ("type_vocab_size", "classifier_dropout_rate")},
        settings={"type_vocab_size": 0, "position_offset": _PAD + 1, "distance_buckets": _BUCKETS},
        defaults={"vocab_size": 30527, "pad_token_id": _PAD},
        fixed={"relative_attention_num_buckets": _BUCKETS},
        kept=("bos_token_id", "eos_token_id"),
    ),
    weights=_WEIGHTS,
    heads={
        "Model": Head(),
        "ForSequenceClassification": Head(
            HeadScheme(drops_before=True),
            (*linear("classifier.dense", "pooler"), *linear("classifier.out_proj", "classifier")),
        ),
        "ForTokenClassification": Head(),
        "ForQuestionAnswering": Head(HeadScheme(dropout=None)),
        "ForMultipleChoice": Head(),
        "ForMaskedLM": Head(HeadScheme(word_activation="gelu")),
    },
)
