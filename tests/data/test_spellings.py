"""Labels that look alike, labels that are no label, and the types of labels: the same rules in every format."""

import json
import logging
import unicodedata

import pandas as pd
import pytest
from pandas._libs.parsers import STR_NA_VALUES

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.rows.spellings import MISSING_WORDS, plain_spelling
from bertjax.data.streaming.stream_splits import stream_splits
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import DataError
from bertjax.tasks import find_format
from tests.support.tables import splits_of

FORMATS = ["csv", "tsv", "xlsx", "json", "jsonl", "parquet"]
CAFE = "café"


@pytest.fixture
def table_of(tmp_path):
    """(format, labels, settings) -> a table of numbered texts; a missing label is an empty cell, or null."""

    def table_of(kind, labels, name="t", **settings):
        path = tmp_path / f"{name}.{kind}"
        frame = pd.DataFrame({"text": [f"film {i}" for i in range(len(labels))], "label": labels})
        match kind:
            case "csv" | "tsv":
                frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
            case "xlsx":
                frame.to_excel(path, index=False)
            case "parquet":
                frame.to_parquet(path)
            case _:
                path.write_text(json.dumps(frame.to_dict("records")), encoding="utf-8")
                if kind == "jsonl":
                    rows = (json.dumps(row) + "\n" for row in frame.to_dict("records"))
                    path.write_text("".join(rows), encoding="utf-8")
        return Table(str(path), **settings)

    return table_of


ALIKE = {
    "decimals": ("1", "1.0", "1"),
    "zeros": ("1", "01", "1"),
    "sign": ("1", "+1", "1"),
    "zero-width space": ("good", "good\u200b", "good"),
    "byte order mark": ("good", "\ufeffgood", "good"),
    "soft hyphen": ("good", "go\u00adod", "good"),
    "variation selector": ("\u2764", "\u2764\ufe0f", "\u2764"),
    "direction mark": ("good", "good\u200e", "good"),
    "no-break space": ("very good", "very\u00a0good", "very good"),
    "two spaces": ("very good", "very  good", "very good"),
    "decomposed": (unicodedata.normalize("NFC", CAFE), unicodedata.normalize("NFD", CAFE), CAFE),
    "full width": ("1", "\uff11", "1"),
    "full-width letters": ("ok", "\uff4f\uff4b", "ok"),
    "half width": ("\u30ac", "\uff76\uff9e", "\u30ac"),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("one", "other", "plain"), ALIKE.values(), ids=ALIKE)
def test_labels_that_look_alike_are_refused_merged_or_kept(table_of, kind, one, other, plain):
    assert plain_spelling(one) == plain_spelling(other) == unicodedata.normalize("NFC", plain)
    labels = [one, other, "x"] * 4
    with pytest.raises(DataError, match="labels look alike but are different") as error:
        splits_of(table_of(kind, labels, test_size=3), "classification")
    assert f"{one!a} (4 rows)" in str(error.value)
    assert f"{other!a} (4 rows)" in str(error.value)
    merged = splits_of(table_of(kind, labels, test_size=3, label_spelling="merge"), "classification")
    assert set(merged.vocabulary) == {unicodedata.normalize("NFC", plain), "x"}
    assert merged.train.labels.count("x") + merged.test.labels.count("x") == 4
    kept = splits_of(table_of(kind, labels, test_size=3, label_spelling="keep"), "classification")
    assert set(kept.vocabulary) == {one, other, "x"}


DIFFERENT = ["1.5", "1.50", "v1", "v2", "1", "-1", "x²", "x2", "①", "B-PER", "I-PER", "é", "e", "[a]", "a", "1,0", "10"]


def test_labels_that_a_person_tells_apart_stay(table_of):
    splits = splits_of(table_of("csv", DIFFERENT * 2, test_size=len(DIFFERENT)), "classification")
    assert set(splits.vocabulary) == set(DIFFERENT)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("label", ["good ", " good", "\u00a0good", "good\u3000", "\tgood"])
def test_white_space_around_a_label_is_not_its_own(table_of, kind, label):
    splits = splits_of(table_of(kind, ["good", label, "x"] * 4), "classification")
    assert splits.vocabulary == ("good", "x")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("nothing", [None, "", " ", "\u00a0", "\u200b"], ids=repr)
def test_a_label_without_a_visible_character_is_missing(table_of, kind, nothing):
    labels = ["a", "b", nothing, "a", "b", "a", "b"]
    with pytest.raises(DataError, match="row 3 has no label in column 'label'"):
        splits_of(table_of(kind, labels), "classification")
    splits = splits_of(table_of(kind, labels, on_bad_row="skip", test_size=2), "classification")
    assert splits.vocabulary == ("a", "b")


