"""A text with some of its words hidden: what occlusion and LIME ask a network about."""

from collections.abc import Callable

import numpy as np

from bertjax.inference.explanations.explained_network import ExplainedNetwork, Question
from bertjax.inference.explanations.placed_text import NO_WORD, PlacedText

ScoresOfHidden = Callable[[np.ndarray], np.ndarray]
"""Which of the words that a network sees are hidden, [S, W] -> the score of each text, [S] float64."""


def baseline_of(placed: PlacedText, hiding: int) -> np.ndarray:
    """The tokens of a text with each word piece hidden by a token: [T] int32."""
    return np.where(placed.word_of == NO_WORD, placed.token_ids, hiding).astype(np.int32)


def scores_of_hidden(network: ExplainedNetwork, placed: PlacedText, question: Question, hiding: int) -> ScoresOfHidden:
    """The scores of a text when words are hidden: every piece of them is another token, in its place.

    Args:
      network: is asked.
      placed: the text.
      question: what is asked of it.
      hiding: the token that hides.
    """
    hidden_token_ids = baseline_of(placed, hiding)

    def scores(hidden: np.ndarray) -> np.ndarray:
        columns = np.zeros((len(hidden), len(placed.words) + 1), bool)  # the last one: `NO_WORD`
        columns[:, placed.seen_words] = hidden
        of_tokens = columns[:, placed.word_of]  # [S, T]
        variants = np.where(of_tokens, hidden_token_ids, placed.token_ids)
        return network.scores([question._replace(token_ids=token_ids) for token_ids in variants])

    return scores
