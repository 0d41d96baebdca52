"""Rows that stream through Ray Data become the examples, the counts and the complaints that rows in memory become."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from transformers import BertTokenizer

from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.split.read_splits import encode_splits, read_splits
from bertjax.data.streaming.stream_splits import stream_splits
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import ConfigError, DataError
from bertjax.tasks import find_format
from tests.support.models import WORDS as MODEL_WORDS
from tests.support.tables import COLUMNS, QUESTIONS, TABLES, squad

pytestmark = pytest.mark.ray

WORDS = ["good", "bad", "film", "book", "the", "plot", "song", "dull", "great", "who", "how"]


@pytest.fixture
def table(tmp_path, ray_session) -> Table:
    """Three files with quotes, breaks, a byte order mark, repeated texts and texts that leak."""
    rng = np.random.default_rng(0)
    rows = [[" ".join(rng.choice(WORDS, rng.integers(1, 9))), str(rng.choice(["3", "10", "x"]))] for _ in range(60)]
    rows[7][0], rows[50][0] = 'the "plot",\r\nand so', rows[3][0]
    frame = pd.DataFrame(rows, columns=["text", "label"])
    frame[:20].to_csv(tmp_path / "a1.csv", index=False, encoding="utf-8-sig")
    frame[20:41].to_csv(tmp_path / "a2.csv.gz", index=False, lineterminator="\r\n")
    frame[41:].to_csv(tmp_path / "a3.csv", index=False, columns=["label", "text"])
    test = pd.DataFrame({"text": [rows[5][0].upper(), "what was it"], "label": ["x", "3"]})
    test.to_csv(tmp_path / "test.csv", index=False)
    return Table(str(tmp_path / "a*.csv*"), test=str(tmp_path / "test.csv"))


def encoding_of(table, tiny_model) -> Encoding:
    return Encoding(load_tokenizer(tiny_model), (), 16, table)


def in_memory(table, tiny_model, task="classification"):
    task_format = find_format(task)
    return encode_splits(read_splits(table, task_format), task_format, encoding_of(table, tiny_model))


def streamed(table, tiny_model, task="classification"):
    """In blocks of seven rows."""
    return stream_splits(table, find_format(task), encoding_of(table, tiny_model), tiny_model, block_rows=7)


def assert_same(table, tiny_model, task="classification"):
    """Streamed and in memory; returns the streamed splits."""
    memory, stream = (read(table, tiny_model, task) for read in (in_memory, streamed))
    assert (stream.vocabulary, stream.table, stream.data_report) == memory[3:]
    for side in ("train", "validation", "test"):
        expected, found = getattr(memory, side), getattr(stream, side)
        if expected is None:
            assert found is None
            continue
        assert (found.source, found.num_rows) == (expected.source, expected.num_rows)
        assert found.examples.kind == expected.examples.kind
        assert_same_batches(found.examples, expected.examples)
        expected = expected.examples
        found = found.examples.take(np.arange(expected.num_examples))
        for name in ("token_ids", "token_type_ids", "offsets", "labels", "text_lengths", "row_of", "labels_of"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert found.labels.dtype == expected.labels.dtype
    return stream


def assert_same_batches(stream, memory):
    """Windows of sixteen examples, two epochs: what is hidden from a masked language model changes between them."""
    plan = plan_training(memory.lengths, 4, 2, 0, 16, 1, packed=True, kind=memory.kind, window_examples=16)
    for left, right in zip(StoredBatches(stream, plan).batches(), StoredBatches(memory, plan).batches(), strict=True):
        np.testing.assert_array_equal(left.example_ids, right.example_ids)
        for one, other in zip(left.batch, right.batch, strict=True):
            np.testing.assert_array_equal(one, other)


def test_streamed_classification_equals_memory(table, tiny_model):
    stream = assert_same(table, tiny_model)
    assert stream.vocabulary == ("10", "3", "x")
    assert stream.data_report.duplicates > 0
    assert stream.data_report.leaks_removed > 0


def test_a_worker_of_an_earlier_job_reads_the_tokenizer_that_is_in_the_folder_now(table, tiny_model, tmp_path):
    """Workers keep a tokenizer, and Ray keeps workers: the folder's name does not say what is in it."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    before, _ = assert_same(table, folder).train.examples.take(np.arange(1)).tokens_of(0, 0)
    special, words = MODEL_WORDS[:5], MODEL_WORDS[5:]
    (tmp_path / "vocab.txt").write_text("\n".join([*special, *reversed(words)]) + "\n")
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(folder)
    after, _ = assert_same(table, folder).train.examples.take(np.arange(1)).tokens_of(0, 0)
    assert before.tolist() != after.tolist()


