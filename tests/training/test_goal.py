"""When a run evaluates, saves, calls something the best, and gives up: small pure functions."""

import math

import pytest

from bertjax.errors import ConfigError
from bertjax.training.loop.early_stopping import Goal, Standing, check_metric, choose_goal
from bertjax.training.loop.eval_schedule import rhythm
from bertjax.training.settings.options import Checkpointing, EarlyStopping, Evaluation


def judged(goal, *values):
    standing = Standing()
    for step, value in enumerate(values, start=1):
        standing = goal.judge(standing, step, {"epoch": step, goal.metric or "validation/accuracy": value})
    return standing


def test_the_best_is_the_first_of_equals_and_never_a_nan():
    assert judged(Goal("x", "max"), 0.5, 0.7, 0.7, 0.6) == Standing(2, -0.7, 2)
    assert judged(Goal("x", "min"), 0.5, 0.7, 0.4) == Standing(3, 0.4, 0)
    assert judged(Goal("x", "max"), math.nan, math.inf, 0.1, math.nan) == Standing(3, -0.1, 1)
    assert judged(Goal("x", "max", min_improvement=0.05), 0.5, 0.54, 0.56) == Standing(3, -0.56, 0)


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
    assert judged(Goal(metric, mode), 0.5, 0.7).best_step == best_step


def test_a_row_without_the_metric_changes_nothing():
    standing = Standing(1, 0.5, 1)
    assert Goal("validation/accuracy").judge(standing, 9, {"epoch": 1.5, "epoch/train_loss": 0.1}) == standing


def test_patience_counts_evaluations_since_the_best():
    patient = Goal("x", "max", patience=2)
    assert not patient.given_up(judged(patient, 0.5, 0.4))
    assert patient.given_up(judged(patient, 0.5, 0.4, 0.4))
    assert not Goal("x", "max").given_up(judged(patient, 0.5, 0.4, 0.4, 0.4))


def test_a_goal_needs_rows_to_be_judged_on():
    assert choose_goal(Evaluation(), EarlyStopping(patience=3), validates=True) == Goal(patience=3)
    assert choose_goal(Evaluation(), EarlyStopping(), validates=False) is None
    loss = Evaluation(best_metric="epoch/train_loss", final_weights="best")
    assert choose_goal(loss, EarlyStopping(patience=1), validates=False) == Goal("epoch/train_loss", patience=1)
    for evaluation, early_stopping, wanted in (
        (Evaluation(best_metric="validation/accuracy"), EarlyStopping(), "--best-metric validation/accuracy"),
        (Evaluation(), EarlyStopping(patience=1), "--patience"),
        (Evaluation(final_weights="best"), EarlyStopping(), "--final-weights best"),
    ):
        with pytest.raises(ConfigError, match=f"^{wanted} needs --validation rows; without them there is"):
            choose_goal(evaluation, early_stopping, validates=False)


def test_an_unknown_metric_is_told_the_known_ones():
    reported = ["validation/accuracy", "validation/class/bad/f1", "epoch/train_loss"]
    check_metric(Goal("validation/class/bad/f1"), reported)
    with pytest.raises(ConfigError, match="not report 'validation/f2'; there are validation/accuracy, epoch/train_los"):
        check_metric(Goal("validation/f2"), reported)


def test_steps_and_epochs_give_the_rhythm():
    def due(step, **settings):
        evaluation = Evaluation(**{key: value for key, value in settings.items() if key.startswith("evaluate")})
        checkpointing = Checkpointing(**{key: value for key, value in settings.items() if key.startswith("save")})
        return rhythm(evaluation, checkpointing, steps_per_epoch=6, total_steps=20).due(step)

    assert due(6) == (True, True, True)
    assert due(6, evaluate_every=2, save_every=4, save_unit="steps") == (True, False, False)
    assert due(8, evaluate_every=4, evaluate_unit="steps", save_every=2) == (False, True, False)
    assert due(20, evaluate_every=3, save_every=3) == (False, True, True)  # the end
