"""Which candidate is right: a whole column is read by one rule, and by none that its types rule out."""

import json
import logging

import pandas as pd
import pytest

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.split.labelled_table import read_labelled_tables
from bertjax.data.streaming.stream_splits import stream_splits
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import DataError
from bertjax.tasks import find_format
from tests.support.tables import write_frame

FORMATS = ["csv", "tsv", "xlsx", "json", "jsonl", "parquet"]
TYPED = ["json", "jsonl", "parquet"]
NUMBERS = ["8", "2", "24", "120"]  # "2" is also a place, counted from 0 or 1
SHUFFLED = ["3", "0", "1", "2"]  # every number from 0 is a text, too
FROM_1 = ["2", "3", "4", "1"]
WORDS = ["film", "book", "plot", "song"]


@pytest.fixture
def table_of(tmp_path):
    """(format, candidates, answers, settings) -> a table whose questions are numbered."""

    def table_of(kind, candidates, answers, columns=False, **settings):
        lists = {"ABCD"[i]: text for i, text in enumerate(candidates)} if columns else {"choices": candidates}
        frame = pd.DataFrame([{"question": f"q {i}", **lists, "answer": a} for i, a in enumerate(answers)])
        path = tmp_path / f"t.{kind}"
        if kind in ("csv", "tsv", "xlsx") and not columns:
            frame["choices"] = frame["choices"].map(json.dumps)
        write_frame(frame, path)
        return Table(str(path), **settings)

    return table_of


def read(table):
    """The settings that were found, and the place of the right candidate of each row."""
    table, tables = read_labelled_tables(table, find_format("multiple_choice"), {"train": table.train})
    return table, tables["train"].rows.labels


@pytest.mark.parametrize("columns", [False, True], ids=["list", "columns"])
@pytest.mark.parametrize("kind", TYPED)
@pytest.mark.parametrize("candidates", [NUMBERS, SHUFFLED, FROM_1, WORDS], ids=str)
def test_a_typed_number_is_never_a_text(table_of, candidates, kind, columns):
    table, labels = read(table_of(kind, candidates, [2, 0, 3, 1], columns))
    assert (labels, table.answer_as) == ([2, 0, 3, 1], "index0")


READABLE = {
    "from 0": (WORDS, [2, 0, 3], [2, 0, 3], "index0"),
    "from 1": (WORDS, [2, 1, 4], [1, 0, 3], "index1"),
    "from 0, with a number that is a text": (NUMBERS, [2, 0, 3], [2, 0, 3], "index0"),
    "from 1, with a number that is a text": (NUMBERS, [2, 1, 4], [1, 0, 3], "index1"),
    "letters": (WORDS, ["C", "A", "D"], [2, 0, 3], "letter"),
    "texts": (WORDS, ["plot", "film", "song"], [2, 0, 3], "text"),
    "letters beside a text of one letter": (["A", "b", "c", "d"], ["C", "A", "D"], [2, 0, 3], "letter"),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("candidates", "answers", "expected", "rule"), READABLE.values(), ids=READABLE)
def test_one_rule_reads_the_column(table_of, caplog, kind, candidates, answers, expected, rule):
    with caplog.at_level(logging.INFO):
        table, labels = read(table_of(kind, candidates, answers))
    assert (labels, table.answer_as) == (expected, rule)
    assert f"{table.train}: column 'answer' is read as the right candidate's " in caplog.text
    assert f"(--answer-as {rule})" in caplog.text


@pytest.mark.parametrize("kind", ["csv", "tsv", "xlsx"])
def test_texts_that_are_numbers(table_of, kind):
    """Without types "24" and 24 are the same cell; only as texts do they all name a candidate."""
    assert read(table_of(kind, NUMBERS, [24, 2, 120, 8]))[1] == [2, 1, 3, 0]


AMBIGUOUS = {
    "text or number from 0": (SHUFFLED, ["0", "1", "2"], {"text": [1, 2, 3], "index0": [0, 1, 2]}),
    "text or number from 1": (FROM_1, ["4", "1", "2"], {"text": [2, 3, 0], "index1": [3, 0, 1]}),
    "text or letter": (["D", "C", "B", "A"], ["A", "C"], {"text": [3, 1], "letter": [0, 2]}),
    "from 0 or from 1": (WORDS, ["1", "2", "2"], {"index0": [1, 2, 2], "index1": [0, 1, 1]}),
}


