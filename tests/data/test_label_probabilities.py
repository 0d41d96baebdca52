"""Training rows with a probability for each class: what the columns say reaches the examples, and nothing else does."""

import numpy as np
import pandas as pd
import pytest

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.split.class_balance import balance_classes
from bertjax.data.split.read_splits import encode_splits
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import ConfigError, DataError
from bertjax.tasks import find_format
from tests.support.tables import splits_of

SHARES = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.5, 0.1, 0.4], [0.2, 0.7, 0.1], [0.9, 0.1, 0.0]]
)
NAMES = ("10", "2", "é 😀")  # in the order of the columns; the vocabulary has them sorted
TEXTS = [f"film {i}" for i in range(len(SHARES))]


@pytest.fixture
def weak(tmp_path):
    """(shares, names) -> a table with them, whose label column has to be ignored."""

    def weak(shares=SHARES, names=NAMES, file="weak.csv", **columns):
        shares = np.asarray(shares)
        frame = pd.DataFrame({"text": TEXTS[: len(shares)], "label": "gold", **columns})
        for name, column in zip(names, shares.T, strict=True):
            frame[f"p_{name}"] = column
        path = tmp_path / file
        (frame.to_csv if file.endswith("csv") else frame.to_parquet)(path, index=False)
        return str(path)

    return weak


@pytest.fixture
def labelled(tmp_path):
    """A table of known labels."""
    path = tmp_path / "test.csv"
    pd.DataFrame({"text": ["a song", "a book"], "label": ["2", "10"]}).to_csv(path, index=False)
    return str(path)


def encoded(table, tiny_model):
    splits = splits_of(table)
    encoding = Encoding(load_tokenizer(tiny_model), splits.vocabulary, 16, splits.table)
    return encode_splits(splits, find_format("classification"), encoding)


@pytest.mark.parametrize("file", ["weak.csv", "weak.parquet"])
def test_examples_have_the_probabilities_in_the_order_of_the_vocabulary(weak, labelled, tiny_model, file):
    splits = encoded(Table(weak(file=file), test=labelled, label_probabilities="p_"), tiny_model)
    assert splits.vocabulary == tuple(sorted(NAMES))
    order = [NAMES.index(name) for name in splits.vocabulary]
    labels = splits.train.examples.labels
    assert labels.dtype == np.float32
    np.testing.assert_allclose(labels, SHARES[:, order], rtol=1e-6)
    assert splits.test.examples.labels.tolist() == [splits.vocabulary.index("2"), splits.vocabulary.index("10")]
    assert splits.test.examples.labels.dtype == np.int32


def test_rows_that_are_held_out_are_judged_by_their_most_probable_class(weak, tiny_model):
    splits = encoded(Table(weak(), label_probabilities="p_", test_size=3), tiny_model)
    assert splits.train.examples.labels.shape == (3, 3)
    assert splits.test.examples.labels.shape == (3,)
    rows = splits_of(Table(weak(), label_probabilities="p_", test_size=3)).test
    assert rows.labels == [NAMES[SHARES[TEXTS.index(text)].argmax()] for text in rows.texts]


def test_the_digest_of_rows_changes_with_a_probability(weak, labelled):
    def digest(shares, setting="p_"):
        return splits_of(Table(weak(shares), test=labelled, label_probabilities=setting)).train.digest()

    other = SHARES.copy()
    other[0] = [0.6, 0.3, 0.1]  # of the same most probable class
    assert digest(SHARES) == digest(SHARES)
    assert digest(SHARES) != digest(other)


@pytest.mark.parametrize("flag", [{"steps": ("lower",)}, {"leaks": "report"}], ids=["preprocessing", "leaks"])
def test_rows_keep_their_probabilities_where_others_are_dropped(weak, labelled, flag):
    texts = ["Film 0", " ", "film 2", "film 2", "a song", "film 5"]
    table = Table(weak(text=texts), test=labelled, label_probabilities="p_", on_bad_row="skip", **flag)
    rows = splits_of(table).train
    shares = dict(zip(rows.texts, rows.probabilities.of_rows.tolist(), strict=True))
    kept = {text.lower() if "steps" in flag else text for text in ("Film 0", "film 2", "film 5")}
    assert set(shares) == kept | ({"a song"} if "leaks" in flag else set())
    order = [NAMES.index(name) for name in rows.probabilities.names]
    assert shares["film 2"] == pytest.approx(SHARES[2, order].tolist())
    assert shares["film 5"] == pytest.approx(SHARES[5, order].tolist())


