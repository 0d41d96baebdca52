"""RoBERTa (Liu et al. 2019, arXiv:1907.11692), XLM-R (arXiv:1911.02116) and CamemBERT (arXiv:1911.03894).

One network under three names. Departs from BERT: positions start after the padding index, the classifier has a dense
layer of its own instead of the pooler, and the masked-LM head has other names.
"""

from collections.abc import Mapping
from typing import Any

from bertjax.members.member import ConfigRule, Head, HeadScheme, Member
from bertjax.members.original_bert import KEYS, encoder_rules
from bertjax.members.weight_table import Bijection, Rule, WeightTable, layer_norm, linear

_PAD = 1  # transformers' default


def _derived(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Positions start at the index of padding plus 1: fairseq kept that index's row for padding."""
    pad = values.get("pad_token_id")
    return {"position_offset": (pad if isinstance(pad, int) else _PAD) + 1}


_WEIGHTS = WeightTable(
    rules=(
        *encoder_rules("roberta."),
        *linear("roberta.pooler.dense", "pooler"),
        *linear("classifier", "classifier"),
        *linear("qa_outputs", "qa_outputs"),
        *linear("lm_head.dense", "masked_lm/transform"),
        *layer_norm("lm_head.layer_norm", "masked_lm/norm"),
        Rule("lm_head.bias", "masked_lm", "b", Bijection.COPY),
    ),
    prefix="roberta.",
    prefixed=("embeddings.", "encoder.", "pooler."),
    tied={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    ignored=("roberta.embeddings.position_ids",),
    optional=("roberta.pooler.", "lm_head."),
)

_HEADS = {
    "Model": Head(),
    "ForSequenceClassification": Head(
        HeadScheme(drops_before=True),
        (*linear("classifier.dense", "pooler"), *linear("classifier.out_proj", "classifier")),
    ),
    "ForTokenClassification": Head(),
    "ForQuestionAnswering": Head(HeadScheme(dropout=None)),
    "ForMultipleChoice": Head(HeadScheme(dropout="hidden_dropout_rate")),
    "ForMaskedLM": Head(HeadScheme(word_activation="gelu")),
}


def _member(model_type: str, title: str, classes: str, vocab_size: int) -> Member:
    defaults = {"vocab_size": vocab_size, "pad_token_id": _PAD}
    rule = ConfigRule(KEYS, defaults=defaults, derived=_derived, kept=("bos_token_id", "eos_token_id"))
    return Member(model_type, title, classes, rule, _WEIGHTS, _HEADS)


ROBERTA = _member("roberta", "RoBERTa", "Roberta", 50265)
XLM_ROBERTA = _member("xlm-roberta", "XLM-R", "XLMRoberta", 30522)
CAMEMBERT = _member("camembert", "CamemBERT", "Camembert", 30522)
