"""Samples of large tables: as many rows as asked for, each as likely, the same from the same seed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bertjax.data.table import Table
from bertjax.eda import sampled_table
from bertjax.eda.sampled_table import ALL_ROWS, read_sampled
from bertjax.errors import DataError
from bertjax.tasks import find_format

CLASSIFICATION = find_format("classification")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    pd.DataFrame({"text": [f"text {i}" for i in range(500)], "label": "x"}).to_csv(path, index=False)
    return Table(str(path))


def read(table, most_rows, seed=0):
    return read_sampled(table, table.train, CLASSIFICATION, most_rows, seed)


def test_a_sample_has_rows_of_the_table_in_their_order(table):
    sample = read(table, 40)
    assert (len(sample.frame), sample.num_rows, sample.is_sample) == (40, 500, True)
    assert (np.diff(sample.numbers) > 0).all()
    assert sample.frame["text"].tolist() == [f"text {number}" for number in sample.numbers]


def test_a_small_table_is_read_as_it_is(table):
    for most in (500, ALL_ROWS):
        sample = read(table, most)
        assert sample.frame["text"].tolist() == [f"text {i}" for i in range(500)]
        assert not sample.is_sample


@pytest.mark.parametrize("frame_rows", [1, 7, 60, 499])
def test_a_sample_does_not_depend_on_frames(table, monkeypatch, frame_rows):
    whole = read(table, 40, seed=3)
    monkeypatch.setattr(sampled_table, "_FRAME_ROWS", frame_rows)
    sample = read(table, 40, seed=3)
    assert sample.numbers.tolist() == whole.numbers.tolist()
    assert sample.frame.equals(whole.frame)
    assert read(table, 40, seed=4).numbers.tolist() != whole.numbers.tolist()


def test_every_row_is_as_likely(table, monkeypatch):
    monkeypatch.setattr(sampled_table, "_FRAME_ROWS", 50)
    counts = sum(np.bincount(read(table, 50, seed).numbers, minlength=500).reshape(5, 100).sum(1) for seed in range(40))
    assert abs(counts / 2000 - 0.2).max() < 0.04  # 4.5 standard deviations


def test_fewer_rows_are_kept_where_they_are_long(table, monkeypatch):
    monkeypatch.setattr(sampled_table, "MOST_CHARACTERS", 100)
    sample = read(table, 400)
    assert 1 <= len(sample.frame) <= 12
    assert sample.frame["text"].str.len().sum() <= 100
    monkeypatch.setattr(sampled_table, "MOST_CHARACTERS", 1)
    assert len(read(table, 400).frame) == 1


def test_several_files_need_the_same_columns(tmp_path):
    Path(tmp_path / "a.csv").write_text("text,label\na,x\n")
    Path(tmp_path / "b.csv").write_text("label,text\ny,b\n")
    sample = read(Table(str(tmp_path / "*.csv")), 10)
    assert sample.frame.to_dict("list") == {"text": ["a", "b"], "label": ["x", "y"]}
    Path(tmp_path / "c.csv").write_text("text\nc\n")
    with pytest.raises(DataError, match="it lacks 'label'"):
        read(Table(str(tmp_path / "*.csv")), 10)
