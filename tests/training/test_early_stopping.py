"""When a run evaluates and saves, which evaluation is the best, and when it stops early."""

import math

import pytest

from bertjax.errors import ConfigError
from bertjax.training.loop.early_stopping import BestMetric, BestSoFar, check_metric, choose_best_metric
from bertjax.training.loop.eval_schedule import eval_schedule
from bertjax.training.settings.options import Checkpointing, EarlyStopping, Evaluation


def best_of(best_metric, *values):
    """The best after an evaluation of each value."""
    best = BestSoFar()
    for step, value in enumerate(values, start=1):
        best = best_metric.update(best, step, {"epoch": step, best_metric.metric or "validation/accuracy": value})
    return best


def test_the_best_is_the_first_of_equals_and_never_a_nan():
    assert best_of(BestMetric("x", "max"), 0.5, 0.7, 0.7, 0.6) == BestSoFar(2, -0.7, 2)
    assert best_of(BestMetric("x", "min"), 0.5, 0.7, 0.4) == BestSoFar(3, 0.4, 0)
    assert best_of(BestMetric("x", "max"), math.nan, math.inf, 0.1, math.nan) == BestSoFar(3, -0.1, 1)
    assert best_of(BestMetric("x", "max", min_improvement=0.05), 0.5, 0.54, 0.56) == BestSoFar(3, -0.56, 0)


@pytest.mark.parametrize(
    ("metric", "mode", "best_step"),
    [
        ("epoch/train_loss", "auto", 1),
        ("validation/mean_absolute_error", "auto", 1),
        ("validation/mse", "auto", 1),
        ("validation/f1_macro", "auto", 2),
        ("validation/f1_macro", "min", 1),
        (None, "auto", 2),
    ],
)
def test_whether_more_is_better(metric, mode, best_step):
    assert best_of(BestMetric(metric, mode), 0.5, 0.7).best_step == best_step


def test_a_row_without_the_metric_changes_nothing():
    best = BestSoFar(1, 0.5, 1)
    assert BestMetric("validation/accuracy").update(best, 9, {"epoch": 1.5, "epoch/train_loss": 0.1}) == best


def test_patience_counts_evaluations_since_the_best():
    patient = BestMetric("x", "max", patience=2)
    assert not patient.out_of_patience(best_of(patient, 0.5, 0.4))
    assert patient.out_of_patience(best_of(patient, 0.5, 0.4, 0.4))
    assert not BestMetric("x", "max").out_of_patience(best_of(patient, 0.5, 0.4, 0.4, 0.4))


def test_best_metric_and_patience_need_validation_rows():
    assert choose_best_metric(Evaluation(), EarlyStopping(patience=3), validates=True) == BestMetric(patience=3)
    assert choose_best_metric(Evaluation(), EarlyStopping(), validates=False) is None
    loss = Evaluation(best_metric="epoch/train_loss", final_weights="best")
    assert choose_best_metric(loss, EarlyStopping(patience=1), validates=False) == BestMetric(
        "epoch/train_loss", patience=1
    )
    for evaluation, early_stopping, flag in (
        (Evaluation(best_metric="validation/accuracy"), EarlyStopping(), "--best-metric validation/accuracy"),
        (Evaluation(), EarlyStopping(patience=1), "--patience"),
        (Evaluation(final_weights="best"), EarlyStopping(), "--final-weights best"),
    ):
        with pytest.raises(ConfigError, match=f"^{flag} needs --validation rows; without them there is"):
            choose_best_metric(evaluation, early_stopping, validates=False)


def test_an_unknown_best_metric_names_the_reported_ones():
    reported = ["validation/accuracy", "validation/class/bad/f1", "epoch/train_loss"]
    check_metric(BestMetric("validation/class/bad/f1"), reported)
    with pytest.raises(ConfigError, match="not report 'validation/f2'; there are validation/accuracy, epoch/train_los"):
        check_metric(BestMetric("validation/f2"), reported)


def test_epochs_and_steps_set_the_schedule():
    def events(step, **settings):
        evaluation = Evaluation(**{key: value for key, value in settings.items() if key.startswith("evaluate")})
        checkpointing = Checkpointing(**{key: value for key, value in settings.items() if key.startswith("save")})
        schedule = eval_schedule(evaluation, checkpointing, steps_per_epoch=6, planned_steps=20)
        return schedule.ends_epoch(step), schedule.evaluates(step), schedule.saves(step)

    assert events(6) == (True, True, True)
    assert events(6, evaluate_every=2, save_every=4, save_unit="steps") == (True, False, False)
    assert events(8, evaluate_every=4, evaluate_unit="steps", save_every=2) == (False, True, False)
    assert events(20, evaluate_every=3, save_every=3) == (False, True, True)  # the end