def test_rounded_probabilities_are_scaled_to_sum_1(weak, labelled):
    rows = splits_of(
        Table(weak([[0.333, 0.333, 0.333], [0.5, 0.3, 0.2]]), test=labelled, label_probabilities="p_")
    ).train
    np.testing.assert_allclose(rows.probabilities.of_rows.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([[0.5, 0.5, 0.5], [1, 0, 0]], "row 1 has probabilities of sum 1.5 in 'p_10' and 'p_2' and"),
        ([[1, 0, 0], [1.2, -0.2, 0]], "row 2 holds 1.2 in column 'p_10', where a probability must be from 0 to 1"),
        ([[np.nan, 0.5, 0.5], [1, 0, 0]], "row 1 has no number in column 'p_10'"),
    ],
    ids=["sum", "range", "missing"],
)
def test_a_row_of_no_probabilities_is_named_or_left_out(weak, labelled, shares, message):
    table = Table(weak(shares), test=labelled, label_probabilities="p_")
    with pytest.raises(DataError, match=message):
        splits_of(table)
    skipping = Table(weak([*shares, *SHARES[2:]]), test=labelled, label_probabilities="p_", on_bad_row="skip")
    assert len(splits_of(skipping).train.texts) == 5


@pytest.mark.parametrize(
    ("settings", "task", "message"),
    [
        ({"label_probabilities": "q_"}, "classification", "no column begins with 'q_'"),
        ({"label_probabilities": "p_1"}, "classification", "only the column 'p_10' begins with 'p_1'"),
        ({"label_probabilities": "p_"}, "regression", "--label-probabilities is for rows of one class each out of"),
        ({"label_probabilities": "p_"}, "multi_label", "which multi_label does not have"),
        ({"label_probabilities": "p_", "reader": "ray"}, "classification", "leave --reader ray out"),
    ],
    ids=["no column", "one column", "numbers", "several labels", "stream"],
)
def test_settings_that_do_not_fit(weak, labelled, settings, task, message):
    with pytest.raises((ConfigError, DataError), match=message):
        splits_of(Table(weak(), test=labelled, **settings), task)


def test_a_class_that_is_never_the_most_probable_has_its_place(weak, labelled, tiny_model):
    shares = [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.8, 0.1, 0.1]]
    splits = encoded(Table(weak(shares), test=labelled, label_probabilities="p_"), tiny_model)
    assert len(splits.vocabulary) == 3
    assert splits.train.examples.labels.shape == (3, 3)


def test_class_weights_and_oversampling_of_certain_probabilities_are_those_of_labels(weak, labelled, tiny_model):
    examples = encoded(Table(weak(), test=labelled, label_probabilities="p_"), tiny_model).train.examples
    classes = np.array([0, 0, 0, 1, 2, 0], np.int32)
    certain, hard = examples.labelled(np.eye(3, dtype=np.float32)[classes]), examples.labelled(classes)
    for weights in (["balanced"], ["2=3"]):
        expected = balance_classes(hard, sorted(NAMES), weights, False, 0).weights
        np.testing.assert_allclose(balance_classes(certain, sorted(NAMES), weights, False, 0).weights, expected)
    more = balance_classes(certain, sorted(NAMES), (), True, 0).labels
    np.testing.assert_array_equal(more.argmax(axis=1), balance_classes(hard, sorted(NAMES), (), True, 0).labels)
    unsure = balance_classes(examples, sorted(NAMES), ["2=3"], False, 0).weights
    np.testing.assert_allclose(unsure, 1 + 2 * SHARES[:, NAMES.index("2")], rtol=1e-6)
