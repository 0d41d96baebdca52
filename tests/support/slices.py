"""Metrics of a few rows, and which rows are in a slice."""

import numpy as np
from sklearn.metrics import accuracy_score, f1_score


def weighted_of(labels, predictions):
    """The two metrics by scikit-learn, of rows that count as often as their weights say."""

    def weighted(weights, parts=False):
        def of(row, score, **options):
            return score(labels, predictions, sample_weight=row, **options) if row.any() else np.nan

        return {
            "accuracy": np.array([of(row, accuracy_score) for row in weights]),
            "f1_weighted": np.array([of(row, f1_score, average="weighted", zero_division=0) for row in weights]),
        }

    return weighted


def of_first(count, total):
    return np.arange(total) < count
