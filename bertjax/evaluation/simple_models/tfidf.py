"""Bag of words: TF-IDF of words and pairs of neighbouring words, and a linear model."""

import numpy as np

from bertjax.data.rows.labelled_rows import Rows
from bertjax.evaluation.simple_models.linear_model import linear_scores
from bertjax.evaluation.simple_models.simple_model import Problem

# Every run of letters, digits and underscores, and every sign: `I`, `5` and `?` count, and no text is without one.
_WORD = r"\w+|[^\w\s]"


def tfidf_scores(problem: Problem) -> np.ndarray:
    """The scores of the test rows by scikit-learn's `TfidfVectorizer` of words and pairs of words, `1 + log(count)`,
    known from the training rows; both texts of a pair are read as one."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=_WORD)
    train = vectorizer.fit_transform(_joined(problem.train.rows))
    return linear_scores(problem, train, vectorizer.transform(_joined(problem.test.rows)), "tfidf")


def _joined(rows: Rows) -> list[str]:
    return rows.texts if rows.pairs is None else [f"{text} {pair}" for text, pair in rows.text_pairs()]
