"""Occlusion: how much lower a score is when a word is hidden, one word at a time (Zeiler and Fergus 2014)."""

import numpy as np

from bertjax.inference.explanations.hidden_words import ScoresOfHidden


def occlude(scores: ScoresOfHidden, num_words: int) -> tuple[float, np.ndarray]:
    """The score of a text, and what it loses without each of its words, [W] float64."""
    hidden = np.concatenate([np.zeros((1, num_words), bool), np.eye(num_words, dtype=bool)])
    whole, *without = scores(hidden).tolist()
    return whole, whole - np.array(without)
