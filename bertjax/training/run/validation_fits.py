"""What is fitted on the validation rows after training: the temperature of the probabilities, and the threshold of a
fallback, which is only reported."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bertjax.data.encode.examples import Examples
from bertjax.evaluation.calibration import fitted_fallback
from bertjax.metrics.fallback import Threshold
from bertjax.metrics.reliability import calibrated, fit_temperature
from bertjax.tasks import Model, find_evaluator, find_task

logger = logging.getLogger(__name__)


class ValidationFits(NamedTuple):
    """What validation rows say.

    Attributes:
      temperature: of the model's probabilities; 1 where there is nothing to fit it on.
      threshold: of a fallback; None where none can be had.
    """

    temperature: float = 1.0
    threshold: Threshold | None = None

    def metrics(self) -> dict[str, float]:
        """The threshold and what it does on the validation rows, by flat keys; empty where none helps. They are no
        scores of an evaluation, so they are not among those of `validation/`, by which runs are compared."""
        fitted = self.threshold
        if fitted is None or fitted.value is None:
            return {}
        values = {"threshold": fitted.value, "f1_macro": fitted.f1_macro, "kept_share": fitted.kept}
        return {f"fitted/fallback/{key}": value for key, value in values.items()}


def fit_on(examples: Examples, model: Model, score: Callable[[Examples], np.ndarray]) -> ValidationFits:
    """Fits what a task has of temperature and threshold, and logs both.

    Args:
      examples: the validation rows.
      model: the trained one.
      score: examples -> the scores of the final weights (`Task.scores`).
    """
    to_probabilities = find_task(model.task).probabilities
    if to_probabilities is None:
        return ValidationFits()
    scores, labels = score(examples), examples.labels
    fitted = fit_temperature(scores, labels)
    if fitted is None:
        logger.info("the probabilities have no temperature: the %d validation rows do not tell one", len(labels))
    else:
        logger.info("the probabilities have temperature %g, fitted on %d validation rows", fitted, len(labels))
    temperature = fitted or 1.0
    report = find_evaluator(model.task)(scores, examples, model.labels)
    threshold = fitted_fallback(report, to_probabilities(calibrated(scores, temperature)), labels)
    if threshold is not None and threshold.value is not None:
        logger.info("%s", threshold.advice("the validation rows"))
    return ValidationFits(temperature, threshold)
