"""BERT (Devlin et al. 2018), and models of the same architecture: MiniLM, SciBERT, BGE, E5, LaBSE."""

from bertjax.members.member import ConfigRule, Head, HeadScheme, Member
from bertjax.members.weight_table import Bijection, Rule, WeightTable, embedding, layer_norm, linear


def encoder_rules(prefix: str) -> tuple[Rule, ...]:
    """The rules of an encoder whose tensors have BERT's names, after a prefix."""
    layer = f"{prefix}encoder.layer.{{i}}"
    return (
        *embedding(f"{prefix}embeddings.word_embeddings", "bert/embeddings/word"),
        *embedding(f"{prefix}embeddings.position_embeddings", "bert/embeddings/position"),
        *embedding(f"{prefix}embeddings.token_type_embeddings", "bert/embeddings/token_type"),
        *layer_norm(f"{prefix}embeddings.LayerNorm", "bert/embeddings/norm"),
        *linear(f"{layer}.attention.self.query", "bert/layer_{i}/attention/query"),
        *linear(f"{layer}.attention.self.key", "bert/layer_{i}/attention/key"),
        *linear(f"{layer}.attention.self.value", "bert/layer_{i}/attention/value"),
        *linear(f"{layer}.attention.output.dense", "bert/layer_{i}/attention/output"),
        *layer_norm(f"{layer}.attention.output.LayerNorm", "bert/layer_{i}/attention_norm"),
        *linear(f"{layer}.intermediate.dense", "bert/layer_{i}/intermediate"),
        *linear(f"{layer}.output.dense", "bert/layer_{i}/output"),
        *layer_norm(f"{layer}.output.LayerNorm", "bert/layer_{i}/output_norm"),
    )


# Field of `BertConfig` -> key, of all members whose `config.json` reads as BERT's.
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "hidden_act": "hidden_act",
    "hidden_dropout_rate": "hidden_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
    "classifier_dropout_rate": "classifier_dropout",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "initializer_range": "initializer_range",
    "layer_norm_eps": "layer_norm_eps",
    "pad_token_id": "pad_token_id",
}

_WEIGHTS = WeightTable(
    rules=(
        *encoder_rules("bert."),
        *linear("bert.pooler.dense", "pooler"),
        *linear("classifier", "classifier"),
        *linear("qa_outputs", "qa_outputs"),
        *linear("cls.predictions.transform.dense", "masked_lm/transform"),
        *layer_norm("cls.predictions.transform.LayerNorm", "masked_lm/norm"),
        Rule("cls.predictions.bias", "masked_lm", "b", Bijection.COPY),
        *linear("cls.seq_relationship", "next_sentence"),
    ),
    prefix="bert.",
    prefixed=("embeddings.", "encoder.", "pooler."),
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=("bert.embeddings.position_ids",),
    optional=("bert.pooler.", "cls.predictions.", "cls.seq_relationship."),
)

BERT = Member(
    model_type="bert",
    title="BERT",
    classes="Bert",
    config=ConfigRule(KEYS),
    weights=_WEIGHTS,
    heads={
        "Model": Head(),
        "ForSequenceClassification": Head(),
        "ForTokenClassification": Head(),
        "ForQuestionAnswering": Head(HeadScheme(dropout=None)),
        "ForMultipleChoice": Head(),
        "ForNextSentencePrediction": Head(),
        "ForMaskedLM": Head(),
        "ForPreTraining": Head(),
    },
    tokenizer="BertTokenizer",
)
