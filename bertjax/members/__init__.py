"""`MEMBERS`: the kinds of encoder that bertjax has, one entry each; each is data in a file of its own."""

import re
from collections.abc import Collection, Mapping

from bertjax.errors import ConfigError
from bertjax.members.distilbert import DISTILBERT
from bertjax.members.electra import ELECTRA
from bertjax.members.member import HeadScheme, Member, suffix_of
from bertjax.members.modernbert import MODERNBERT
from bertjax.members.mpnet import MPNET
from bertjax.members.original_bert import BERT
from bertjax.members.roberta import CAMEMBERT, ROBERTA, XLM_ROBERTA

__all__ = ["MEMBERS", "HeadScheme", "Member", "find_member", "likely_member", "suffix_of", "supported"]

MEMBERS: Mapping[str, Member] = {
    member.model_type: member
    for member in (BERT, ROBERTA, XLM_ROBERTA, CAMEMBERT, DISTILBERT, ELECTRA, MODERNBERT, MPNET)
}

_LAYER = re.compile(r"\.\d+\.")  # the number of a layer in the name of a tensor


def find_member(model_type: str) -> Member:
    """An entry of the table.

    Raises:
      ConfigError: there is none of that name.
    """
    if model_type not in MEMBERS:
        raise ConfigError(f"model_type {model_type!r} is not supported; bertjax reads model_type {supported()}")
    return MEMBERS[model_type]


def supported() -> str:
    """Every `model_type` that bertjax reads, in words."""
    names = [f"{name!r}" for name in MEMBERS]
    names[0] += " (BERT, MiniLM, SciBERT, BGE, E5, LaBSE and all others of its architecture)"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def likely_member(model_type: str, tensors: Collection[str]) -> Member:
    """The member whose encoder has the most of some tensors; that of `model_type` if no other has more."""

    def encoders(member: Member) -> int:
        known = {rule.hugging_face for rule in member.weights.rules if rule.module.startswith("bert/")}
        return len(known.intersection(_LAYER.sub(".{i}.", member.weights.canonical(name)) for name in tensors))

    own = find_member(model_type)
    best = max(MEMBERS.values(), key=encoders)
    return best if encoders(best) > encoders(own) else own