@pytest.mark.parametrize("kind", ["csv", "tsv", "xlsx", "json", "parquet"])
@pytest.mark.parametrize(("candidates", "answers", "readings"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_column_that_can_be_read_in_two_ways_is_asked_for(table_of, kind, candidates, answers, readings):
    flags = " or ".join(f"--answer-as {rule}" for rule in readings)
    with pytest.raises(DataError, match=rf"column 'answer' can be read as .* differ for '.' in row 1; give {flags}$"):
        read(table_of(kind, candidates, answers))
    for rule, expected in readings.items():
        assert read(table_of(kind, candidates, answers, answer_as=rule))[1] == expected


def test_typed_numbers_without_a_0_count_from_0_and_say_so(table_of, caplog):
    assert read(table_of("json", WORDS, [1, 2, 2]))[1] == [1, 2, 2]
    assert "no row has a 0; if it counts from 1, give --answer-as index1" in caplog.text
    assert read(table_of("json", WORDS, [1, 2, 2], answer_as="index1"))[1] == [0, 1, 1]


def test_rules_that_agree_need_no_answer(table_of):
    assert read(table_of("csv", ["0", "1", "2"], ["1", "0", "2"], answer_as=None))[1] == [1, 0, 2]
    assert read(table_of("csv", ["A", "B", "C"], ["C", "A", "B"]))[1] == [2, 0, 1]


BAD_ROWS = {
    "beyond the last": (WORDS, [0, 1, 4, 2, 0], "holds '?4'? in column 'answer', which is none of its 4 .*index0"),
    "a letter among numbers": (WORDS, ["0", "1", "B", "2"], "holds 'B' .* is read as the right candidate's number"),
    "a number among texts": (NUMBERS, ["24", "8", "1", "120"], "holds '1' .* candidate's text .--answer-as text"),
    "a truth value": (WORDS, ["0", "1", "True", "2"], "holds 'True'"),
    "nothing": (WORDS, [0, 1, None, 2, 0], "does not say in column 'answer' which candidate is right"),
}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize(("candidates", "answers", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_row_that_does_not_fit_is_a_bad_row(table_of, kind, candidates, answers, message):
    with pytest.raises(DataError, match=f"row 3 {message}"):
        read(table_of(kind, candidates, answers))
    labels = read(table_of(kind, candidates, answers, on_bad_row="skip"))[1]
    assert len(labels) == len(answers) - 1


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_column_with_the_first_of_one_rule_and_the_last_of_the_other_is_asked_for(table_of, kind):
    with pytest.raises(DataError, match="give --answer-as index0 or --answer-as index1"):
        read(table_of(kind, WORDS, [0, 1, 4, 2]))


def test_typed_truth_values_are_no_answers(table_of):
    with pytest.raises(DataError, match="row 1 does not say"):
        read(table_of("json", WORDS[:2], [True, False]))


def test_the_rule_of_the_training_rows_reads_the_other_tables(table_of, tmp_path):
    train = table_of("jsonl", WORDS, [2, 1, 4, 3]).train
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"question": "q", "choices": WORDS, "answer": 2}))
    sources = {"train": train, "test": str(test)}
    _, tables = read_labelled_tables(Table(train, test=str(test)), find_format("multiple_choice"), sources)
    assert tables["test"].rows.labels == [1]
    test.write_text(json.dumps({"question": "q", "choices": WORDS, "answer": 0}))
    with pytest.raises(DataError, match=r"test.jsonl: row 1 holds 0 .*--answer-as index1"):
        read_labelled_tables(Table(train, test=str(test)), find_format("multiple_choice"), sources)


@pytest.mark.ray
def test_rows_that_stream_are_read_by_the_rule_of_the_whole_column(table_of, tmp_path, tiny_model, ray_session):
    """The first blocks could be counted from 0 or 1."""
    task_format = find_format("multiple_choice")
    table = table_of("csv", NUMBERS, ["2"] * 20 + ["4", "1"], test_size=2)
    encoding = Encoding(load_tokenizer(tiny_model), (), 16, table)
    splits = stream_splits(table, task_format, encoding, tiny_model, block_rows=7)
    assert splits.table.answer_as == "index1"
    train = splits.train.examples.take(range(splits.train.num_rows)).labels.tolist()
    assert sorted(train + splits.test.examples.labels.tolist()) == [0, *[1] * 20, 3]
    table = table_of("csv", NUMBERS, ["2"] * 20, test_size=2)
    with pytest.raises(DataError, match="give --answer-as text or --answer-as index0"):
        stream_splits(table, task_format, encoding, tiny_model, block_rows=7)
