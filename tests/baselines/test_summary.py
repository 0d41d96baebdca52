"""The summary of a comparison, from results whose predictions are known, and its page."""

import re

import numpy as np
import pytest

from bertjax.baselines.compare.agreement import agreement
from bertjax.baselines.compare.comparison_report import console_table, render_comparison
from bertjax.baselines.compare.summary import Failure, summarise
from bertjax.baselines.runners.runner_result import RunResult, read_result, write_result
from bertjax.errors import RunFolderError
from bertjax.tasks import Metric

ANSWERS = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 5.0]])


def result(framework, seed, score=0.9, seconds=10.0, answers=ANSWERS, losses=(1.0, 0.5), task="classification"):
    trained = bool(len(losses))
    counts = {"examples": 400, "real_tokens": 6000, "computed_tokens": 8000, "seconds": seconds}
    measured = {
        "memory_before_bytes": 2**20, "memory_peak_bytes": 3 * 2**20,
        "evaluation_seconds": 2.0, "evaluation_examples": 4,
        **({"seconds_to_first_step": 3.0, **counts} if trained else {}),
    }  # fmt: skip
    metrics = {"test/f1_macro": score, "test/accuracy": score + 0.01, "test/class/a/f1": 0.1}
    return RunResult(
        framework, seed, task, ("a", "b"), metrics, measured, "cpu", {"jax": "1"}, {},
        np.asarray(losses, float), np.asarray(answers, np.float32), np.arange(5),
    )  # fmt: skip


def summary_of(results, failures=(), dropout=True):
    names = list(dict.fromkeys(result.framework for result in results))
    return summarise(results, failures, names, Metric("f1_macro"), dropout)


def test_scores_speeds_and_verdicts_of_frameworks_and_pairs():
    other = np.array(ANSWERS[:, ::-1])
    other[0] = ANSWERS[0]
    results = [result("jax", seed, 0.90 + seed / 100, seconds=5.0) for seed in range(5)]
    results += [result("torch", seed, 0.89 + seed / 100, answers=other) for seed in range(4)]
    summary = summary_of(results, [Failure("torch", 4, "out of memory")])
    jax, torch = summary.sides
    assert jax.scores["f1_macro"] == pytest.approx((0.92, np.std([0, 0.01, 0.02, 0.03, 0.04], ddof=1)))
    assert "class/a/f1" not in jax.scores
    assert (jax.examples_per_second, jax.real_tokens_per_second, jax.padding_share) == (80, 1200, 0.25)
    assert (jax.peak_bytes, jax.answers_per_second, jax.own_agreement) == (2 * 2**20, 2.0, 1.0)
    assert torch.seeds == (0, 1, 2, 3)
    (pair,) = summary.pairs
    assert pair.differences["f1_macro"].mean == pytest.approx(0.01)  # of the seeds that both have
    assert pair.verdicts["f1_macro"] == "too few seeds to tell (4 of 5)"
    assert (pair.agreement, pair.speed_ratio, pair.trajectory) == (0.25, 2.0, None)
    flat = summary.flat()
    assert flat["jax-torch/f1_macro_difference"] == pytest.approx(0.01)
    assert flat["jax/f1_macro_mean"] == pytest.approx(0.92)


@pytest.mark.parametrize(("named", "expected"), [("f1_macro", "f1_macro"), ("f1", "accuracy")])
def test_the_verdict_goes_by_the_metric_that_was_reported(named, expected):
    """Words whose labels mark no entities have no entities' F1."""
    results = [result(name, 0) for name in ("jax", "torch")]
    summary = summarise(results, (), ("jax", "torch"), Metric(named, otherwise="accuracy"), dropout=True)
    assert summary.metric == expected
    assert expected in summary.pairs[0].verdicts


def test_loss_trajectories_only_for_the_same_examples_without_dropout():
    losses = {"jax": np.ones(30), "torch": np.ones(30) + 1e-6, "trainer": np.ones(30)}
    results = [result(name, 0, losses=values) for name, values in losses.items()]
    torch, trainer = summary_of(results, dropout=False).pairs
    assert torch.distance(20) == pytest.approx(1e-6, rel=1e-3)
    assert torch.distance(100) is None
    assert trainer.trajectory is None  # it shuffles by itself
    assert all(pair.trajectory is None for pair in summary_of(results, dropout=True).pairs)


def test_a_framework_that_only_predicts_has_no_training_speed():
    summary = summary_of([result("jax", 0), result("onnx", 0, losses=())], dropout=False)
    assert summary.sides[1].examples_per_second is None
    assert summary.pairs[0].speed_ratio is None
    assert "onnx/answers_per_second" in summary.flat()


@pytest.mark.parametrize(
    ("task", "left", "right", "expected"),
    [
        ("multi_label", [[1, -1], [1, 1]], [[2, -3], [1, -1]], 0.5),
        ("regression", [[1], [2], [3]], [[2], [4], [6]], 1.0),
        ("regression", [[1], [1]], [[1], [2]], 0.0),
        # Two rows of two tokens: (first, last) of the second row differ in the last.
        ("question_answering", [[1, 0], [0, 1], [1, 0], [0, 1]], [[1, 0], [0, 1], [1, 1], [0, 0]], 0.5),
        ("token_classification", [[1, 0], [0, 1]], [[1, 0], [1, 0]], 0.5),
    ],
)
def test_agreement_by_task(task, left, right, expected):
    pair = [
        result("jax", 0, answers=answers, task=task)._replace(offsets=np.array([0, 2, 4])) for answers in (left, right)
    ]
    assert agreement(*pair) == pytest.approx(expected)


def test_result_round_trip_and_unreadable_result(tmp_path):
    written = result("jax", 3)
    assert read_result(tmp_path) is None
    write_result(tmp_path, written)
    again = read_result(tmp_path)
    assert again._replace(losses=0, answers=0, offsets=0) == written._replace(losses=0, answers=0, offsets=0)
    for name in ("losses", "answers", "offsets"):
        np.testing.assert_array_equal(getattr(again, name), getattr(written, name))
    (tmp_path / "arrays.npz").write_bytes(b"half")
    with pytest.raises(RunFolderError, match="delete the folder, and --resume runs it again"):
        read_result(tmp_path)


def test_report_page_is_self_contained():
    results = [result("jax", 0, losses=np.ones(30)), result("torch", 0, losses=np.ones(30) + 1e-6)]
    summary = summary_of(results, [Failure("trainer", 0, "<killed>")], dropout=False)
    page = render_comparison("m on t", summary, results, {"epochs": 3})
    assert "JAX against PyTorch: too few seeds to tell (1 of 5)" in page
    assert "trainer, seed 0: &lt;killed&gt;" in page
    assert page.count("<svg") == 4
    assert "1.0e-06" in page
    assert not re.search(r"(src|href)=\"http", page)
    table = console_table(summary)
    assert [str(cell) for cell in table.columns[0].cells] == ["JAX", "PyTorch"]
    assert "no framework" in render_comparison("m on t", summary_of([], [Failure("jax", 0, "x")]), [], {})
