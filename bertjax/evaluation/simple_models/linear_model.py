"""A linear model of features, by scikit-learn: logistic regression of classes and labels, ridge regression of numbers.

The settings are fixed, so that the scores of two tables can be compared; none is fitted to a table.
"""

import logging
import warnings
from typing import Any

import numpy as np

from bertjax.evaluation.simple_models.simple_model import Problem, log_odds, log_probabilities

logger = logging.getLogger(__name__)

_MOST_STEPS = 1000  # of the solver lbfgs
# C: scikit-learn's 1 is for features of another scale, those here have length 1.
_INVERSE_PENALTY = 10.0


def linear_scores(problem: Problem, train: Any, test: Any, name: str) -> np.ndarray:
    """The scores of the test rows.

    Args:
      problem: the labels.
      train, test: features of the rows, [N, F] arrays or sparse matrices.
      name: of the model, for messages.
    """
    labels = problem.labels
    if problem.target == "numbers":
        from sklearn.linear_model import Ridge

        return Ridge().fit(train, labels).predict(test).reshape(-1, labels.shape[1]).astype(np.float32)
    if problem.target == "class":
        return log_probabilities(_probabilities(train, labels, test, problem.num_classes, name))
    of_labels = [_probabilities(train, column, test, 2, name)[:, 1] for column in labels.astype(np.int32).T]
    return log_odds(np.stack(of_labels, axis=1))


def _probabilities(train: Any, labels: np.ndarray, test: Any, num_classes: int, name: str) -> np.ndarray:
    """[N, L] the probability of each class; of a label that all training rows have, or none, it is certain."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    found = np.unique(labels)
    probabilities = np.zeros((test.shape[0], num_classes))
    if len(found) == 1:
        probabilities[:, found[0]] = 1
        return probabilities
    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told below
        model.fit(train, labels)
    if model.n_iter_.max() >= _MOST_STEPS:
        logger.warning("the logistic regression of %s has not converged in %d steps", name, _MOST_STEPS)
    probabilities[:, model.classes_] = model.predict_proba(test)
    return probabilities
