"""ELECTRA (Clark et al. 2020, arXiv:2003.10555): BERT's layers over embeddings that may be narrower.

The generator is a masked language model, which decodes in the width of the embeddings. The discriminator says of each
token whether it was replaced; it is what is fine-tuned, without that head. transformers' name of the head is
`ForPreTraining`, as that of BERT's two. The classifier has a dense layer with GELU instead of BERT's pooler.
"""

from bertjax.members.member import ConfigRule, Head, HeadScheme, Member
from bertjax.members.original_bert import KEYS, encoder_rules
from bertjax.members.weight_table import Bijection, Rule, WeightTable, layer_norm, linear

_WEIGHTS = WeightTable(
    rules=(
        *encoder_rules("electra."),
        *linear("electra.embeddings_project", "bert/embeddings/projection"),
        *linear("classifier", "classifier"),
        *linear("qa_outputs", "qa_outputs"),
        *linear("generator_predictions.dense", "masked_lm/transform"),
        *layer_norm("generator_predictions.LayerNorm", "masked_lm/norm"),
        Rule("generator_lm_head.bias", "masked_lm", "b", Bijection.COPY),
        *linear("discriminator_predictions.dense", "replaced_tokens/transform"),
        *linear("discriminator_predictions.dense_prediction", "replaced_tokens/prediction"),
    ),
    prefix="electra.",
    prefixed=("embeddings.", "embeddings_project.", "encoder."),
    tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    ignored=("electra.embeddings.position_ids",),
    optional=("generator_predictions.", "generator_lm_head.", "discriminator_predictions."),
)

_KEYS = {"embedding_size": "embedding_size", **KEYS, "choice_dropout_rate": "summary_last_dropout"}

ELECTRA = Member(
    model_type="electra",
    title="ELECTRA",
    classes="Electra",
    config=ConfigRule(
        _KEYS,
        defaults={
            "embedding_size": 128,
            "hidden_size": 256,
            "num_heads": 4,
            "intermediate_size": 1024,
            "choice_dropout_rate": 0.1,
        },
        fixed={"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"},
    ),
    weights=_WEIGHTS,
    heads={
        "Model": Head(HeadScheme(pooler=False)),
        "ForSequenceClassification": Head(
            HeadScheme(activation="gelu", drops_before=True),
            (*linear("classifier.dense", "pooler"), *linear("classifier.out_proj", "classifier")),
        ),
        "ForTokenClassification": Head(),
        "ForQuestionAnswering": Head(HeadScheme(dropout=None)),
        "ForMultipleChoice": Head(
            HeadScheme(activation="gelu", dropout="choice_dropout_rate"), linear("sequence_summary.summary", "pooler")
        ),
        "ForMaskedLM": Head(HeadScheme(word_activation="gelu")),
        "ForReplacedTokens": Head(suffix="ForPreTraining"),
    },
    tokenizer="BertTokenizer",
)
