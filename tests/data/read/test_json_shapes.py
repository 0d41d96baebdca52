"""JSON documents are read in every shape that pandas and SQuAD's tools write, and an ambiguous one is refused."""

import json
import logging

import pandas as pd
import pytest

from bertjax.data.read.sources import read_table
from bertjax.data.table import Table
from bertjax.errors import DataError
from tests.support.tables import CONTEXT, QUESTIONS, columns_of, splits_of, squad

FRAME = pd.DataFrame({"text": ["a", "b", "c"], "label": [0, 1, 0]})
ROWS = FRAME.to_dict("list")
RECORDS = FRAME.to_dict("records")
NAMED = FRAME.set_index(pd.Index(["r1", "r2", "r3"]))
SHUFFLED = FRAME.set_index(pd.Index([7, 30, 2]))

SHAPES = {
    "records": (FRAME.to_json(orient="records"), ""),
    "columns": (FRAME.to_json(orient="columns"), ""),
    "columns of a shuffled frame": (SHUFFLED.to_json(), ""),
    "columns of a frame with names of rows": (NAMED.to_json(), ""),
    "split": (FRAME.to_json(orient="split"), "its rows are in 'data', and their columns in 'columns'"),
    "split without an index": (FRAME.to_json(orient="split", index=False), "its rows are in 'data'"),
    "index": (FRAME.to_json(orient="index"), "its rows are the values of its object"),
    "index of a shuffled frame": (SHUFFLED.to_json(orient="index"), "its rows are the values of its object"),
    "table": (FRAME.to_json(orient="table", index=False), "its rows are in 'data'"),
    "data": (json.dumps({"data": RECORDS}), "its rows are in 'data'"),
    "data and more": (json.dumps({"version": "1.0", "info": {"by": "me"}, "data": RECORDS}), "its rows are in 'data'"),
    "another name": (json.dumps({"examples": RECORDS, "license": None}), "its rows are in 'examples'"),
}


@pytest.mark.parametrize(("content", "said"), SHAPES.values(), ids=SHAPES)
def test_every_shape_that_pandas_writes(save, caplog, content, said):
    with caplog.at_level(logging.INFO):
        assert columns_of(save("t.json", content)) == ROWS
    assert said in " ".join(caplog.messages)
    assert bool(caplog.messages) == bool(said)


def test_rows_of_an_object_may_lack_cells(save):
    content = '{"r1": {"text": "a", "label": 0}, "r2": {"text": "b"}}'
    assert columns_of(save("t.json", content)) == {"text": ["a", "b"], "label": [0, None]}


def test_a_column_of_objects_is_a_column(save):
    columns = {"question": ["a", "b"], "answers": [{"text": ["x"]}, {"text": []}]}
    assert columns_of(save("t.json", json.dumps(columns))) == columns


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NAMED.to_json(orient="index"), "each of which may be a row or a column; save it as an array of objects"),
        (
            json.dumps({"train": RECORDS, "test": RECORDS}),
            "several tables, 'train', 'test'; save each as its own file$",
        ),
        (json.dumps({"train": RECORDS, "test": RECORDS[:1]}), "holds several tables, 'train', 'test'"),
        (json.dumps({"data": RECORDS, "names": ["x", "y"]}), "is no table: its columns have different rows$"),
        (json.dumps({"data": [*RECORDS, 1]}), "its columns are data$"),
        (json.dumps({"columns": ["text", "label"], "data": [["a", "x"], ["b"]]}), "its columns are columns, data$"),
    ],
)
def test_a_shape_that_can_be_read_in_two_ways_is_refused(save, content, message):
    with pytest.raises(DataError, match=message):
        splits_of(Table(save("t.json", content)))


PARAGRAPHS = squad(*QUESTIONS)["data"][0]["paragraphs"]
ANSWERED = {
    "SQuAD": squad(*QUESTIONS),
    "its articles": squad(*QUESTIONS)["data"],
    "its paragraphs": PARAGRAPHS,
    "its paragraphs, below data": {"version": 2, "data": PARAGRAPHS},
    "a paragraph for each question": [{"context": CONTEXT, "qas": [qas]} for qas in PARAGRAPHS[0]["qas"]],
}


@pytest.mark.parametrize("content", ANSWERED.values(), ids=ANSWERED)
def test_every_nesting_of_questions(save, caplog, content):
    """A row for each question, as SQuAD's own evaluation reads its file."""
    with caplog.at_level(logging.INFO):
        found = read_table(save("t.json", json.dumps(content))).frame
    assert found["id"].tolist() == [name for name, _, _ in QUESTIONS]
    assert found["question"].tolist() == [question for _, question, _ in QUESTIONS]
    assert found["context"].tolist() == [CONTEXT] * 3
    assert [answers[0]["text"] for answers in found["answers"]] == [answer for _, _, answer in QUESTIONS]
    assert not caplog.messages


def test_questions_of_json_lines_and_questions_without_an_answer(save):
    paragraph = squad(("q1", "what ?", "song"), ("q2", "who ?", None), version="v2.0")["data"][0]["paragraphs"][0]
    lines = json.dumps(paragraph) + "\n" + json.dumps({"context": "so", "qas": [{"question": "why ?"}]})
    found = columns_of(save("t.jsonl", lines))
    assert found["question"] == ["what ?", "who ?", "why ?"]
    assert found["context"] == [CONTEXT, CONTEXT, "so"]
    assert found["answers"][1:] == [[], None]
