"""What a trial reports to Ray Tune: each evaluation once, in order, and the last one when the run has ended."""

import json

import pytest

from bertjax.sweeps import trial
from bertjax.sweeps.trial import TuneReporter, read_evaluations
from bertjax.training.loop.early_stopping import BestMetric


@pytest.fixture
def reports(monkeypatch):
    """(score, number of evaluations) of each report."""
    reports = []
    monkeypatch.setattr(trial, "_report", lambda values, count: reports.append((values["score"], count)))
    return reports


def test_each_evaluation_is_reported_once_and_the_last_one_by_flush(reports):
    reporter = TuneReporter(BestMetric(), num_evaluations=3, already_reported=0)
    for step in (5, 10, 5, 10, 15):  # a resumed run repeats steps
        reporter.add(step, {"train/loss": 1.0})
        reporter.add(step, {"epoch": 1.0, "validation/accuracy": step / 100})
    assert reports == [(0.05, 1), (0.1, 2)]
    for _ in range(2):
        reporter.flush()
    assert reports == [(0.05, 1), (0.1, 2), (0.15, 3)]


@pytest.mark.parametrize("already_reported", [1, 3])
def test_a_restarted_trial_reports_what_ray_does_not_have(reports, already_reported):
    reporter = TuneReporter(BestMetric(), num_evaluations=3, already_reported=already_reported)
    for step in (5, 10, 15):
        reporter.add(step, {"validation/accuracy": step / 100})
    reporter.flush()
    assert [count for _, count in reports] == list(range(already_reported + 1, 4))


def test_evaluations_are_read_from_the_event_log(tmp_path):
    assert read_evaluations(tmp_path, BestMetric()) == []
    rows = [{"train/loss": 1.0}, {"validation/f1": 0.5, "validation/loss": 2.0}, {"system/cpu": 1.0}]
    events = [{"metrics": row, "step": step, "time_ms": 0} for step, row in enumerate(rows)]
    (tmp_path / "tracking.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + '{"sent"')
    assert read_evaluations(tmp_path, BestMetric()) == [(1, rows[1])]
