"""Parquet files of Hugging Face's `datasets` have integers for classes, and the names in the metadata of the schema.

The metadata are those that datasets 4.0.0 and, for the other nestings, 2.14 and 1.18 write.
"""

import json
import logging

import pyarrow as pa
import pytest
from pyarrow import parquet

from bertjax.data.read.content import Reading
from bertjax.data.read.sources import read_table
from bertjax.data.table import Table
from bertjax.errors import DataError
from tests.support.tables import splits_of

LABEL = {"names": ["neg", "pos", "so so"], "_type": "ClassLabel"}
TAG = {"names": ["O", "B-FILM", "I-FILM"], "_type": "ClassLabel"}
TEXT = {"dtype": "string", "_type": "Value"}
LISTS = {
    "4.0": {"feature": TAG, "_type": "List"},
    "2.14": {"feature": {**TAG, "id": None}, "length": -1, "id": None, "_type": "Sequence"},
    "1.18": [{**TAG, "num_classes": 3, "names_file": None, "id": None}],
}


@pytest.fixture
def write(tmp_path):
    """(columns, their features) -> the path of a parquet file."""

    def write(columns, features, name="t.parquet"):
        table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        parquet.write_table(table, tmp_path / name)
        return str(tmp_path / name)

    return write


def labels_of(path, task="classification", **settings):
    return splits_of(Table(path, test=path, leaks="report", **settings), task).train.labels


def test_classes_have_their_names(write, caplog):
    path = write({"text": ["a", "b", "c"], "label": [1, 0, 2]}, {"text": TEXT, "label": LABEL})
    with caplog.at_level(logging.INFO):
        assert labels_of(path) == ["pos", "neg", "so so"]
    said = f"{path}: the integers of column 'label' are read as its classes 'neg', 'pos', 'so so'"
    assert caplog.messages.count(said) == 2  # as training rows and as test rows


@pytest.mark.parametrize("tags", LISTS.values(), ids=LISTS)
def test_tags_have_their_names(write, tags):
    path = write({"tokens": [["a", "film"], ["so"]], "tags": [[1, 2], [0]]}, {"tokens": [TEXT], "tags": tags})
    settings = {"text": ("tokens",), "label": "tags"}
    assert labels_of(path, "token_classification", **settings) == [("B-FILM", "I-FILM"), ("O",)]


def test_the_ignore_mark_is_no_class(write):
    path = write({"tokens": [["a", "film"]], "tags": [[0, -100]]}, {"tags": LISTS["4.0"]})
    assert read_table(path, Reading(class_names=True)).frame["tags"].tolist() == [["O", -100]]


def test_lists_of_classes_have_their_names(write):
    features = {"text": TEXT, "labels": {"feature": LABEL, "_type": "Sequence"}}
    path = write({"text": ["a", "b"], "labels": [[0, 2], [1]]}, features)
    assert labels_of(path, "multi_label", label="labels") == [("neg", "so so"), ("pos",)]


def test_flags_stay_flags(write):
    flag = {"names": ["no", "yes"], "_type": "ClassLabel"}
    features = {"new": flag, "old": flag}
    path = write({"text": ["a", "b"], "new": [0, 1], "old": [1, 1]}, features)
    assert labels_of(path, "multi_label", labels=("new", "old")) == [("old",), ("new", "old")]


@pytest.mark.parametrize("cell", [-1, None])
def test_a_missing_class(write, cell):
    path = write({"text": ["a", "b", "c"], "label": [1, cell, 0]}, {"text": TEXT, "label": LABEL})
    with pytest.raises(DataError, match="row 2 has no label in column 'label'"):
        labels_of(path)
    assert labels_of(path, on_bad_row="skip") == ["pos", "neg"]


def test_a_class_without_a_name(write):
    path = write({"text": ["a", "b"], "label": [1, 3]}, {"text": TEXT, "label": LABEL})
    with pytest.raises(DataError, match="column 'label' holds 3, but the schema names classes 0 to 2$"):
        labels_of(path)


def test_numbers_stay_numbers_where_numbers_are_learned(write):
    path = write({"text": ["a", "b", "c"], "label": [1, 0, 2]}, {"text": TEXT, "label": LABEL})
    assert labels_of(path, "regression") == [(1.0,), (0.0,), (2.0,)]


@pytest.mark.parametrize(
    "metadata",
    [{}, {"huggingface": "no json"}, {"huggingface": "[]"}, {"huggingface": '{"info": {"features": {"label": 1}}}'}],
    ids=["none", "no json", "a list", "another description"],
)
def test_metadata_without_names(tmp_path, caplog, metadata):
    table = pa.table({"text": ["a", "b"], "label": [1, 0]}).replace_schema_metadata(metadata)
    parquet.write_table(table, tmp_path / "t.parquet")
    assert labels_of(str(tmp_path / "t.parquet")) == ["1", "0"]
    assert "classes" not in caplog.text


def test_integers_with_a_gap_keep_their_digits(tmp_path):
    parquet.write_table(pa.table({"text": ["a", "b", "c"], "label": [2**53 + 1, None, 2**53]}), tmp_path / "t.parquet")
    assert labels_of(str(tmp_path / "t.parquet"), on_bad_row="skip") == [str(2**53 + 1), str(2**53)]
