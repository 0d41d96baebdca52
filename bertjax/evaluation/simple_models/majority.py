"""The majority baseline: class shares, the mean of numbers, or the most frequent label of each word."""

from collections import Counter, defaultdict

import numpy as np

from bertjax.data.task_formats.token_format import NO_WORD
from bertjax.evaluation.simple_models.simple_model import Problem, log_odds, log_probabilities


def majority_scores(problem: Problem) -> np.ndarray:
    """The same answer for every row: the share of each class, or of the rows with each label, as its probability, or
    the mean of each number. For words see `_word_scores`."""
    if problem.target == "word_labels":
        return _word_scores(problem)
    if problem.target == "class":
        counts = np.bincount(problem.labels, minlength=problem.num_classes)
        answer = log_probabilities(counts / counts.sum())
    else:
        mean = problem.labels.mean(axis=0, dtype=np.float64)
        answer = log_odds(mean) if problem.target == "labels" else mean.astype(np.float32)
    return np.tile(answer, (problem.num_test, 1))


def _word_scores(problem: Problem) -> np.ndarray:
    """[total tokens, L]: at the first piece of each word the shares of its labels in the training rows; of a word that
    they do not have, those of all words. Of two labels as frequent, the first one in index order is given."""
    index = {name: i for i, name in enumerate(problem.names)}
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    rows = problem.train.rows
    for words, tags in zip(rows.texts, rows.labels, strict=True):
        for word, tag in zip(words, tags, strict=True):
            if tag is not None:
                counts[word][index[tag]] += 1
    shares = {word: _shares(of_word, len(index)) for word, of_word in counts.items()}
    of_all = _shares(sum(counts.values(), Counter()), len(index))
    examples = problem.test.examples
    assert examples.row_of is not None, "sentences are cut into examples"
    sentence_of = np.repeat(examples.row_of, examples.lengths)
    scores = np.zeros((len(sentence_of), len(index)), np.float32)
    for token in np.flatnonzero(examples.reference != NO_WORD):
        word = problem.test.rows.texts[sentence_of[token]][examples.reference[token]]
        scores[token] = shares.get(word, of_all)
    return scores


def _shares(counts: Counter[int], length: int) -> np.ndarray:
    of_labels = np.array([counts[i] for i in range(length)], np.float64)
    return log_probabilities(of_labels / of_labels.sum())