@pytest.mark.parametrize("kind", FORMATS)
def test_words_for_a_missing_cell_are_labels_and_said(table_of, kind, caplog):
    splits = splits_of(table_of(kind, ["NA", "None", "null", "none"] * 3, test_size=4), "classification")
    assert splits.vocabulary == ("NA", "None", "none", "null")
    assert "a word that is a label here: 'NA' (3 rows); 'None' (3 rows); 'null' (3 rows); leave" in caplog.text


def test_the_words_for_a_missing_cell_are_those_of_pandas():
    assert set(STR_NA_VALUES) - {""} == MISSING_WORDS


@pytest.mark.parametrize("kind", FORMATS)
def test_labels_that_differ_by_case_are_two_and_said(table_of, kind, caplog):
    """May and may, US and us, the tags V and v: labels that differ only by case can be meant."""
    splits = splits_of(table_of(kind, ["Pos", "pos", "neg"] * 4, test_size=3), "classification")
    assert splits.vocabulary == ("Pos", "neg", "pos")
    assert "labels differ only by case, and are different: 'Pos' (4 rows) and 'pos' (4 rows)" in caplog.text


def test_ordinary_labels_say_nothing(table_of, caplog):
    with caplog.at_level(logging.WARNING):
        splits_of(table_of("csv", ["01", "02", "10"] * 4, test_size=3), "classification")
    assert not caplog.records


@pytest.mark.parametrize("kind", ["json", "jsonl"])
@pytest.mark.parametrize("labels", [[1, "1"], [True, "True"], [1, True]], ids=str)
def test_labels_of_two_types_are_refused(table_of, kind, labels):
    with pytest.raises(DataError, match="column 'label' mixes .* and .*; write all of its cells as one of them"):
        splits_of(table_of(kind, labels * 4), "classification")


@pytest.mark.parametrize(
    ("task", "column", "cell"),
    [
        ("multi_label", "labels", lambda name: [name, "x"]),
        ("token_classification", "tags", lambda name: [name, "x"]),
    ],
)
def test_labels_in_lists_are_judged_too(tmp_path, task, column, cell):
    path = tmp_path / "t.jsonl"
    rows = [{"text": f"a {i}", "tokens": ["a", "b"], column: cell(("1", "1.0")[i % 2])} for i in range(8)]
    path.write_text("\n".join(json.dumps({**row, "tokens": ["a", str(i)]}) for i, row in enumerate(rows)))
    with pytest.raises(DataError, match=r"labels look alike but are different: '1' \(4 rows\) and '1.0' \(4 rows\)"):
        splits_of(Table(str(path)), task)
    merged = splits_of(Table(str(path), label_spelling="merge"), task)
    assert merged.vocabulary == ("1", "x")


def test_columns_of_flags_are_named_by_their_user(tmp_path):
    pd.DataFrame({"text": list("abcdefgh"), "1": [0, 1] * 4, "1.0": [1, 0] * 4}).to_csv(tmp_path / "t.csv", index=False)
    assert splits_of(Table(str(tmp_path / "t.csv"), labels=("1", "1.0")), "multi_label").vocabulary == ("1", "1.0")


def test_a_test_table_with_another_spelling_says_so(table_of, tiny_model):
    """Json says 1 where csv says 1.0."""
    train, test = table_of("csv", ["1.0", "2.0"] * 4).train, table_of("json", [1.0, 2.0], name="test").train
    task_format = find_format("classification")
    splits = splits_of(Table(train, test=test, leaks="report"), "classification")
    encoding = Encoding(load_tokenizer(tiny_model), splits.vocabulary, 16, splits.table)
    with pytest.raises(
        DataError, match=r"never saw: '1', '2'; .* '1' only looks like one of them \(--label-spelling merge"
    ):
        task_format.encode(splits.test, test, encoding)
    merged = splits_of(Table(train, test=test, leaks="report", label_spelling="merge"), "classification")
    assert (merged.vocabulary, merged.test.labels) == (("1", "2"), ["1", "2"])


@pytest.mark.ray
def test_labels_that_stream_are_judged_too(table_of, tiny_model, ray_session):
    task_format = find_format("classification")
    table = table_of("csv", ["1"] * 9 + ["2"] * 9 + ["1.0"] * 2, test_size=4)
    encoding = Encoding(load_tokenizer(tiny_model), (), 16, table)
    with pytest.raises(DataError, match=r"look alike but are different: '1' \(9 rows\) and '1.0' \(2 rows\)"):
        stream_splits(table, task_format, encoding, tiny_model, block_rows=7)
