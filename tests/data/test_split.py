"""Splits: which rows are on which side, that only values and seed decide it, and the log lines and errors."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bertjax.data.rows.label_vocabulary import row_labels
from bertjax.data.split import splitters
from bertjax.data.split.split_rows import leak_hashes
from bertjax.data.table import Table
from bertjax.errors import DataError, UserError
from tests.support.tables import rows_of, splits_of


def table_of(tmp_path, labels, columns=(), **settings):
    """A table of distinct texts."""
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(len(labels))], "label": labels, **dict(columns)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    return Table(str(tmp_path / "t.csv"), **settings)


def write(path, frame):
    pd.DataFrame(frame).to_csv(path, index=False)
    return str(path)


def numbers(rows):
    """Which rows of `table_of` these are."""
    return [int(text.split()[1]) for text in rows.texts]


def classes_of(labels):
    return row_labels([label] for label in labels).sorted_by_name()


def assert_whole(sides, total):
    assert sorted([*sides.train.tolist(), *sides.test.tolist()]) == list(range(total))


def assert_equal_sides(left, right):
    np.testing.assert_array_equal(left.train, right.train)
    np.testing.assert_array_equal(left.test, right.test)


def test_default_split_of_trec(catalog_assets):
    splits = splits_of(Table())
    assert (len(splits.train.texts), len(splits.test.texts), splits.data_report.duplicates) == (4881, 500, 10071)
    assert not set(splits.train.texts) & set(splits.test.texts)
    assert splits_of(Table()).test == splits.test


def test_stratified_keeps_the_shares_of_classes(tmp_path):
    splits = splits_of(table_of(tmp_path, ["x"] * 80 + ["y"] * 20))
    assert (splits.test.labels.count("x"), splits.test.labels.count("y")) == (16, 4)


@pytest.mark.parametrize("split", ["stratified", "grouped", "kfold"])
def test_the_seed_decides_and_nothing_else(tmp_path, split):
    labels, columns = ["x", "y"] * 30, {"user": [f"u{i % 20}" for i in range(60)]}
    settings = {"split": split, "group": "user" if split == "grouped" else None}
    first, again, other = (
        splits_of(table_of(tmp_path, labels, columns, split_seed=seed, **settings)) for seed in (1, 1, 2)
    )
    assert (first.train, first.test) == (again.train, again.test)
    assert first.test.texts != other.test.texts


def test_a_table_can_have_any_index(tmp_path):
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(40)], "label": ["x", "y"] * 20, "when": range(40)})
    frame["user"] = frame["when"] % 10
    tables = []
    for name, index in (("a", range(40)), ("b", [7] * 40)):
        frame.set_axis(index).to_parquet(tmp_path / f"{name}.parquet")
        tables.append(str(tmp_path / f"{name}.parquet"))
    for settings in ({}, {"split": "grouped", "group": "user"}, {"split": "time", "time": "when"}, {"split": "kfold"}):
        left, right = (splits_of(Table(table, **settings)) for table in tables)
        assert (left.train, left.test) == (right.train, right.test)


LABELS_AND_GROUPS = st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 7)), min_size=4, max_size=40)


@given(LABELS_AND_GROUPS, st.floats(0.05, 0.6), st.integers(0, 5))
def test_no_group_is_on_both_sides_and_the_size_is_near(rows, share, seed):
    labels, groups = [label for label, _ in rows], [f"g{group}" for _, group in rows]
    assume(len(set(groups)) > 1 and max(map(labels.count, labels)) > 1)
    wanted = round(share * len(rows))
    assume(wanted >= 1)
    sides = splitters.grouped(classes_of(labels), groups, share, seed, "t")
    assert_whole(sides, len(rows))
    assert_equal_sides(sides, splitters.grouped(classes_of(labels), groups, share, seed, "t"))
    held, kept = ({groups[i] for i in side} for side in (sides.test, sides.train))
    assert not held & kept
    assert held
    assert kept

    size, rows_of = len(sides.test), {group: groups.count(group) for group in groups}
    for leaving in [None, *held]:
        for entering in [None, *kept]:
            after = size - rows_of.get(leaving, 0) + rows_of.get(entering, 0)
            if 0 < after < len(rows):
                assert abs(size - wanted) <= abs(after - wanted)


def test_validation_rows_come_out_of_the_training_rows(tmp_path):
    """The test rows are the same with and without them; nothing is on two sides."""
    table = table_of(tmp_path, ["x", "y"] * 50, validation_size=0.25)
    splits, plain = splits_of(table), splits_of(replace(table, validation_size=None))
    assert splits.validation is not None
    assert splits.test == plain.test
    assert sorted(numbers(splits.train) + numbers(splits.validation)) == sorted(numbers(plain.train))
    assert (len(splits.train.labels), splits.validation.labels.count("x")) == (60, 10)


def test_a_group_with_a_space_beside_it_is_the_same_group(tmp_path):
    users = [f"u{i // 4}{' ' * (i % 2)}" for i in range(60)]
    splits = splits_of(table_of(tmp_path, ["x", "y"] * 30, {"user": users}, split="grouped", group="user"))
    train, test = ({users[i].strip() for i in numbers(rows)} for rows in (splits.train, splits.test))
    assert not train & test


@pytest.mark.parametrize(("split", "column"), [("grouped", "group"), ("time", "time")])
def test_validation_rows_are_held_out_as_the_test_rows_are(tmp_path, split, column):
    values = [i // 5 for i in range(100)]
    table = table_of(tmp_path, ["x", "y"] * 50, {"c": values}, split=split, **{column: "c"}, validation_size=20)
    splits = splits_of(table)
    sides = [{values[i] for i in numbers(rows)} for rows in (splits.train, splits.validation, splits.test)]
    assert len(set.union(*sides)) == sum(map(len, sides))
    if split == "time":
        assert max(sides[0]) < min(sides[1]) <= max(sides[1]) < min(sides[2])


def test_groups_keep_the_shares_of_classes_where_they_can():
    groups = [f"g{i // 5}" for i in range(500)]
    labels = ["rare" if i // 5 < 20 else "common" for i in range(500)]
    held = splitters.grouped(classes_of(labels), groups, 0.2, 0, "t").test
    assert len(held) == 100
    assert sum(labels[i] == "rare" for i in held) == 20


def test_a_grouped_table(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    users = [f"u{i // 7}" for i in range(70)]
    table = table_of(tmp_path, ["x", "y"] * 35, {"user": users}, split="grouped", group="user", test_size=10)
    splits = splits_of(table)
    held, kept = ({users[i] for i in numbers(rows)} for rows in (splits.test, splits.train))
    assert not held & kept
    assert len(splits.test.labels) == 7
    assert f"{table.train}: the grouped split holds out 7 of 70 rows for test (asked for 10)" in caplog.text


@given(st.lists(st.integers(0, 12), min_size=2, max_size=30), st.floats(0.05, 0.9), st.randoms(use_true_random=False))
def test_time_split_does_not_depend_on_row_order(times, share, random):
    assume(len(set(times)) > 1 and 1 <= round(share * len(times)) < len(times))
    sides = splitters.by_time(times, share, "t")
    assert_whole(sides, len(times))
    assert max(times[i] for i in sides.train) < min(times[i] for i in sides.test)
    for side in sides:
        assert [(times[i], i) for i in side] == sorted((times[i], i) for i in side)
    wanted = round(share * len(times))
    sizes = [sum(time >= cut for time in times) for cut in set(times) - {min(times)}]
    assert abs(len(sides.test) - wanted) == min(abs(size - wanted) for size in sizes)

    order = random.sample(range(len(times)), len(times))
    shuffled = splitters.by_time([times[i] for i in order], share, "t")
    assert sorted(order[i] for i in shuffled.test) == sorted(sides.test)


@pytest.mark.parametrize(
    "times",
    [
        ["9", "10", "11", "100"],
        [9.5, 10, 11, 100],
        ["2024-01-31", "2024-02-01T08:30", "2024-02-01 09:00", "2024-02-01T08:30-05:00"],
        ["31/01/2024", "01/02/2024", "02/02/2024", "03/02/2024"],
        ["31 Jan 2024", "01 Feb 2024", "02 Feb 2024", "03 Feb 2024"],
        pd.to_datetime(["2024-01-31", "2024-02-01", "2024-02-02", "9999-02-01"]),
        pd.to_datetime(["2024-01-31", "2024-02-01", "2024-02-02", "2025-02-01"]).date,
    ],
)
def test_times_are_ordered_as_times(tmp_path, times):
    order = [2, 0, 3, 1]
    frame = pd.DataFrame({"text": list("abcd"), "label": ["x", "y", "y", "x"], "when": times}).iloc[order]
    frame.to_parquet(tmp_path / "t.parquet")
    splits = splits_of(Table(str(tmp_path / "t.parquet"), split="time", time="when", test_size=2))
    assert (splits.train.texts, splits.test.texts) == (["a", "b"], ["c", "d"])


@given(st.lists(st.sampled_from("xyz"), min_size=4, max_size=40), st.integers(2, 5), st.integers(0, 5))
def test_every_row_is_in_exactly_one_fold(labels, folds, seed):
    assume(min(map(labels.count, labels)) >= folds)
    parts = [splitters.kfold(classes_of(labels), folds, fold, seed, "t") for fold in range(folds)]
    for part in parts:
        assert_whole(part, len(labels))
    assert sorted(i for part in parts for i in part.test) == list(range(len(labels)))
    for label in set(labels):
        counts = [sum(labels[i] == label for i in part.test) for part in parts]
        assert max(counts) - min(counts) <= 1


def test_folds_of_a_table(tmp_path):
    folds = [
        splits_of(table_of(tmp_path, ["x", "y"] * 10, split="kfold", folds=4, fold=fold)).test for fold in range(4)
    ]
    assert sorted(i for rows in folds for i in numbers(rows)) == list(range(20))


def leaks(train, held):
    return np.flatnonzero(np.isin(leak_hashes(train), leak_hashes(held))).tolist()


def test_leaks_are_found_whatever_their_case_width_and_spaces():
    train = rows_of(["The  FILM ", "a film", "\uff26ilm", "stra\xdfe"], None, list("xxyy"))
    held = rows_of(["the film", "film"], None, list("xy"))
    assert leaks(train, held) == [0, 2]
    assert leaks(train, rows_of(["STRASSE"], None, ["x"])) == [3]
    pairs, same_first = rows_of(["a", "a"], ["B ", "c"], list("xy")), rows_of(["A"], ["b"], ["x"])
    assert leaks(pairs, same_first) == [0]


def test_leaks_leave_training_and_nothing_else(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train = write(tmp_path / "train.csv", {"text": ["a", "B ", "c", "d", "e"], "label": ["x", "x", "y", "y", "x"]})
    validation = write(tmp_path / "v.csv", {"text": ["b", "f"], "label": ["x", "y"]})
    test = write(tmp_path / "test.csv", {"text": ["C", "g"], "label": ["x", "y"]})
    splits = splits_of(Table(train, validation=validation, test=test))
    assert (splits.train.texts, splits.train.labels) == (["a", "d", "e"], ["x", "y", "x"])
    assert (splits.validation.texts, splits.test.texts) == (["b", "f"], ["C", "g"])
    assert (splits.data_report.leaks, splits.data_report.leaks_removed) == (2, 2)
    assert "the text of 2 training rows stands in the validation or test rows too; 2 were removed" in caplog.text

    reported = splits_of(Table(train, validation=validation, test=test, leaks="report"))
    assert len(reported.train.texts) == 5
    assert (reported.data_report.leaks, reported.data_report.leaks_removed) == (2, 0)
    assert "; 0 were removed" in caplog.text


def test_leaks_of_a_split_are_removed_too(tmp_path):
    texts = ["Spam!", "spam!", *(f"text {i}" for i in range(8))]
    path = write(tmp_path / "t.csv", {"text": texts, "label": ["x", "y"] * 5, "when": [10, *range(9)]})
    splits = splits_of(Table(path, split="time", time="when", test_size=1))
    assert splits.test.texts == ["Spam!"]
    assert "spam!" not in splits.train.texts
    assert splits.data_report.leaks_removed == 1


def test_a_class_that_leaks_whole_is_an_error(tmp_path):
    train = write(tmp_path / "train.csv", {"text": list("abcd"), "label": list("xxyy")})
    test = write(tmp_path / "test.csv", {"text": list("CD"), "label": list("yy")})
    with pytest.raises(DataError, match=r"every training row of 'y' has a text that stands in .* --leaks report"):
        splits_of(Table(train, test=test))
    assert len(splits_of(Table(train, test=test, leaks="report")).train.texts) == 4


def test_counts_of_what_was_read(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"text {i // 2},{'xy'[i % 4 // 2]}\n" for i in range(40)))
    (tmp_path / "v.csv").write_text("text,label\na,x\nb,y,z\nc,y\n")
    table = Table(str(tmp_path / "t.csv"), validation=str(tmp_path / "v.csv"), on_bad_row="skip")
    data_report = splits_of(table).data_report
    assert [(of.source, of.rows) for of in data_report.tables] == [(table.train, 40), (table.validation, 2)]
    assert [row.line for row in data_report.tables[1].skipped] == [3]
    assert data_report.metrics() == {
        "data/rows_read": 42, "data/rows_skipped": 1, "data/duplicates": 20, "data/leaks": 0, "data/leaks_removed": 0,
        "data/emptied": 0,
    }  # fmt: skip


XY = ["x", "x", "y", "y"]
USER = {"user": list("aabb")}


@pytest.mark.parametrize(
    ("labels", "columns", "settings", "message"),
    [
        (["x"] * 9 + ["y"], {}, {}, "'y' has a single row"),
        (XY, {}, {"test_size": 0.2}, "holding out 1 of 4 rows"),
        (XY, {}, {"test_size": 4}, "holding out 4 of 4 rows"),
        (XY, {}, {"test_size": -1.0}, "must be positive"),
        (XY, {}, {"test": "u.csv", "split": "kfold"}, "--split kfold holds test rows out of --train, but --test u.csv"),
        (XY, USER, {"split": "grouped"}, "--split grouped needs --group, the column"),
        (XY, USER, {"split": "time"}, "--split time needs --time, the column"),
        (XY, USER, {"group": "user"}, "--group is for --split grouped, but --split is stratified"),
        (XY, USER, {"time": "user", "split": "kfold"}, "--time is for --split time, but --split is kfold"),
        (XY, {}, {"fold": 2}, "--folds and --fold are for --split kfold, but --split is stratified"),
        (XY, {}, {"folds": 2}, "--folds and --fold are for --split kfold"),
        (XY, USER, {"split": "grouped", "group": "who"}, "has no column 'who' to split by; its columns are text, l"),
        (XY, {}, {"split": "time", "time": "when"}, "has no column 'when' to split by"),
        (XY, {"user": ["a", None, " ", "b"]}, {"split": "grouped", "group": "user"},
         r"2 rows without a value in column 'user' \(the first is row 2\)"),
        (XY, {"when": ["1", "2", "3", None]}, {"split": "time", "time": "when"},
         r"1 row without a value in column 'when' \(the first is row 4\)"),
        (XY, {"when": ["2024-01-31", "2024-02-01", "spring", "x"]}, {"split": "time", "time": "when"},
         "column 'when' orders the rows, but row 3 holds 'spring', neither a number nor a time"),
        (XY, {"when": ["03/01/2024", "13/13/2024", "13/01/2024", "01/13/2024"]}, {"split": "time", "time": "when"},
         "row 2 holds '13/13/2024'"),
        (XY, {"when": ["1", "2", "later", "4"]}, {"split": "time", "time": "when"}, "row 3 holds 'later'"),
        (XY, {"when": [5] * 4}, {"split": "time", "time": "when"}, "needs two times or more, all rows have 5"),
        (XY, {"when": range(4)}, {"split": "time", "time": "when", "test_size": 2}, "every row of 'y', so training"),
        (XY, {"when": range(4)}, {"split": "time", "time": "when", "test_size": 4}, "of 4 rows leaves a side empty"),
        (XY, {"user": ["a"] * 4}, {"split": "grouped", "group": "user"}, "two groups or more, all rows are of one"),
        (["x", "y"], {"user": ["a", "b"]}, {"split": "grouped", "group": "user"}, "every class has a single row"),
        (XY, USER, {"split": "grouped", "group": "user"}, "the grouped split holds out every row of '[xy]'"),
        (XY, USER, {"split": "grouped", "group": "user", "test_size": 0.01}, "holding out 0 of 4 rows leaves a side"),
        (XY, {}, {"validation_size": 0}, "validation_size must be positive, got 0"),
        (XY, {}, {"validation_size": 1, "validation": "v.csv"}, "--validation-size holds out others; give one"),
        (["x", "y"] * 4, {}, {"validation_size": 5}, "choose another --validation-size or give a --validation table"),
        (XY, {}, {"split": "kfold", "folds": 1}, "folds must be 2 or more, got 1"),
        (XY, {}, {"split": "kfold", "folds": 2, "fold": 2}, "--fold counts from 0 to 1, got 2"),
        (XY, {}, {"split": "kfold", "folds": 2, "fold": -1}, "fold must not be negative, got -1"),
        (XY, {}, {"split": "kfold", "folds": 3}, "'x' has 2 rows, which cannot be in each of 3 folds"),
        (XY, {}, {"split": "kfold", "folds": 2, "test_size": 2}, "leave --test-size out"),
    ],
)  # fmt: skip
def test_splits_that_cannot_be_made(tmp_path, labels, columns, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        splits_of(table_of(tmp_path, labels, columns, **settings))
    assert "\n" not in str(caught.value)
