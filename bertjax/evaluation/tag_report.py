"""How the labels of words compare: by entity where they are BIO tags, as CoNLL's evaluation has it, else by word."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertjax.batch import UNLABELLED
from bertjax.data.encode.examples import Examples
from bertjax.data.task_formats.token_format import is_bio
from bertjax.evaluation.classification_report import Scores, classification_report, flat_scores, scores_table
from bertjax.evaluation.reports import ScoreTable

_AVERAGES = ("micro avg", "macro avg", "weighted avg")  # seqeval's names


class TagReport(NamedTuple):
    """How predicted labels of words compare with right ones.

    Attributes:
      accuracy: share of words with the right label.
      micro: over all entities, an entity being right where its type, first and last word are; over all words, where
        the labels are no BIO tags.
      macro: averages over types of entities, or labels.
      by_type: type of entity, or label -> its scores.
      words, sentences: that were evaluated.
    """

    accuracy: float
    micro: Scores
    macro: Scores
    by_type: dict[str, Scores]
    words: int
    sentences: int
    confusion: None = None

    def flat(self, prefix: str) -> dict[str, float]:
        """Metrics under flat keys: `test/f1` over all, `test/f1_macro`, `test/accuracy`, `test/class/PER/recall`."""
        whole = {f"{prefix}/{key}": getattr(self.micro, key) for key in ("f1", "precision", "recall")}
        return whole | {f"{prefix}/accuracy": self.accuracy} | flat_scores(prefix, {"macro": self.macro}, self.by_type)

    @property
    def summary(self) -> str:
        """The rows behind the report, in words."""
        return f"{self.words} words in {self.sentences} sentences, {len(self.by_type)} types"

    @property
    def headline(self) -> list[tuple[str, float]]:
        """The main metrics, the most important first."""
        return [("F1", self.micro.f1), ("F1, macro", self.macro.f1), ("words with the right label", self.accuracy)]

    @property
    def table(self) -> ScoreTable:
        """Scores by type."""
        averages = {"micro": self.micro, "macro": self.macro}
        return scores_table("By type", "type", self.by_type, averages, counted="occurrences")


def tag_report(scores: np.ndarray, examples: Examples, names: Sequence[str]) -> TagReport:
    """Compares labels of words.

    Args:
      scores: [total tokens, L] logits.
      examples: with one label for each first piece of a word, and the sentence of each example as its row.
      names: of the labels, in index order.
    """
    labelled = examples.labels != UNLABELLED
    assert examples.row_of is not None
    sentence_of = np.repeat(examples.row_of, examples.lengths)[labelled]
    right, predicted = examples.labels[labelled], scores[labelled].argmax(axis=-1)
    cuts = np.flatnonzero(np.diff(sentence_of)) + 1
    if not is_bio(names):
        report = classification_report(right, predicted, names)
        accuracy = report.accuracy
        micro = Scores(accuracy, accuracy, accuracy, len(right))
        return TagReport(accuracy, micro, report.macro, report.by_class, len(right), len(cuts) + 1)

    def tags(indices: np.ndarray) -> list[list[str]]:
        return [[names[i] for i in sentence] for sentence in np.split(indices, cuts)]

    entities = _entity_scores(tags(right), tags(predicted))
    micro, macro, _ = (entities.pop(name) for name in _AVERAGES)
    return TagReport(float((right == predicted).mean()), micro, macro, entities, len(right), len(cuts) + 1)


def _entity_scores(right: list[list[str]], predicted: list[list[str]]) -> dict[str, Scores]:
    from seqeval.metrics import classification_report as seqeval_report

    if not any(tag != "O" for sentence in (*right, *predicted) for tag in sentence):
        return {name: Scores(0.0, 0.0, 0.0, 0) for name in _AVERAGES}  # seqeval would divide by nothing
    rows = seqeval_report(right, predicted, output_dict=True, zero_division=0)
    return {
        name: Scores(float(row["precision"]), float(row["recall"]), float(row["f1-score"]), int(row["support"]))
        for name, row in rows.items()
    }
