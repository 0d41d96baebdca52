"""A journal loses no event and repeats none, wherever the process before was killed."""

import json

import pytest

from bertjax.tracking.event_log import EventLog
from bertjax.tracking.system_metrics import SystemMetrics


def steps(journal, limit=100):
    return [event["step"] for event in journal.unsent(limit).events]


def test_events_wait_until_they_are_acknowledged(tmp_path):
    journal = EventLog(tmp_path / "run" / "tracking.jsonl")
    for step in range(1, 6):
        journal.record_metrics({"loss": 1 / step}, step, 0)
    first = journal.unsent(3)
    assert [event["step"] for event in first.events] == [1, 2, 3]
    journal.acknowledge(first.end)
    assert steps(journal) == [4, 5]
    again = EventLog(journal.path)
    assert steps(again) == [4, 5]
    assert again.unsent(1).events == [{"metrics": {"loss": 0.25}, "step": 4, "time_ms": 0}]
    again.acknowledge(again.unsent(100).end)
    assert steps(again) == steps(EventLog(journal.path)) == []


def test_a_step_that_is_repeated_is_recorded_once(tmp_path):
    journal = EventLog(tmp_path / "tracking.jsonl")
    for step in range(1, 6):
        journal.record_metrics({"loss": 1.0}, step, 0)
    resumed = EventLog(journal.path)
    for step in range(3, 8):
        resumed.record_metrics({"loss": 1.0, **({"accuracy": 0.5} if step == 5 else {})}, step, 1)
    assert steps(resumed) == [1, 2, 3, 4, 5, 5, 6, 7]
    assert resumed.unsent(100).events[5] == {"metrics": {"accuracy": 0.5}, "step": 5, "time_ms": 1}


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_half_a_line_is_cut_off_and_the_next_one_stands_alone(tmp_path, cut):
    journal = EventLog(tmp_path / "tracking.jsonl")
    journal.record_metrics({"loss": 1.0}, 1, 0)
    journal.record_metrics({"loss": float("nan")}, 2, 0)
    journal.path.write_bytes(journal.path.read_bytes()[:-cut])
    again = EventLog(journal.path)
    assert steps(again) == [1]
    again.record_metrics({"loss": float("nan")}, 2, 0)
    assert steps(again) == [1, 2]
    assert len([json.loads(line) for line in journal.path.read_text().splitlines()]) == 2


def test_whose_journal_it_is(tmp_path):
    journal = EventLog(tmp_path / "tracking.jsonl")
    assert journal.identity == {}
    journal.identify(run_key="k")
    EventLog(journal.path).identify(run_id="7")
    assert EventLog(journal.path).identity == {"run_key": "k", "run_id": "7"}
    assert journal.unsent(10).events == []


def test_measurements_of_the_machine_go_on_counting_in_a_resumed_run(tmp_path):
    for _ in range(3):
        SystemMetrics(EventLog(tmp_path / "tracking.jsonl"), seconds_between=60).stop()  # measures when it stops
    journal = EventLog(tmp_path / "tracking.jsonl")
    assert steps(journal) == [0, 1, 2]
    measured = journal.unsent(1).events[0]["metrics"]
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage"} < set(measured)
