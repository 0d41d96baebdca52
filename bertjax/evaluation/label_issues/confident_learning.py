"""Confident learning: which labels a model's probabilities speak against.

Source: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR 70); for
sets of labels, Thyagarajan et al. 2022 (arXiv:2211.13895); for words, Wang and Mueller 2022 (arXiv:2210.03920), who
take each word as an item. cleanlab does the maths.
"""

from types import ModuleType
from typing import NamedTuple

import numpy as np

from bertjax.errors import ConfigError
from bertjax.evaluation.label_issues.labelled_items import Items

_FEWEST = 2  # items of a label: cleanlab never takes the only one away, and warns instead


class Doubts(NamedTuple):
    """What confident learning says of each item.

    Attributes:
      is_issue: [n] whether cleanlab takes the label for wrong.
      quality: [n] how far the probabilities speak for the label: cleanlab's score from 0 to 1, that of the label itself
        (its self-confidence); NaN where nothing is said.
      of_label: [n, L] which labels of a set are wrong, given or not; None where there is one label.
      left_out: names that too few items have, or lack, so that nothing is said of them.
      undefined: why nothing can be said at all; empty where something can.
    """

    is_issue: np.ndarray
    quality: np.ndarray
    of_label: np.ndarray | None = None
    left_out: tuple[str, ...] = ()
    undefined: str = ""

    def ranking(self) -> np.ndarray:
        """[m] the items that something is said of, the lowest quality first."""
        order = np.argsort(self.quality, kind="stable")
        return order[~np.isnan(self.quality[order])]

    def issues(self) -> np.ndarray:
        """[k] the items whose label is taken for wrong, as ranked."""
        ranking = self.ranking()
        return ranking[self.is_issue[ranking]]


def import_cleanlab() -> ModuleType:
    """cleanlab, imported where it is needed: it takes seconds.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import cleanlab
    except ImportError:
        raise ConfigError("label issues need cleanlab: pip install 'bertjax[analysis]'") from None
    return cleanlab


def find_doubts(items: Items) -> Doubts:
    """The labels that the probabilities speak against.

    Labels that fewer than two items have are left out, and so are, of sets, those that all items but one have; the
    probabilities of the others stay what the model says.

    Raises:
      ConfigError: cleanlab is not installed.
    """
    import_cleanlab()
    return _of_sets(items) if items.several else _of_classes(items)


def _of_classes(items: Items) -> Doubts:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    counts = np.bincount(items.given, minlength=len(items.names))
    compared = np.flatnonzero(counts >= _FEWEST)
    nothing = _nothing(items, compared)
    if len(compared) < 2:
        return nothing._replace(undefined=f"there are no two labels that {_FEWEST} rows or more have")
    chosen = np.flatnonzero(np.isin(items.given, compared))
    labels = np.searchsorted(compared, items.given[chosen])
    probabilities = items.probabilities[np.ix_(chosen, compared)]
    nothing.is_issue[chosen] = find_label_issues(labels, probabilities, n_jobs=1)
    nothing.quality[chosen] = get_label_quality_scores(labels, probabilities)
    return nothing


def _of_sets(items: Items) -> Doubts:
    from cleanlab.multilabel_classification import get_label_quality_scores
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

    counts = items.given.sum(axis=0)
    compared = np.flatnonzero((counts >= _FEWEST) & (counts <= len(items.given) - _FEWEST))
    nothing = _nothing(items, compared)._replace(of_label=np.zeros(items.given.shape, bool))
    if not len(compared):
        return nothing._replace(undefined=f"no label is one that {_FEWEST} rows have and {_FEWEST} lack")
    labels = [np.flatnonzero(of_row).tolist() for of_row in items.given[:, compared]]
    probabilities = items.probabilities[:, compared]
    assert nothing.of_label is not None
    nothing.of_label[:, compared] = find_multilabel_issues_per_class(labels, probabilities, n_jobs=1)
    if len(compared) > 1:
        quality = get_label_quality_scores(labels, probabilities)
    else:  # which cleanlab takes for no sets; the average of one label's score is that score
        quality = np.where(items.given[:, compared], probabilities, 1 - probabilities)[:, 0]
    return nothing._replace(is_issue=np.asarray(nothing.of_label.any(axis=1)), quality=quality)


def _nothing(items: Items, compared: np.ndarray) -> Doubts:
    left_out = tuple(name for i, name in enumerate(items.names) if i not in compared)
    return Doubts(np.zeros(len(items.given), bool), np.full(len(items.given), np.nan), left_out=left_out)
