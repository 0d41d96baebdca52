"""An event log loses no event and repeats none, wherever the process before it was killed."""

import json

import pytest

from bertjax.tracking.event_log import EventLog
from bertjax.tracking.system_metrics import SystemMetrics


def steps(log, limit=None):
    return [event["step"] for event in log.pending(limit)[0]]


def test_events_are_pending_until_they_are_marked_as_sent(tmp_path):
    log = EventLog(tmp_path / "run" / "tracking.jsonl")
    for step in range(1, 6):
        log.record_metrics({"loss": 1 / step}, step, 0)
    first, end = log.pending(3)
    assert [event["step"] for event in first] == [1, 2, 3]
    log.mark_sent(end)
    assert steps(log) == [4, 5]
    again = EventLog(log.path)
    assert steps(again) == [4, 5]
    assert again.pending(1)[0] == [{"metrics": {"loss": 0.25}, "step": 4, "time_ms": 0}]
    again.mark_sent(again.pending(100)[1])
    assert steps(again) == steps(EventLog(log.path)) == []


def test_a_repeated_step_is_recorded_once(tmp_path):
    log = EventLog(tmp_path / "tracking.jsonl")
    for step in range(1, 6):
        log.record_metrics({"loss": 1.0}, step, 0)
    resumed = EventLog(log.path)
    for step in range(3, 8):
        resumed.record_metrics({"loss": 1.0, **({"accuracy": 0.5} if step == 5 else {})}, step, 1)
    assert steps(resumed) == [1, 2, 3, 4, 5, 5, 6, 7]
    assert resumed.pending(100)[0][5] == {"metrics": {"accuracy": 0.5}, "step": 5, "time_ms": 1}


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_line_is_ignored_and_cut_off_by_the_next_event(tmp_path, cut):
    log = EventLog(tmp_path / "tracking.jsonl")
    log.record_metrics({"loss": 1.0}, 1, 0)
    log.record_metrics({"loss": float("nan")}, 2, 0)
    log.path.write_bytes(log.path.read_bytes()[:-cut])
    again = EventLog(log.path)
    assert steps(again) == [1]
    again.record_metrics({"loss": float("nan")}, 2, 0)
    assert steps(again) == [1, 2]
    assert len([json.loads(line) for line in log.path.read_text().splitlines()]) == 2


def test_identity(tmp_path):
    log = EventLog(tmp_path / "tracking.jsonl")
    assert log.identity == {}
    log.record_identity(run_key="k")
    EventLog(log.path).record_identity(run_id="7")
    assert EventLog(log.path).identity == {"run_key": "k", "run_id": "7"}
    assert log.pending(10)[0] == []


def test_system_metrics_continue_the_count_in_a_resumed_run(tmp_path):
    for _ in range(3):
        SystemMetrics(EventLog(tmp_path / "tracking.jsonl"), seconds_between=60).stop()  # measures when it stops
    log = EventLog(tmp_path / "tracking.jsonl")
    assert steps(log) == [0, 1, 2]
    measured = log.pending(1)[0][0]["metrics"]
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage"} < set(measured)
