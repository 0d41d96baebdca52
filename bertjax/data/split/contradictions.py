"""Rows that contradict each other: the same text with different labels."""

import logging

import numpy as np

from bertjax.data.rows.label_vocabulary import RowLabels

logger = logging.getLogger(__name__)

_LISTED = 3


def contradicting_pairs(texts: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """The texts whose rows have different labels: [k, 2] the first row of each, and the first that contradicts it.

    Args:
      texts: [n] uint64, equal for rows with the same text.
      answers: [n] uint64, equal for rows with the same label.
    """
    order = np.lexsort((np.arange(len(texts)), texts))
    starts = np.flatnonzero(np.r_[True, texts[order][1:] != texts[order][:-1]]) if len(texts) else np.arange(0)
    group = np.cumsum(np.bincount(starts, minlength=len(order))) - 1
    differs = answers[order] != answers[order[starts]][group]
    others = np.flatnonzero(differs)
    groups, nth = np.unique(group[others], return_index=True)
    pairs = np.stack([order[starts[groups]], order[others[nth]]], axis=1)
    return pairs[np.argsort(pairs[:, 0])]


def warn_of_contradictions(
    texts: np.ndarray, answers: np.ndarray, positions: np.ndarray, labels: RowLabels, source: str
) -> int:
    """Counts the texts whose rows have different labels, and logs the first few.

    Args:
      texts: [n] uint64, equal for rows with the same text.
      answers: [n] uint64, equal for rows with the same label.
      positions: [n] the place of each row in the table, from 0.
      labels: of the rows, to name them; may have no names.
      source: named in the message.
    """
    pairs = contradicting_pairs(texts, answers)
    if not len(pairs):
        return 0

    def described(row: int) -> str:
        names = ", ".join(map(repr, labels.take(np.array([row])).counts()))
        return f"row {positions[row] + 1}{f' ({names})' if names else ''}"

    listed = "; ".join(" and ".join(map(described, pair)) for pair in pairs[:_LISTED].tolist())
    more = f"; {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
    logger.warning(
        "%s: %d text%s with different labels, case and spaces aside: %s%s; of rows with the same text the first "
        "is kept",
        source, len(pairs), " stands in rows" if len(pairs) == 1 else "s stand in rows", listed, more,
    )  # fmt: skip
    return len(pairs)
