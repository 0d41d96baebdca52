"""Masking: which tokens of a text are hidden in an epoch, a pure function of the seed, the epoch and the text's number.

Of the tokens to predict, 80% become `[MASK]`, 10% a random word piece, and 10% stay (BERT, section 3.1, task 1).
"""

from typing import NamedTuple

import numpy as np

from bertjax.batch import UNLABELLED

_MASKED, _RANDOM = 0.8, 0.1  # shares of the tokens to predict
NO_WORD = -1  # what has no word, such as [CLS] and [SEP], is never hidden


class Hidden(NamedTuple):
    """A text with some of its tokens hidden.

    Attributes:
      token_ids: [T] int32.
      labels: [T] int32, what stood where a token is to be predicted, -100 elsewhere.
    """

    token_ids: np.ndarray
    labels: np.ndarray


class DynamicMasking(NamedTuple):
    """Hides other tokens in each epoch.

    Attributes:
      words: [total tokens] int32, the word that each token is a piece of, counted within its text; -1 for none.
      share: of a text's tokens that are predicted.
      whole_words: all pieces of a word, or none.
      mask_id: the index of `[MASK]`.
      replacements: the indices of the word pieces that may stand in for another.
      seed: of the choice.
    """

    words: np.ndarray
    share: float
    whole_words: bool
    mask_id: int
    replacements: np.ndarray
    seed: int

    def hide(self, token_ids: np.ndarray, tokens: slice, number: int, epoch: int) -> Hidden:
        """Hides tokens of one text.

        Args:
          token_ids: [T] of the text.
          tokens: where they stand in `words`.
          number: of the text.
          epoch: counted from 0.
        """
        rng = np.random.default_rng([self.seed, epoch, number])
        chosen = _chosen(self.words[tokens], self.share, self.whole_words, rng)
        labels = np.full(len(token_ids), UNLABELLED, np.int32)
        labels[chosen] = token_ids[chosen]
        fate = rng.random(len(chosen))
        substitutes = rng.choice(self.replacements, len(chosen))
        hidden = token_ids.copy()
        hidden[chosen] = np.select(
            [fate < _MASKED, fate < _MASKED + _RANDOM],
            [np.full(len(chosen), self.mask_id), substitutes],
            labels[chosen],
        )
        return Hidden(hidden, labels)


def _chosen(words: np.ndarray, share: float, whole_words: bool, rng: np.random.Generator) -> np.ndarray:
    """The positions to predict: the share of the tokens, rounded, but at least one.

    Whole words are taken in random order, those left out whose pieces are more than what is still wanted; where every
    word has too many pieces, the first is taken.
    """
    real = np.flatnonzero(words != NO_WORD)
    wanted = max(1, round(share * len(real)))
    if not whole_words:
        return rng.permutation(real)[:wanted]
    taken: list[int] = []
    order = rng.permutation(np.unique(words[real]))
    pieces = {word: np.flatnonzero(words == word).tolist() for word in order}
    for word in order:
        if len(taken) + len(pieces[word]) <= wanted:
            taken += pieces[word]
        if len(taken) == wanted:
            break
    return np.array(taken or pieces[order[0]])
