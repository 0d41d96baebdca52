"""`Explanation`: a weight for each word of a text."""

from typing import Any, NamedTuple

from bertjax.inference.explanations.explain_options import Method
from bertjax.tasks.postprocess import Prediction


class WordWeight(NamedTuple):
    """A word of a text and what it adds to a score.

    Attributes:
      word: as it stands in the text.
      weight: above 0 where it speaks for the label, below 0 where it speaks against it.
      start: where it begins in its text, in characters.
      in_pair: whether it is one of the second text.
    """

    word: str
    weight: float
    start: int
    in_pair: bool = False


class Explanation(NamedTuple):
    """Why a model says what it says of a text.

    Attributes:
      method: what weighed the words.
      label: the label, or the name of the number, whose score is explained; None where a method explains no label.
      words: every word of the text, in order; of a pair, those of the second text behind those of the first.
      texts: the text, and the second one of a pair, after the model's preprocessing.
      answer: the model's answer to the text.
      score: the logit of the label, or the number; None where a method explains no label.
      baseline_score: the same without words; None where a method has no baseline.
      gap: how far the sum of the weights is from `score - baseline_score`.
      steps: points between baseline and text at which the network was computed.
      cut_words: that the network does not see; their weights are 0. They are at the end of the text; where `explained`
        is a part of it, they are outside of that part's window.
      explained: the words, or the answer, that the label is said of; None where it is said of the whole text.
    """

    method: Method
    label: str | None
    words: tuple[WordWeight, ...]
    texts: tuple[str, ...]
    answer: Prediction
    score: float | None = None
    baseline_score: float | None = None
    gap: float | None = None
    steps: int | None = None
    cut_words: int = 0
    explained: str | None = None

    @property
    def strongest(self) -> list[WordWeight]:
        """The words by the size of their weights; those of weight 0 left out."""
        return sorted((word for word in self.words if word.weight), key=lambda word: -abs(word.weight))

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the answer."""
        return {
            "method": self.method,
            "label": self.label,
            "words": [[word.word, word.weight] for word in self.words],
            "score": self.score,
            "baseline_score": self.baseline_score,
            "gap": self.gap,
            "steps": self.steps,
            "cut_words": self.cut_words,
            **({} if self.explained is None else {"explained": self.explained}),
        }
