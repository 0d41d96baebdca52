"""One text with several labels: counted and listed, whichever reader, format and task."""

import json
import logging
from dataclasses import replace

import pandas as pd
import pytest

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.split.read_splits import encode_splits, read_splits
from bertjax.data.streaming.stream_splits import stream_splits
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.tasks import find_format
from tests.support.tables import COLUMNS, TABLES, splits_of

PAIRS = [("good film", "pos"), ("a book", "pos"), ("good film", "neg"), ("A  book", "pos"), ("a book", "neg")]
OTHERS = [(f"plot {i}", ("pos", "neg")[i % 2]) for i in range(8)]


def truth(frame):
    """The texts with several labels, as pandas counts them."""
    texts = frame["text"].str.casefold().str.split().str.join(" ")
    return int((frame.groupby(texts)["label"].nunique() > 1).sum())


def write(tmp_path, frame, kind="csv"):
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_texts_with_several_labels_are_counted_and_listed(tmp_path, caplog, kind):
    frame = pd.DataFrame(PAIRS + OTHERS, columns=["text", "label"])
    splits = splits_of(Table(write(tmp_path, frame, kind), test_size=2), "classification")
    assert splits.data_report.contradictions == truth(frame) == 2
    assert splits.data_report.metrics()["data/contradictions"] == 2
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "2 texts stand in rows with different labels" in message
    assert "row 1 ('pos') and row 3 ('neg'); row 2 ('pos') and row 5 ('neg');" in message


def test_only_the_first_are_listed(tmp_path, caplog):
    frame = pd.DataFrame([(f"plot {i}", label) for i in range(9) for label in ("x", "y")], columns=["text", "label"])
    frame = pd.concat([frame, pd.DataFrame({"text": ["other", "others"], "label": "y"})])
    splits = splits_of(Table(write(tmp_path, frame), test_size=2), "classification")
    assert splits.data_report.contradictions == truth(frame) == 9
    assert "row 5 ('x') and row 6 ('y'); 6 more; of rows with the same text the first is kept" in caplog.text


def test_rows_that_agree_say_nothing(tmp_path, caplog):
    frame = pd.DataFrame([*OTHERS, *OTHERS], columns=["text", "label"])
    splits = splits_of(Table(write(tmp_path, frame), test_size=2), "classification")
    assert (splits.data_report.contradictions, splits.data_report.duplicates) == (truth(frame), 8) == (0, 8)
    assert "data/contradictions" not in splits.data_report.metrics()
    assert "different labels" not in caplog.text


CHANGES = {
    "classification": {"label": "z"},
    "multi_label": {"labels": []},
    "regression": {"label": 7.25},
    "token_classification": {"tags": ["O"] * 4},
    "question_answering": {"answers": {"text": [], "answer_start": []}},
    "multiple_choice": {"answer": "C"},
    "next_sentence": {"label": 0},
    "sentence_embedding": {"label": 0.5},
}


@pytest.mark.ray
@pytest.mark.parametrize("task", TABLES)
def test_every_task_and_both_readers(tmp_path, tiny_model, ray_session, caplog, task):
    """A row in which only the label is another; and the order of the labels of a row says nothing."""
    task_format = find_format(task)
    records = [dict(record) for record in TABLES[task]]
    changed = {**records[1], **CHANGES.get(task, {})}
    if task == "multi_label":
        records.append({"text": "it was so", "labels": ["third", "odd"]})
        records.append({"text": "it was so", "labels": ["odd", "third"]})
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, [*records, changed])))
    test = tmp_path / "test.jsonl"
    test.write_text("\n".join(map(json.dumps, records[5:6])))
    table = Table(str(path), test=str(test), leaks="report", **COLUMNS.get(task, {}))
    encoding = Encoding(load_tokenizer(tiny_model), (), 32, table)
    memory = encode_splits(read_splits(table, task_format), task_format, encoding)
    said = [record.getMessage() for record in caplog.records if "different labels" in record.getMessage()]
    stream = stream_splits(table, task_format, encoding, tiny_model, block_rows=7)
    assert stream.data_report == memory.data_report
    assert memory.data_report.contradictions == (task in CHANGES)
    again = [record.getMessage() for record in caplog.records if "different labels" in record.getMessage()]
    assert again == said * 2
    if said:
        assert "row 2 " in said[0]
        assert f"row {len(records) + 1}" in said[0]


def test_a_test_table_may_contradict_the_training_rows(tmp_path, caplog):
    train = write(tmp_path, pd.DataFrame(OTHERS, columns=["text", "label"]))
    test = tmp_path / "test.csv"
    test.write_text(
        "text,label\nPLOT 0,neg\nplot  1,neg\nplot 2,neg\nplot 2,pos\nfilm,pos\n"
    )  # 0 has pos, 1 neg, 2 pos
    splits_of(Table(train, test=str(test)), "classification")
    assert "the text of 1 training row has another label in the validation or test table" in caplog.text
    caplog.clear()
    test.write_text("text,label\nplot 0,pos\nplot 1,neg\n")
    splits_of(Table(train, test=str(test)), "classification")
    assert "another label" not in caplog.text


def test_rows_are_numbered_as_in_the_table(tmp_path, caplog):
    """Rows that are skipped, and those that the preprocessing empties, count."""
    rows = [("x", None), ("http://a.b", "pos"), *PAIRS, *OTHERS]
    table = Table(write(tmp_path, pd.DataFrame(rows, columns=["text", "label"])), on_bad_row="skip", test_size=2)
    splits_of(replace(table, steps=("strip_urls",)), "classification")
    assert "row 3 ('pos') and row 5 ('neg'); row 4 ('pos') and row 7 ('neg')" in caplog.text
