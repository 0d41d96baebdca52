"""Assigns training rows to folds."""

import warnings
from collections import Counter
from typing import NamedTuple

import numpy as np

from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.split.split_rows import leak_hashes
from bertjax.data.task_formats import TaskFormat
from bertjax.errors import DataError

ALWAYS_TRAINED = -1


class Folds(NamedTuple):
    """A deal of rows.

    Attributes:
      of_rows: [n] int64 the fold in which each row is held out, `ALWAYS_TRAINED` for none.
      rare: labels that too few texts have to be in each fold; their rows are in every training part.
    """

    of_rows: np.ndarray
    rare: tuple[str, ...]

    @property
    def num_unjudged(self) -> int:
        """Rows that are never held out."""
        return int((self.of_rows == ALWAYS_TRAINED).sum())


def deal_folds(rows: Rows, task_format: TaskFormat, folds: int, seed: int, source: str) -> Folds:
    """Deals rows into folds, each class evenly. Rows with the same text (case, width and spaces aside) go together, so
    that no model is asked about a text that it was trained on; and each model sees every label.

    Args:
      rows: labelled.
      task_format: of the rows.
      folds: two or more.
      seed: of the deal.
      source: named in errors.

    Raises:
      DataError: too few texts.
    """
    _, first, text_of = np.unique(leak_hashes(rows), return_index=True, return_inverse=True)
    names = [frozenset(task_format.names(label)) for label in rows.labels]
    of_texts = [names[row] for row in first]  # of copies, a run trains on the first
    counts = Counter(name for of_text in of_texts for name in of_text)
    rare = {name for of_row in names for name in of_row if counts[name] < folds}
    kept = np.zeros(len(first), bool)
    kept[text_of[[bool(of_row & rare) for of_row in names]]] = True
    classes = np.array([min(of_text, default="") if task_format.classes else "" for of_text in of_texts])
    largest = Counter(classes[~kept].tolist()).most_common(1)
    if not largest or largest[0][1] < folds:
        what = "no label has" if task_format.classes else "there are not"
        raise DataError(
            f"{source}: {what} {folds} different texts, one for each fold; choose fewer --folds, or add rows"
        )
    if task_format.classes and len(set(classes[~kept].tolist())) < 2:
        raise DataError(
            f"{source}: a single label has {folds} different texts, one a fold, and no other could be right in its "
            f"place; choose fewer --folds, or add rows"
        )
    fold_of = _dealt(classes, kept, folds, seed)
    _keep_only_examples(fold_of, of_texts)
    return Folds(fold_of[text_of], tuple(sorted(rare)))


def _dealt(classes: np.ndarray, kept: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """[t] the fold of each text."""
    from sklearn.model_selection import StratifiedKFold

    fold_of = np.full(len(classes), ALWAYS_TRAINED, np.int64)
    dealt = np.flatnonzero(~kept)
    with warnings.catch_warnings():
        # A class some of whose texts are kept for the labels of their copies may be in fewer folds.
        warnings.simplefilter("ignore", UserWarning)
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(dealt, classes[dealt])
        for fold, (_, held_out) in enumerate(parts):
            fold_of[dealt[held_out]] = fold
    return fold_of


def _keep_only_examples(fold_of: np.ndarray, of_texts: list[frozenset[str]]) -> None:
    """Keeps the texts of a label in training whose examples are all in one fold; labels of sets and words may be."""
    places: dict[str, list[int]] = {}
    for text, of_text in enumerate(of_texts):
        for name in of_text:
            places.setdefault(name, []).append(text)
    for texts in places.values():
        found = set(fold_of[texts].tolist())
        if len(found) == 1:
            fold_of[texts] = ALWAYS_TRAINED
