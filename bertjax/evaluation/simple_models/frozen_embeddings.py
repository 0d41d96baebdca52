"""Frozen embeddings: the vectors of a checkpoint that was not fine-tuned, and a linear model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bertjax.config import read_config_json
from bertjax.data.rows.labelled_rows import Rows
from bertjax.evaluation.simple_models.linear_model import linear_scores
from bertjax.evaluation.simple_models.simple_model import Problem
from bertjax.model_folder.stored_settings import says_pooling, stored_task
from bertjax.pretrained.files import resolve_model
from bertjax.tasks import find_vectors

if TYPE_CHECKING:
    from bertjax.inference.predictor import Predictor


def check_checkpoint(name: str) -> None:
    """Checks that a checkpoint gives vectors.

    Raises:
      AssetError: there is none of that name.
      ConfigError: it reads tokens.
    """
    find_vectors(stored_task(read_config_json(resolve_model(name))))


def embedding_scores(problem: Problem) -> np.ndarray:
    """The scores of the test rows. Vectors are pooled as the checkpoint says, by the mean where it does not, and have
    length 1. Of a pair they are [a, b, |a - b|, a * b] (Conneau et al. 2017)."""
    from bertjax.inference.predictor import Predictor

    stored = read_config_json(resolve_model(problem.checkpoint))
    predictor = Predictor.load(problem.checkpoint, pooling=None if says_pooling(stored) else "mean")
    train, test = (_features(predictor, side.rows) for side in (problem.train, problem.test))
    return linear_scores(problem, train, test, "embeddings")


def _features(predictor: "Predictor", rows: Rows) -> np.ndarray:
    texts = _vectors(predictor, rows.texts)
    if rows.pairs is None:
        return texts
    pairs = _vectors(predictor, rows.pairs)
    return np.concatenate([texts, pairs, np.abs(texts - pairs), texts * pairs], axis=1)


def _vectors(predictor: "Predictor", texts: Sequence[Any]) -> np.ndarray:
    """[N, D] float64, in which scikit-learn's solver converges sooner."""
    return predictor.embed(texts).astype(np.float64)
