"""Entities out of the labels of words, as seqeval counts them in `tag_report`."""

from collections.abc import Sequence
from typing import NamedTuple

from bertjax.data.task_formats.tag_scheme import STRICT, TagScheme, as_seqeval


class Entity(NamedTuple):
    """Neighbouring words that are one thing.

    Attributes:
      type: what it is, such as PER; `_` where labels name no type.
      first, last: its first and last word.
    """

    type: str
    first: int
    last: int


def find_entities(labels: Sequence[str], scheme: TagScheme) -> list[Entity]:
    """The entities of a sentence, in its order.

    Args:
      labels: one a word.
      scheme: how they mark entities. By bio an entity may begin without a B, as in CoNLL's evaluation; bioes and bilou
        are strict; none has no entities.
    """
    if scheme == "none":
        return []
    tags = list(map(as_seqeval, labels))
    if scheme in STRICT:
        from seqeval import scheme as schemes

        found = schemes.Entities([tags], {"bioes": schemes.IOBES, "bilou": schemes.BILOU}[scheme]).entities[0]
        return [Entity(entity.tag, entity.start, entity.end - 1) for entity in found]
    from seqeval.metrics.sequence_labeling import get_entities

    return [Entity(*entity) for entity in get_entities(tags)]
