"""Append-only logs: torn tails of killed writers, readers beside a writer, offsets."""

import pytest

from bertjax.storage.append_only_log import AppendOnlyLog


@pytest.mark.parametrize("fsync", [False, True])
def test_entries_are_read_in_order_and_from_an_offset(tmp_path, fsync):
    log = AppendOnlyLog(tmp_path / "new" / "log.jsonl", fsync=fsync)
    assert list(log.entries()) == []
    for i in range(3):
        log.append({"i": i, "text": "µ"})
    ends = [end for _, end in log.lines()]
    assert ends[-1] == log.path.stat().st_size
    assert [entry["i"] for entry, _ in log.lines(ends[0])] == [1, 2]
    assert list(log.lines(ends[-1])) == []


def test_a_torn_tail_is_ignored_by_readers_and_cut_off_by_the_next_writer(tmp_path):
    log = AppendOnlyLog(tmp_path / "log.jsonl")
    log.append({"i": 0})
    with log.path.open("a") as file:
        file.write('{"i": 1')
    torn = log.path.read_bytes()
    writer, reader = AppendOnlyLog(log.path), AppendOnlyLog(log.path)
    assert list(reader.entries()) == [{"i": 0}]
    assert log.path.read_bytes() == torn  # it may be a line that a writer has not ended yet
    writer.append({"i": 2})
    assert list(reader.entries()) == [{"i": 0}, {"i": 2}]
