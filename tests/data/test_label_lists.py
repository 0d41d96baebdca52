"""Lists of labels and lists of flags: which of them a column holds, and that flags get their names."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.split.labelled_table import read_labelled_tables
from bertjax.data.streaming.stream_splits import stream_splits
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import ConfigError, DataError
from bertjax.tasks import find_evaluator, find_format
from tests.support.tables import splits_of, write_frame

FLAGS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1]])
NAMES = ("dull", "long", "a")  # not in the order of the alphabet
SPELLINGS = {
    "integers": np.ndarray.tolist,
    "floats": lambda row: row.astype(float).tolist(),
    "booleans": lambda row: row.astype(bool).tolist(),
    "strings": lambda row: list(map(str, row.tolist())),
    "json": lambda row: json.dumps(row.tolist()),
    "tuple": lambda row: repr(tuple(row.tolist())),
    "numpy": str,
    "array": repr,
    "bool array": lambda row: str(row.astype(bool)),
    "tensor": lambda row: f"tensor({row.tolist()})",
}
FORMATS = ["csv", "tsv", "xlsx", "json", "jsonl", "parquet"]


@pytest.fixture
def table_of(tmp_path):
    """(format, cells of the label column, settings) -> a table whose texts are numbered."""

    def table_of(kind, cells, **settings):
        path = tmp_path / f"t.{kind}"
        frame = pd.DataFrame({"text": [f"film {i}" for i in range(len(cells))], "labels": cells})
        write_frame(frame, path)
        return Table(str(path), **settings)

    return table_of


def read(table):
    """The settings that were found, and the labels of each row."""
    table, tables = read_labelled_tables(table, find_format("multi_label"), {"train": table.train})
    return table, tables["train"].rows.labels


def names_of(flags):
    return [tuple(np.array(NAMES)[row.astype(bool)].tolist()) for row in flags]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_flags_need_names(table_of, kind, spell):
    cells = list(map(spell, FLAGS))
    with pytest.raises(
        DataError, match=r"column 'labels' holds lists of 3 zeros and ones \(row 1: .*\): .*--label-names "
    ):
        splits_of(table_of(kind, cells), "multi_label")
    table, labels = read(table_of(kind, cells, label_names=NAMES))
    assert (labels, table.labels_as) == (names_of(FLAGS), "flags")


def test_flags_with_a_delimiter_and_without(table_of):
    cells = [" ".join(map(str, row)) for row in FLAGS.tolist()]
    assert read(table_of("csv", cells, label_delimiter=" ", label_names=NAMES))[1] == names_of(FLAGS)
    with pytest.raises(DataError, match="lists of 3 zeros and ones"):
        read(table_of("csv", cells, label_delimiter=" "))
    with pytest.raises(DataError, match="holds '1 0 0' .* no list; .* --label-delimiter ' '"):
        read(table_of("csv", cells))


def test_scores_are_those_of_scikit_learn_on_the_flags(table_of, tiny_model):
    table = table_of("json", FLAGS.tolist(), label_names=NAMES)
    table, tables = read_labelled_tables(table, find_format("multi_label"), {"train": table.train})
    rows = tables["train"].rows
    encoding = Encoding(load_tokenizer(tiny_model), find_format("multi_label").vocabulary(NAMES, table), 16, table)
    examples = find_format("multi_label").encode(rows, "t", encoding)
    np.testing.assert_array_equal(examples.labels, FLAGS)
    scores = np.random.default_rng(0).normal(size=FLAGS.shape).astype(np.float32)
    metrics = find_evaluator("multi_label")(scores, examples, encoding.vocabulary).flat("test")
    assert encoding.vocabulary == NAMES
    assert metrics["test/f1_micro"] == pytest.approx(f1_score(FLAGS, scores > 0, average="micro"))
    assert metrics["test/f1_macro"] == pytest.approx(f1_score(FLAGS, scores > 0, average="macro"))


LABELS = {
    "ids": [[0, 3], [1], [], [2, 0]],
    "one id a row": [[0], [1], [1], [0]],
    "ids of two kinds": [[0], [1], [0, 1], []],
    "ids of three kinds": [[0, 1], [1, 2], [0, 2], [0, 1]],
    "an id twice": [[1, 1], [0, 3], [2], [0]],
    "names": [["a", "b"], ["a"], [], ["c"]],
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("cells", LABELS.values(), ids=LABELS)
def test_lists_of_labels_stay(table_of, kind, cells):
    written = list(map(repr, cells)) if kind in ("csv", "tsv", "xlsx") else cells
    table, labels = read(table_of(kind, written))
    assert table.labels_as is None
    assert labels == [tuple(dict.fromkeys(map(str, of_row))) for of_row in cells]


def test_zeros_and_ones_can_be_labels(table_of):
    """Two ids in every row look like two flags."""
    cells = [[0, 1], [1, 0], [0, 1], [1, 0]]
    with pytest.raises(DataError, match="--labels-as names if 0 and 1 are labels themselves"):
        read(table_of("json", cells))
    assert read(table_of("json", cells, labels_as="names"))[1] == [("0", "1"), ("1", "0")] * 2


ODD = {
    "empty": ([], r"row 4 holds \[\] in column 'labels', which must have a 0 or 1 for each of the 3"),
    "short": ([1, 0], r"row 4 holds \[1, 0\]"),
    "another number": ([1, 0, 2], r"row 4 holds \[1, 0, 2\]"),
    "a name": (["dull"], r"row 4 holds \['dull'\]"),
    "missing": (None, r"row 4 holds \[\]"),
}


@pytest.mark.parametrize(("cell", "message"), ODD.values(), ids=ODD)
def test_one_odd_row_does_not_make_labels_of_flags(table_of, cell, message):
    cells = FLAGS.tolist()
    cells[3] = cell
    with pytest.raises(DataError, match="holds lists of 3 zeros and ones"):
        read(table_of("json", cells))
    with pytest.raises(DataError, match=message):
        read(table_of("json", cells, label_names=NAMES))
    skipped = read(table_of("json", cells, label_names=NAMES, on_bad_row="skip"))[1]
    assert skipped == names_of(np.delete(FLAGS, 3, axis=0))


def test_flags_in_a_test_table_are_not_read_as_labels(table_of, tmp_path):
    """They have the names of ids."""
    train = table_of("json", LABELS["ids"]).train
    test = tmp_path / "test.jsonl"
    test.write_text("\n".join(json.dumps({"text": f"book {i}", "labels": row}) for i, row in enumerate(FLAGS.tolist())))
    with pytest.raises(DataError, match=r"test.jsonl: column 'labels' holds lists of 3 zeros and ones"):
        splits_of(Table(train, test=str(test)), "multi_label")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_names": ("a", "b", "a")}, "--label-names has a name twice: a b a"),
        ({"label_names": NAMES, "labels_as": "names"}, "--label-names is for lists .* --labels-as names rules out"),
        ({"label_names": NAMES, "labels": ("x", "y")}, "--label-names is for lists .* --label-columns rules out"),
        ({"labels_as": "flags"}, "--labels-as flags needs .*--label-names"),
    ],
)
def test_settings_that_contradict_each_other(table_of, settings, message):
    with pytest.raises(ConfigError, match=message):
        splits_of(table_of("json", FLAGS.tolist(), **settings), "multi_label")


@pytest.mark.parametrize("cells", [[[1, 2], ["1"]], [[True], ["True"], ["a", "b"]]], ids=["numbers", "truth values"])
def test_labels_of_two_types_are_not_one_label(table_of, tmp_path, cells):
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"film {i}", "labels": cell}) for i, cell in enumerate(cells)))
    with pytest.raises(DataError, match=r"column 'labels' mixes .* \(row 1: .*\) and text \(row 2: "):
        read(Table(str(path)))


@pytest.mark.parametrize(
    ("cells", "settings"),
    [
        (["['a', 'b']", "['c']", "[]"], {"labels_as": "names"}),
        (["{'a', 'b'}", "{'c'}", "set()"], {"label_delimiter": ","}),
        (["[1, 1, 0]", "[0, 0, 1]", "[0, 0, 0]"], {"label_names": ("a", "b", "c")}),
    ],
    ids=["lists", "sets", "flags"],
)
def test_a_contract_knows_the_labels_in_lists(table_of, tmp_path, cells, settings):
    contract = tmp_path / "contract.json"
    contract.write_text(json.dumps({"labels": ["a", "b", "c"]}))
    assert read(table_of("csv", cells, contract=str(contract), **settings))[1] == [("a", "b"), ("c",), ()]
    contract.write_text(json.dumps({"labels": ["a", "b"]}))
    with pytest.raises(DataError, match="'labels' is one of a, b, but not in 1 row .the first is row 2: "):
        read(table_of("csv", cells, contract=str(contract), **settings))


@pytest.mark.ray
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_flags_that_stream(table_of, kind, tiny_model, ray_session):
    flags = np.tile(FLAGS, (4, 1))
    cells = flags.tolist() if kind != "csv" else list(map(str, flags))
    task_format = find_format("multi_label")
    table = table_of(kind, cells, label_names=NAMES, test_size=8)
    encoding = Encoding(load_tokenizer(tiny_model), (), 16, table)
    splits = stream_splits(table, task_format, encoding, tiny_model, block_rows=7)
    rows = splits_of(table, "multi_label")
    assert (splits.vocabulary, splits.table) == (NAMES, rows.table)
    expected = [[name in of_row for name in NAMES] for of_row in rows.train.labels]
    np.testing.assert_array_equal(splits.train.examples.take(range(24)).labels, expected)
    with pytest.raises(DataError, match="lists of 3 zeros and ones"):
        stream_splits(table_of(kind, cells), task_format, encoding, tiny_model, block_rows=7)
