"""Dynamic masking for masked language models: a pure function of the seed, the epoch and the text's number.

Of the tokens to predict, 80% become `[MASK]`, 10% a random word piece, and 10% stay (BERT, section 3.1, task 1).
"""

from typing import NamedTuple

import numpy as np

from bertjax.batch import UNLABELLED

_MASKED, _RANDOM = 0.8, 0.1  # shares of the tokens to predict
NO_WORD = -1  # tokens of no word, such as [CLS] and [SEP], are never masked


class DynamicMasking(NamedTuple):
    """Masks other tokens in each epoch."""

    words: np.ndarray  # [total tokens] int32 word of each token, counted within its text; -1 for none
    share: float  # share of a text's tokens to predict
    whole_words: bool  # whether all pieces of a word are masked together
    mask_id: int  # the index of `[MASK]`
    replacements: np.ndarray  # the indices of the word pieces that may replace a token
    seed: int  # seed of the choice

    def mask(self, token_ids: np.ndarray, tokens: slice, number: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks tokens of one text.

        Args:
          token_ids: [T] tokens of the text.
          tokens: their places in `words`.
          number: index of the text.
          epoch: counted from 0.

        Returns:
          [T] int32 masked tokens, and [T] int32 original ids of the tokens to predict, -100 elsewhere.
        """
        rng = np.random.default_rng([self.seed, epoch, number])
        chosen = _chosen(self.words[tokens], self.share, self.whole_words, rng)
        labels = np.full(len(token_ids), UNLABELLED, np.int32)
        labels[chosen] = token_ids[chosen]
        draw = rng.random(len(chosen))
        substitutes = rng.choice(self.replacements, len(chosen))
        masked = token_ids.copy()
        masked[chosen] = np.select(
            [draw < _MASKED, draw < _MASKED + _RANDOM],
            [np.full(len(chosen), self.mask_id), substitutes],
            labels[chosen],
        )
        return masked, labels


def _chosen(words: np.ndarray, share: float, whole_words: bool, rng: np.random.Generator) -> np.ndarray:
    """The positions to predict: the share of the tokens, rounded, but at least one where there is any.

    Whole words are taken in random order, except those with more pieces than are still to choose; where every word has
    too many pieces, the first is taken.
    """
    real = np.flatnonzero(words != NO_WORD)
    if not len(real):
        return real
    count = max(1, round(share * len(real)))
    if not whole_words:
        return rng.permutation(real)[:count]
    taken: list[int] = []
    order = rng.permutation(np.unique(words[real]))
    pieces = {word: np.flatnonzero(words == word).tolist() for word in order}
    for word in order:
        if len(taken) + len(pieces[word]) <= count:
            taken += pieces[word]
        if len(taken) == count:
            break
    return np.array(taken or pieces[order[0]])