def test_streaming_preprocessing_pairs_and_formats(table, tiny_model, tmp_path):
    frame = pd.read_csv(tmp_path / "a1.csv").assign(pair="who?", label=range(20))
    frame.loc[2, "text"] = "http://a.b"
    frame.to_parquet(tmp_path / "b.parquet", row_group_size=9)
    frame.to_json(tmp_path / "b.jsonl", orient="records", lines=True)
    for name in ("b.parquet", "b.jsonl"):
        data = replace(
            table, train=str(tmp_path / name), test=str(tmp_path / name), leaks="report", steps=("strip_urls",)
        )
        assert_same(replace(data, text_pair=("pair",)), tiny_model)
        assert assert_same(data, tiny_model, "regression").data_report.emptied == 2


def names_late_first(row):
    return str(row.get("label", row.get("labels", row.get("tags"))))


@pytest.mark.parametrize("task", TABLES)
def test_streamed_splits_of_every_task_equal_those_in_memory(tiny_model, tmp_path, ray_session, task):
    """Label names come in another order than the vocabulary's; a row repeats, another is in the test rows too. Then
    test and validation rows are held out, but where answers are judged, which takes their texts.
    """
    records = sorted(TABLES[task], key=names_late_first, reverse=True)
    for name, rows in (("a", records[:30]), ("b", [*records[30:], records[4]]), ("test", records[5:6])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = Table(str(tmp_path / "?.jsonl"), test=str(tmp_path / "test.jsonl"), **COLUMNS.get(task, {}))
    if task == "multi_label":
        table = replace(table, label_delimiter="|")
    stream = assert_same(table, tiny_model, task)
    assert (stream.data_report.duplicates, stream.data_report.leaks_removed) == (1, 1)
    if task != "question_answering":
        held = assert_same(replace(table, test=None, validation_size=9), tiny_model, task)
        assert held.train.examples.num_examples > held.validation.examples.num_examples > 0


def test_streamed_grouped_time_and_kfold_splits_equal_those_in_memory(tiny_model, tmp_path, ray_session):
    """Groups, times and folds; leaks into what is held out; a row without a group, a time that is none."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"text": [f"{'film' * (i % 7)} {i}" for i in range(80)], "label": list("yyxz") * 20})
    frame["user"], frame["when"] = [f"u{n}" for n in rng.integers(0, 9, 80)], rng.permutation(80)
    frame["date"] = pd.to_datetime("2024-01-01") + pd.to_timedelta(frame.when // 3, "D")
    frame.loc[9, "text"] = frame.loc[60, "text"].upper()
    frame[:50].to_csv(tmp_path / "a.csv", index=False)
    frame[50:].to_csv(tmp_path / "b.csv", index=False)
    frame.to_parquet(tmp_path / "c.parquet", row_group_size=11)
    for settings in (
        {"split": "grouped", "group": "user", "validation_size": 0.2},
        {"split": "time", "time": "when", "test_size": 9},
        {"split": "time", "time": "date", "validation_size": 5},
        {"split": "kfold", "folds": 4, "fold": 2, "leaks": "report"},
    ):
        for source in ("[ab].csv", "c.parquet"):
            stream = assert_same(Table(str(tmp_path / source), **settings), tiny_model)
            assert stream.train.digest != stream.test.digest
    frame.loc[[30, 70], "user"] = None
    frame.assign(when=[*range(79), "spring"]).to_csv(tmp_path / "d.csv", index=False)
    for settings, message in [
        ({"split": "grouped", "group": "user"}, r"2 rows without a value in column 'user' \(the first is row 31\), by"),
        ({"split": "time", "time": "when"}, "column 'when' orders the rows, but row 80 holds 'spring', neither"),
        ({"split": "grouped", "group": "who"}, "has no column 'who' to split by; its columns are text, label, user"),
        ({"test_size": 79}, "holding out 79 of 80 rows leaves a side with fewer rows than the 3 classes"),
    ]:
        table = Table(str(tmp_path / "d.csv"), **settings)
        for read in (in_memory, streamed):
            with pytest.raises(DataError, match=message):
                read(table, tiny_model)


def test_streaming_conll_text_documents_and_squad(tiny_model, tmp_path, ray_session, caplog):
    """Sentences and questions that a worker reads whole, texts of several lines, and places of rows that are bad."""
    sentences = "the O\nfilm B-X\n\nbook I-X\n\nwhat O\na O\n\nsong B-X\nplot I-X\n"
    (tmp_path / "a.conll").write_text("the O\n\n" * 8 + sentences * 3)
    (tmp_path / "b.txt").write_text("a film\n\nthe book , and so very good and dull and great and bad and not it\n")
    (tmp_path / "c.txt").write_text("the plot\nwho")
    long = ("q4", "what ?", "so great; what a plot! And the song was very bad")
    (tmp_path / "d.json").write_text(json.dumps(squad(*QUESTIONS, long, version="v2.0")))
    conll = Table(str(tmp_path / "a.conll"), test=str(tmp_path / "a.conll"), leaks="report", on_bad_row="skip")
    stream = assert_same(conll, tiny_model, "token_classification")
    assert [row.line for row in stream.data_report.tables[0].skipped] == [20, 30, 40]
    texts = Table(str(tmp_path / "[bc].txt"), test=str(tmp_path / "c.txt"), leaks="report", documents="file")
    assert assert_same(texts, tiny_model, "masked_lm").train.examples.num_examples == 3
    caplog.clear()
    questions = Table(str(tmp_path / "d.json"), test=str(tmp_path / "d.json"), leaks="report")
    assert_same(questions, tiny_model, "question_answering")
    lost = [record.getMessage() for record in caplog.records if "longer than a window" in record.getMessage()]
    assert len(lost) == 4  # two tables, read twice
    assert len(set(lost)) == 1


def test_questions_with_other_numbers_of_candidates(tiny_model, tmp_path, ray_session):
    rows = [{"question": f"{i}", "choices": ["a", "b", "c"][: 2 + (i == 9)], "answer": 0} for i in range(12)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = Table(str(tmp_path / "a.jsonl"), test=str(tmp_path / "a.jsonl"), leaks="report")
    with pytest.raises(DataError, match="the question '.' has 3 candidates, those before have 2; all questions of a t"):
        streamed(table, tiny_model, "multiple_choice")


def test_bad_rows_are_left_out_and_listed(table, tiny_model, tmp_path):
    (tmp_path / "a2.csv").write_text("text,label\nfilm,x\nfilm,x,y\n,x\nbook,\nthe book,x\n")
    stream = assert_same(replace(table, on_bad_row="skip"), tiny_model)
    assert [str(row).split(": ", 1)[1] for row in stream.data_report.tables[0].skipped] == [
        "line 3 has 3 fields, the header has 2 (a cell with the separator in it needs quotes)",
        "row 22 has no text in text",
        "row 23 has no label in column 'label'",
    ]


STREAMED = {
    "a.csv": 'text;label\n"a; b";x\nthe film;y\n' * 9,
    "b.csv": 'text,label\n"a, b\nfilm, c",x\n"He said \\"so\\", good",y\n' * 9,
    "c.tsv": 'text\tlabel\n"good film he said\tx\nbad film\ty\nlong film"\ty\nfine\tx\n' * 9,
    "d.tsv": 'text\tlabel\nthe film\tx\n"say ""hi"" now"\ty\n"bad\nfilm"\tx\n' * 9,
    "e.csv": "label, text\nx, good\ny, bad book\n" * 9,
}


@pytest.mark.parametrize(("name", "content"), STREAMED.items(), ids=STREAMED)
def test_a_dialect_is_the_same_in_both_readers(table, tiny_model, tmp_path, caplog, name, content):
    """The first quotes come in another block than the header, and so do rows that repeat it."""
    (tmp_path / name).write_text(content)
    first, *others = content.splitlines(keepends=True)
    plain = first.replace("text", "so good").replace("label", "x")
    (tmp_path / name).write_text(first + plain * 10 + "".join(others))
    with caplog.at_level(logging.INFO):
        (tmp_path / "test.csv").write_text("text,label\nwho,x\nhow,y\n")
        assert_same(replace(table, train=str(tmp_path / name)), tiny_model)
    said = [message for message in caplog.messages if message.startswith(str(tmp_path / name))]
    assert len(said) >= 4
    assert said[: len(said) // 2] == said[len(said) // 2 :]


def test_names_of_parquet_classes_are_the_same_in_both_readers(table, tiny_model, tmp_path):
    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
    rows = pa.table({"text": [f"film {i}" for i in range(20)], "label": [0, 1] * 10})
    rows = rows.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(rows, tmp_path / "t.parquet")
    streamed = assert_same(replace(table, train=str(tmp_path / "t.parquet"), test=None), tiny_model)
    assert streamed.vocabulary == ("neg", "pos")


def cut_short(folder):
    frame = pd.DataFrame({"text": ["a film", "the book"], "label": ["x", "y"]})
    frame.to_parquet(folder / "a.parquet")
    whole = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"text": "a", "label": "1"}\n' * 9 + '{"text": "b", "label": 1}',
            "text (row 1: '1') and numbers (row 10: 1)",
        ),
        ("text,label\nfilm,x\nfilm,x,y\n", "a.csv: line 3 has 3 fields, the header has 2"),
        ("text,label\nfilm,x\n,y\n", "row 2 has no text in text"),
        ("text,labels\nfilm,x\n", "has no column 'label'; its columns are text, labels"),
        ("text,label\n", "has no rows"),
        ("", "is empty; it needs a header and rows"),
        ("text,label\nfilm,x\nbook,x\n", "needs two classes or more, the training rows have only 'x'"),
        ('text,label\nfilm,x\n"book,y\n', "the quote that opens in line 3 is never closed"),
        ("text,label\ncaf\udce9,x\n", "is not utf-8: byte 0xe9 in line 2"),
        (None, "a.parquet cannot be read; it is cut short or no parquet file"),
    ],
)
def test_streaming_and_memory_raise_the_same_errors(table, tiny_model, tmp_path, content, message):
    ending = "parquet" if content is None else "jsonl" if content.startswith("{") else "csv"
    source = tmp_path / f"a.{ending}"
    if content is None:
        cut_short(tmp_path)
    else:
        source.write_bytes(content.encode(errors="surrogateescape"))
    for read in (in_memory, streamed):
        with pytest.raises(DataError) as caught:
            read(replace(table, train=str(source)), tiny_model)
        assert message in str(caught.value)


def test_files_with_different_columns(table, tiny_model, tmp_path):
    shutil.copy(tmp_path / "a3.csv", tmp_path / "a4.csv")
    (tmp_path / "a4.csv").write_text("text,label,note\nfilm,x,n\n")
    with pytest.raises(DataError, match="a4.csv has other columns than .*a1.csv: it adds 'note'"):
        streamed(table, tiny_model)


@pytest.mark.parametrize(
    ("settings", "task", "message"),
    [
        (
            {"test": None},
            "question_answering",
            "no texts of training rows, by which question_answering is judged",
        ),
        (
            {"validation_size": 0.1},
            "question_answering",
            "name its rows with --test and --validation, or use --re",
        ),
        ({"train": "trec"}, "classification", "fits in memory; leave --reader ray out"),
    ],
)
def test_settings_that_cannot_stream(table, tiny_model, settings, task, message):
    with pytest.raises(ConfigError, match=message):
        streamed(replace(table, **settings), tiny_model, task)


def test_streamed_contract_equals_memory(tiny_model, tmp_path, ray_session):
    """What is expected holds or breaks as in memory, with the same rows; keys too, across files and blocks."""
    frame = pd.DataFrame({"id": range(30), "text": [f"text {i}" for i in range(30)], "label": ["x", "y", "10"] * 10})
    frame["when"], frame["part"] = "2024-05-31", frame["id"] % 2
    frame.loc[4, "when"] = None
    promises = {
        "columns": {"id": "integer", "when": "datetime", "text": "text", "part": "number"},
        "unique": [["id"], ["part", "text"]],
        "not_null": ["label"],
        "labels": ["x", "y", 10],
        "max_characters": 8,
        "min_rows": 30,
    }

    def table(rows, **changes):
        (tmp_path / "c.json").write_text(json.dumps(promises | changes))
        rows[:13].to_csv(tmp_path / "a.csv", index=False)
        rows[13:].to_csv(tmp_path / "b.csv", index=False)
        return Table(str(tmp_path / "[ab].csv"), contract=str(tmp_path / "c.json"), test_size=6)

    def complaint(read, data):
        with pytest.raises(DataError) as caught:
            read(data, tiny_model)
        return str(caught.value)

    kept = table(frame, columns={"id": "integer", "text": "text"})
    findings = assert_same(kept, tiny_model).data_report.tables[0].findings
    assert [finding.holds for finding in findings] == [True] * 12
    streamed(table(frame), tiny_model)
    table(frame, columns={"id": "integer", "text": "text"}, unique=[["id"]])
    assert_same(replace(kept, test=str(tmp_path / "a.csv"), test_size=None, leaks="report"), tiny_model)

    broken = frame.assign(id=frame["id"].astype(str))
    broken.loc[[3, 20, 21, 22], ["id", "label"]] = [["three", "z"], ["x", None], ["20.5", "x"], ["", "y"]]
    broken.loc[29, "text"] = "a long text"
    for changes in ({"columns": {"id": "integer", "text": "text"}, "min_rows": 31}, {"columns": {"who": "text"}}):
        data = table(broken, **changes)
        assert "breaks the contract" in complaint(streamed, data)
        assert complaint(streamed, data) == complaint(in_memory, data)
    data = replace(table(broken), test=str(tmp_path / "b.csv"), test_size=None)
    assert "b.csv breaks the contract" in complaint(streamed, data)

    repeated = table(frame.assign(id=[*range(29), 3], text=[*frame["text"][:-1], "text 27"]))
    assert complaint(streamed, repeated).endswith(
        "'id' never repeats, but not in 1 row (the first is row 30: as in row 4); "
        "'part' and 'text' never repeat together, but not in 1 row (the first is row 30: as in row 28)"
    )
    assert "'id' never repeats, but not in 1 row (the first is row 30: '3')" in complaint(in_memory, repeated)
    written = table(frame.assign(when="31/05/2024"))
    assert "'when' holds datetimes in ISO 8601, but not in 30 rows (the first is row 1: '31/05/2024')" in complaint(
        streamed, written
    )
