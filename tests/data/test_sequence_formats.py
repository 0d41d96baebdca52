"""Several labels a row, and numbers: what a table says reaches the examples, and what it gets wrong is told."""

import json

import numpy as np
import pandas as pd
import pytest

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import DataError
from bertjax.tasks import find_format
from tests.support.tables import splits_of


@pytest.fixture
def write(tmp_path):
    def write(name, rows):
        path = tmp_path / name
        if name.endswith(".csv"):
            pd.DataFrame(rows).to_csv(path, index=False)
        elif name.endswith(".parquet"):
            pd.DataFrame(rows).to_parquet(path)
        else:
            path.write_text("\n".join(json.dumps(row) for row in rows))
        return str(path)

    return write


def films(labels, column="labels"):
    return [{"text": f"film {i}", column: label} for i, label in enumerate(labels)]


def labels_of(task, table):
    return sorted(splits_of(table, task).train.labels)


THREE = [("dull",), ("dull", "long"), (), ("long",), ("dull",), ("long", "dull")]


def test_lists_delimiters_and_columns_say_the_same(write):
    lists = films(map(list, THREE))
    text = films([" ; ".join(labels) for labels in THREE])
    flags = [{"text": f"film {i}", "dull": int("dull" in of), "long": int("long" in of)} for i, of in enumerate(THREE)]
    tables = [
        Table(write("t.jsonl", lists)),
        Table(write("t.parquet", lists)),
        Table(write("json.csv", films([json.dumps(labels) for labels in THREE]))),
        Table(write("t.csv", text), label_delimiter=";"),
        Table(write("flags.csv", flags), labels=("dull", "long")),
    ]
    for table in tables:
        splits = splits_of(table, "multi_label")
        assert splits.vocabulary == ("dull", "long")
        by_text = dict(zip(splits.train.texts, map(set, splits.train.labels), strict=True))
        assert by_text == {f"film {i}": set(THREE[i]) for i in range(6) if f"film {i}" in by_text}
        assert len(by_text) == 5


def test_multi_label_encoding_is_multi_hot(write, tiny_model):
    table = Table(write("t.jsonl", films(map(list, THREE))), test_size=2)
    splits = splits_of(table, "multi_label")
    encoding = Encoding(load_tokenizer(tiny_model), splits.vocabulary, 16, splits.table)
    examples = find_format("multi_label").encode(splits.train, "t", encoding)
    expected = [[float(name in labels) for name in ("dull", "long")] for labels in splits.train.labels]
    assert examples.labels.tolist() == expected


def test_a_split_leaves_each_label_in_training(write):
    """A random split would hold out the only row of a label for some seeds."""
    rows = films([["a"]] * 9 + [["rare"]])
    for seed in range(10):
        splits = splits_of(Table(write("t.jsonl", rows), split_seed=seed), "multi_label")
        assert ("rare",) in splits.train.labels
        assert len(splits.train.labels) + len(splits.test.labels) == 10


def test_regression_labels_are_not_rescaled(write, tiny_model):
    rows = [{"text": f"film {i}", "stars": i / 2, "length": f"{i}e1"} for i in range(5)]
    splits = splits_of(Table(write("t.csv", rows), labels=("stars", "length"), test_size=1), "regression")
    assert splits.vocabulary == ("stars", "length")
    encoding = Encoding(load_tokenizer(tiny_model), splits.vocabulary, 16, splits.table)
    examples = find_format("regression").encode(splits.train, "t", encoding)
    numbers = [int(text.split()[1]) for text in splits.train.texts]
    np.testing.assert_allclose(examples.labels, [[i / 2, i * 10] for i in numbers])
    assert examples.labels.dtype == np.float32


def test_usual_columns_are_found_and_named_ones_win(write):
    scores = write("t.jsonl", [{"text": f"film {i}", "score": i, "other": -i} for i in range(5)])
    assert splits_of(Table(scores), "regression").table.label == "score"
    assert splits_of(Table(scores, label="other"), "regression").vocabulary == ("other",)
    with pytest.raises(DataError, match="no column 'label'; its columns are text, score, other"):
        splits_of(Table(scores), "classification")


@pytest.mark.parametrize(
    ("task", "labels", "settings", "message"),
    [
        ("multi_label", ["a|b", "a"], {}, r"row 1 holds 'a\|b' .* no list; .*--label-delimiter '\|' \(and 1 other"),
        ("multi_label", [["a"], 5], {}, "row 2 holds 5 in column 'labels', which is no list"),
        ("multi_label", [["a"], [1.5]], {}, "row 2 holds the label 1.5 in column 'labels', which is neither"),
        ("multi_label", [[], []], {}, "needs a label or more, the training rows of .* have none"),
        ("multi_label", [0, 2], {"labels": ("labels",)}, "row 2 holds 2 in column 'labels', which must say 0 or 1"),
        ("regression", ["1", "two"], {"label": "labels"}, "row 2 holds 'two' in column 'labels', which is no number"),
        ("regression", [1, True], {"label": "labels"}, "row 2 holds True in column 'labels', which is no number"),
        ("regression", [1, None], {"label": "labels"}, "row 2 has no number in column 'labels'"),
        ("regression", ["1", "nan"], {"label": "labels"}, "row 2 holds 'nan' in column 'labels', which is no number"),
    ],
)
def test_labels_that_cannot_be_used(write, task, labels, settings, message):
    with pytest.raises(DataError, match=message):
        splits_of(Table(write("t.jsonl", films(labels)), **settings), task)


def test_rows_that_cannot_be_used_are_skipped_counted_and_listed(write):
    path = write("t.jsonl", films([1, "x", 2, None, 3, 4]))
    splits = splits_of(Table(path, label="labels", on_bad_row="skip", test_size=1), "regression")
    (table,) = splits.data_report.tables
    assert (table.rows, [str(row) for row in table.skipped]) == (
        4,
        [f"{path}: row 2 holds 'x' in column 'labels', which is no number",
         f"{path}: row 4 has no number in column 'labels'"],
    )  # fmt: skip
    assert sorted(splits.train.labels + splits.test.labels) == [(1,), (2,), (3,), (4,)]
    with pytest.raises(DataError, match="has no row that can be used; the first is .* row 1 holds 'x'"):
        splits_of(Table(write("none.jsonl", films(["x"])), label="labels", on_bad_row="skip"), "regression")


def test_unseen_label_in_test_rows_is_an_error(write, tiny_model):
    train, test = write("a.jsonl", films([["a"], ["b"]])), write("b.jsonl", [{"text": "book", "labels": ["c"]}])
    splits = splits_of(Table(train, test=test), "multi_label")
    encoding = Encoding(load_tokenizer(tiny_model), splits.vocabulary, 16, splits.table)
    with pytest.raises(DataError, match="has labels that training never saw: 'c'; training has 'a', 'b'"):
        find_format("multi_label").encode(splits.test, test, encoding)


def test_groups_stay_aligned_when_rows_are_skipped(write):
    rows = [{"text": f"film {i}", "score": "x" if i == 3 else i, "user": f"u{i // 3}"} for i in range(12)]
    table = Table(write("t.csv", rows), split="grouped", group="user", on_bad_row="skip", test_size=3)
    splits = splits_of(table, "regression")
    train, test = ({int(text.split()[1]) // 3 for text in rows.texts} for rows in (splits.train, splits.test))
    assert not train & test
    assert len(splits.train.texts) + len(splits.test.texts) == 11
