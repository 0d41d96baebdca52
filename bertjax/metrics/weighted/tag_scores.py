"""Weighted metrics of the labels of words: a row is a sentence; see `bertjax.metrics.tag_report`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bertjax.data.task_formats.tag_scheme import TagScheme
from bertjax.metrics.entities import Entity, find_entities
from bertjax.metrics.weighted.label_counts import LabelCounts
from bertjax.metrics.weighted.row_weights import WeightedScores, ratio, sums_by_row


@dataclass(frozen=True)
class WordScores:
    """Labels that mark no entities, judged word by word.

    Attributes:
      labels, predictions: [M] label indices of the words that have a label.
      sentence_of: [M] their rows, ascending.
      rows: N, with those that have no such word.
      names: of the labels, in index order.
    """

    labels: np.ndarray
    predictions: np.ndarray
    sentence_of: np.ndarray
    rows: int
    names: Sequence[str]

    @cached_property
    def _counts(self) -> LabelCounts:
        return LabelCounts.of(self.labels, self.predictions, len(self.names), self.sentence_of, self.rows)

    def __call__(self, weights: np.ndarray) -> WeightedScores:
        """The metrics of a block."""
        counts = self._counts(weights)
        accuracy = ratio(counts.hits.sum(axis=0), counts.true.sum(axis=0))
        return WeightedScores({"accuracy": accuracy, **counts.averaged("macro", "_macro")}, counts.parts(self.names))


@dataclass(frozen=True)
class EntityScores:
    """Labels that mark entities.

    Attributes:
      true, predicted: the labels of each sentence that has some.
      scheme: how they mark entities.
      sentence_of: [words] the row of each word of these sentences, ascending.
      rows: N, with those that have no such word.
      types: of the entities.
    """

    true: Sequence[Sequence[str]]
    predicted: Sequence[Sequence[str]]
    scheme: TagScheme
    sentence_of: np.ndarray
    rows: int
    types: Sequence[str]

    @cached_property
    def _counts(self) -> LabelCounts:
        sides = [[set(find_entities(tags, self.scheme)) for tags in side] for side in (self.true, self.predicted)]
        hits = [right & said for right, said in zip(*sides, strict=True)]
        return LabelCounts(*(self._by_type(entities) for entities in (hits, *sides)))

    def _by_type(self, entities: Iterable[Iterable[Entity]]) -> np.ndarray:
        """[types, N] how many there are in each sentence."""
        counts, places = np.zeros((len(self.types), self.rows)), {name: i for i, name in enumerate(self.types)}
        for row, of_sentence in zip(np.unique(self.sentence_of), entities, strict=bool(len(self.sentence_of))):
            for name, count in Counter(entity.type for entity in of_sentence).items():
                counts[places[name], row] = count
        return counts

    @cached_property
    def _words(self) -> tuple[np.ndarray, np.ndarray]:
        """[N] words of each sentence with the right label, and words."""
        pairs = zip(self.true, self.predicted, strict=True)
        right = [a == b for true, predicted in pairs for a, b in zip(true, predicted, strict=True)]
        sides = np.array(right, np.float64), np.ones(len(right))
        first, second = (sums_by_row(values, self.sentence_of, self.rows) for values in sides)
        return first, second

    def __call__(self, weights: np.ndarray) -> WeightedScores:
        """The metrics of a block."""
        counts = self._counts(weights)
        right, words = (sums @ weights for sums in self._words)
        metrics = counts.averaged("micro") | {"accuracy": ratio(right, words)} | counts.averaged("macro", "_macro")
        return WeightedScores(metrics, counts.parts(self.types))
