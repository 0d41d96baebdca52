"""Files of any format are predicted row by row: no cell of the input changes, and no answer depends on parts, batches,
the engine, or on where a start was killed."""

import bz2
import csv
import gzip
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

import bertjax
from bertjax.errors import DataError, RunFolderError, UserError
from bertjax.inference.batch.local_engine import answered_here
from bertjax.inference.batch.row_answers import Request
from bertjax.inference.decision_rule import DecisionRule
from bertjax.tasks.postprocess import AnswerOptions

ATOL = 1e-6
HOSTILE = [
    ("007", "the film", "good and great .", "12345678901234567890"),
    ("008", 'a "very" \U0001f600 book', "", "1.0"),
    ("009", "a song\nof two\r\nlines", "bad\tand, dull .", "NA"),
    ("010", "what a plot\r", "it\x00was\x01so\x1b[31m", " spaced "),
    ("011", "=1+1 so the film", "null", ""),
    ("012", "very " * 200, "é\u200bñ\ufeff", "None"),
    ("013", ".", "'", "-0"),
]
COLUMNS = ["id", "title", "body", "n"]
ALWAYS_GOOD = DecisionRule("rule.py", "def decide(prediction, row):\n    return 'good'\n")


@pytest.fixture
def hostile(tmp_path) -> Path:
    with (tmp_path / "hostile.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([COLUMNS, *HOSTILE])
    return tmp_path / "hostile.csv"


def read_csv(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=delimiter))


@pytest.mark.parametrize(("out", "delimiter"), [("out.csv", ","), ("out.tsv", "\t")])
def test_no_cell_of_a_csv_changes(predict, hostile, predictor, tmp_path, out, delimiter):
    """Leading zeros, large integers, quotes, lone carriage returns, control characters: as Python's csv module reads
    both; the answers are those of a predictor on the same rows."""
    result = predict(hostile, out)
    header, *rows = read_csv(tmp_path / out, delimiter)
    assert header == [*COLUMNS, "label", "probability"]
    assert [tuple(row[:4]) for row in rows] == HOSTILE
    assert (result.answered, result.left_out, result.columns) == (7, 0, tuple(header))
    expected = predictor([{"title": title, "body": body or None} for _, title, body, _ in HOSTILE])
    assert [row[4] for row in rows] == [answer["label"] for answer in expected]
    found = [float(row[5]) for row in rows]
    np.testing.assert_allclose(found, [answer["probability"] for answer in expected], atol=ATOL, rtol=0)
    assert not list(tmp_path.glob("*.parts"))


def test_json_lines_and_parquet_of_a_csv_hold_its_text(predict, hostile, tmp_path):
    texts = [{name: cell or None for name, cell in zip(COLUMNS, row, strict=True)} for row in HOSTILE]
    predict(hostile, "out.jsonl", request=Request(AnswerOptions(top_k=1), probabilities=True))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").split("\n")[:-1]]
    assert [{name: line[name] for name in COLUMNS} for line in lines] == texts
    assert [line["probabilities"][line["label"]] for line in lines] == [line["probability"] for line in lines]
    assert [line["top"] for line in lines] == [
        [{"label": line["label"], "probability": line["probability"]}] for line in lines
    ]
    predict(hostile, "out.parquet", request=Request(probabilities=True))
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert frame[COLUMNS].astype(object).where(frame[COLUMNS].notna(), None).to_dict("records") == texts
    assert frame["probabilities"].tolist() == [line["probabilities"] for line in lines]


JSON_ROWS = [
    {"title": "the film", "body": "good", "n": 9007199254740993, "mixed": 1, "nested": {"a": [1, None]}, "flag": True},
    {"title": "a book", "body": None, "n": None, "mixed": "1", "nested": {"a": []}, "flag": None},
    {"title": "so the plot", "late": 0.1, "huge": 2**70, "share": 1},
    {"title": "what a song", "body": "bad", "late": None, "huge": 1, "share": 0.5, "words": ["a", "b"]},
]


def test_values_of_json_lines_stay_what_they_are(predict, tmp_path):
    """Keys that only some records have are columns of all rows; integers are exact; what mixes types is JSON text where
    a format has types."""
    (tmp_path / "in.jsonl").write_text("\n\n".join(map(json.dumps, JSON_ROWS)) + "\n")
    predict(tmp_path / "in.jsonl", "out.jsonl")
    names = ["title", "body", "n", "mixed", "nested", "flag", "late", "huge", "share", "words"]
    whole = [{name: row.get(name) for name in names} for row in JSON_ROWS]
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [list(row) for row in found] == [[*names, "label", "probability"]] * 4
    assert [{name: row[name] for name in names} for row in found] == whole

    predict(tmp_path / "in.jsonl", "out.csv")
    header, *rows = read_csv(tmp_path / "out.csv")
    assert header == [*names, "label", "probability"]
    assert rows[0][:6] == ["the film", "good", "9007199254740993", "1", '{"a": [1, null]}', "true"]
    assert rows[3][6:10] == ["", "1", "0.5", '["a", "b"]']

    predict(tmp_path / "in.jsonl", "parts", rows_per_part=1)
    columns = parquet.read_table(tmp_path / "parts").to_pydict()
    assert columns["n"] == [9007199254740993, None, None, None]
    assert columns["mixed"] == ["1", '"1"', None, None]
    assert columns["huge"] == [None, None, str(2**70), "1"]
    assert columns["share"] == [None, None, 1.0, 0.5]
    assert columns["words"] == [None, None, None, ["a", "b"]]
    assert columns["nested"] == [{"a": [1, None]}, {"a": []}, None, None]


def test_parquet_keeps_its_types(predict, tmp_path):
    frame = pd.DataFrame(
        {
            "title": ["the film", "a book", "so what"],
            "body": ["good", None, "bad"],
            "count": pd.array([1, None, 2**60 + 1], "Int64"),
            "when": pd.to_datetime(["2020-01-01 10:00", None, "2021-01-01 00:00"]).tz_localize("UTC"),
            "share": np.array([0.1, np.nan, 2], np.float32),
            "kind": pd.Categorical(["x", "y", None]),
            "tags": [["a"], [], None],
        }
    )
    frame.to_parquet(tmp_path / "in.parquet")
    predict(tmp_path / "in.parquet", "out.parquet")
    found = pd.read_parquet(tmp_path / "out.parquet")
    for name in ("title", "body", "when", "share"):
        pd.testing.assert_series_equal(found[name], frame[name])
    assert parquet.read_table(tmp_path / "out.parquet")["count"].to_pylist() == [1, None, 2**60 + 1]
    assert [None if pd.isna(kind) else kind for kind in found["kind"]] == ["x", "y", None]
    assert [None if tags is None else list(tags) for tags in found["tags"]] == [["a"], [], None]
    predict(tmp_path / "in.parquet", "out.jsonl")
    (first, *_) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert (first["count"], first["when"], first["tags"]) == (1, "2020-01-01 10:00:00+00:00", ["a"])


@pytest.mark.parametrize(
    ("name", "compress"), [("in.txt", bytes), ("in.txt.gz", gzip.compress), ("in.txt.bz2", bz2.compress)]
)
def test_lines_of_plain_text_stand_for_the_texts(predict, predictor, tmp_path, name, compress):
    """The model has two columns of text; a line is all of them."""
    lines = ["the film good", "", "a book \U0001f600", "so bad"]
    (tmp_path / name).write_bytes(compress("\n".join(lines).encode()))
    predict(tmp_path / name, "out.csv")
    header, *rows = read_csv(tmp_path / "out.csv")
    texts = [line for line in lines if line]
    assert header == ["text", "label", "probability"]
    assert [row[:2] for row in rows] == [
        [text, answer["label"]] for text, answer in zip(texts, predictor(texts), strict=True)
    ]


def test_files_of_a_pattern_in_the_order_of_their_names(predict, tmp_path):
    """Columns in any order; parts cross files."""
    for number, columns in ((2, ["body", "title"]), (1, ["title", "body"]), (10, ["title", "body"])):
        rows = pd.DataFrame({name: [f"{name} {number} {i}" for i in range(4)] for name in columns})
        rows.to_csv(tmp_path / f"in-{number:02d}.csv", index=False)
    predict(tmp_path / "in-*.csv", "out", rows_per_part=5, format_name="csv")
    parts = sorted((tmp_path / "out").glob("part-*.csv"))
    found = [pd.read_csv(part) for part in parts]
    assert [len(part) for part in found] == [5, 5, 2]
    assert pd.concat(found)["title"].tolist() == [f"title {n} {i}" for n in (1, 2, 10) for i in range(4)]


@pytest.mark.parametrize(
    ("rows_per_part", "batch_size"), [(1000, 1000), (103, 1), (103, 7), (1, 50), (10, 10), (102, 64), (104, 103)]
)
def test_neither_parts_nor_batches_change_an_answer(predict, many, predictor, tmp_path, rows_per_part, batch_size):
    predict(many, "out.csv", rows_per_part, batch_size)
    frame, rows = pd.read_csv(tmp_path / "out.csv", dtype={"id": str}), pd.read_csv(many, dtype=str)
    pd.testing.assert_frame_equal(frame[rows.columns], rows)
    expected = pd.DataFrame(predictor(rows))
    assert frame["label"].tolist() == expected["label"].tolist()
    np.testing.assert_allclose(frame["probability"], expected["probability"], atol=ATOL, rtol=0)


class Killed(BaseException):
    """The end of a process."""


def killed_after(num_chunks: int):
    """An engine that dies."""

    def engine(*arguments, **named) -> Iterator:
        answered = answered_here(*arguments, **named)
        for _ in range(num_chunks):
            yield next(answered)
        answered.close()
        raise Killed

    return engine


@pytest.mark.parametrize("out", ["out.csv", "out.jsonl", "out.parquet", "parts"])
def test_a_start_that_was_killed_goes_on_after_its_parts(predict, many, tmp_path, out):
    """Three times, with another batch size each; bytes as of one start. The second start computes no finished part."""
    whole = f"whole-{out}"
    predict(many, whole, rows_per_part=20, batch_size=20)
    with pytest.raises(Killed):
        predict(many, out, rows_per_part=20, batch_size=7, engine=killed_after(8))
    folder = tmp_path / (out if out == "parts" else f"{out}.parts")
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    assert len(before) == 2
    if out != "parts":
        assert not (tmp_path / out).exists()
    with pytest.raises(RunFolderError, match="--resume goes on with them, --overwrite begins again"):
        predict(many, out, rows_per_part=20)
    with pytest.raises(Killed):
        predict(many, out, rows_per_part=20, batch_size=50, engine=killed_after(2), resume=True)
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    assert len(after) == 3
    assert before.items() <= after.items()
    result = predict(many, out, rows_per_part=20, batch_size=20, resume=True)
    assert result.answered == 103
    read = pd.read_csv if out.endswith("csv") else pd.read_parquet
    if out.endswith("jsonl"):
        read = lambda path: pd.read_json(path, lines=True, dtype=False)  # noqa: E731
    found, expected = read(tmp_path / out), read(tmp_path / whole)
    np.testing.assert_allclose(found.pop("probability"), expected.pop("probability"), atol=ATOL, rtol=0)
    pd.testing.assert_frame_equal(found, expected)


def test_a_finished_folder_is_resumed_without_computing(predict, many):
    predict(many, "parts", rows_per_part=50)
    assert predict(many, "parts", rows_per_part=50, resume=True, engine=killed_after(0)).answered == 103


def test_what_is_not_as_it_was_written_is_computed_again(predict, many, tmp_path, caplog):
    predict(many, "parts", rows_per_part=20, format_name="jsonl")
    whole = [path.read_bytes() for path in sorted((tmp_path / "parts").glob("part-*"))]
    (tmp_path / "parts" / "part-00003.jsonl").write_text("{}\n")
    with caplog.at_level(logging.WARNING):
        predict(many, "parts", rows_per_part=20, format_name="jsonl", resume=True)
    assert "part-00003.jsonl is not as it was written; it is computed again" in caplog.text
    assert [path.read_bytes() for path in sorted((tmp_path / "parts").glob("part-*"))] == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"request": Request(AnswerOptions(threshold=0.9))}, "threshold was None, now 0.9"),
        ({"request": Request(probabilities=True)}, "probabilities was False, now True"),
        ({"request": Request(prefix="p_")}, "prefix was '', now 'p_'"),
        ({"request": Request(rule=ALWAYS_GOOD)}, "rule was None, now '[0-9a-f]{16}'"),
        ({"max_length": 5}, "max_length was 10, now 5"),
        ({"columns": {"text": ("title",)}}, r"data.text was \['title', 'body'\], now \['title'\]"),
        ({"rows_per_part": 21}, "rows_per_part was 20, now 21"),
        ({"out": "out.jsonl"}, None),
        ({"execution": bertjax.Execution(weights="int8")}, "execution.weights was 'float32', now 'int8'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_parts_of_another_job_are_refused(predict, many, tmp_path, changes, message):
    with pytest.raises(Killed):
        predict(many, "out.csv", rows_per_part=20, engine=killed_after(11))
    job = {"data": many, "out": "out.csv", "rows_per_part": 20, "resume": True, **changes}
    if message is None:  # another output is another job
        assert predict(**job).answered == 103
        return
    with pytest.raises(RunFolderError, match=f"holds parts of another prediction: .*{message}.*--overwrite"):
        predict(**job)


def test_parts_of_other_rows_or_weights_are_refused(predict, many, tiny_model, model, tmp_path):
    data, other = tmp_path / "data.csv", tmp_path / "model"
    shutil.copy(many, data)
    with pytest.raises(Killed):
        predict(data, "out.csv", rows_per_part=20, engine=killed_after(11))
    with data.open("a") as file:
        file.write("0103,good,bad\n")
    with pytest.raises(RunFolderError, match="parts of another prediction: file 1 was"):
        predict(data, "out.csv", rows_per_part=20, resume=True)
    shutil.copy(many, data)
    shutil.copytree(model, other)
    weights = other / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunFolderError, match="parts of another prediction: weights was"):
        predict(data, "out.csv", rows_per_part=20, resume=True, model=str(other))
    assert predict(data, "out.csv", rows_per_part=20, resume=True).answered == 103


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace('"version"', "version", 1), "line 1: is not valid JSON"),
        (lambda text: text.replace('"plan"', '"plans"', 1), "line 1: is no line of a manifest"),
        (lambda text: text.replace('"columns": ["id"', '"columns": [{}', 1), "line 1: is no line"),
        (lambda text: text.replace('"part": 1', '"part": "1"'), "line 3: is no line of a manifest"),
        (lambda text: text.replace('"bytes"', '"sizes"'), "line 2: is no line of a manifest"),
        (lambda text: "[]\n" + text, "line 1: must be a JSON object"),
        (lambda text: text + '{"part": 2, "rows": 20, "answ', None),
        (lambda text: "", None),
    ],
    ids=["no-json", "no-plan", "columns", "type", "key", "array", "torn", "empty"],
)
def test_a_damaged_manifest_is_one_line(predict, many, tmp_path, damage, message):
    with pytest.raises(Killed):
        predict(many, "out.csv", rows_per_part=20, engine=killed_after(21))
    manifest = tmp_path / "out.csv.parts" / "_manifest.jsonl"
    manifest.write_text(damage(manifest.read_text()))
    if message is not None:
        with pytest.raises(RunFolderError, match=message):
            predict(many, "out.csv", rows_per_part=20, resume=True)
    again = {"resume": True} if message is None else {"overwrite": True}
    assert predict(many, "out.csv", rows_per_part=20, **again).answered == 103


BAD_ROWS = 'id,title,body\n1,the film,good\n2,,\n3,a,b,c\n4,so,\n\n"5\n"," ",\n6,what,a\n7,x\n'


def test_bad_rows_stop_with_their_line_or_are_listed(predict, tmp_path):
    (tmp_path / "in.csv").write_text(BAD_ROWS)
    with pytest.raises(DataError, match=r"in.csv: line 3 has no text in title and body; .*--on-bad-row skip"):
        predict(tmp_path / "in.csv", "out.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv"}
    skip = {"columns": {"on_bad_row": "skip"}, "bad_rows": tmp_path / "bad" / "rows.jsonl"}
    result = predict(tmp_path / "in.csv", "out.csv", rows_per_part=2, **skip)
    assert (result.answered, result.left_out) == (3, 4)
    assert [row[0] for row in read_csv(tmp_path / "out.csv")] == ["id", "1", "4", "6"]
    listed = [json.loads(line) for line in (tmp_path / "bad" / "rows.jsonl").read_text().splitlines()]
    assert [row["line"] for row in listed] == [3, 4, 7, 10]
    assert listed[1]["reason"].startswith("has 4 fields, the header has 3")
    assert {row["file"] for row in listed} == {str(tmp_path / "in.csv")}
    with pytest.raises(RunFolderError, match="--bad-rows .* exists; --overwrite replaces it"):
        predict(tmp_path / "in.csv", "other.csv", **skip)


@pytest.mark.parametrize("rows_per_part", [1, 2, 3, 100])
def test_no_bad_row_is_lost_or_listed_twice_over_a_kill(predict, tmp_path, rows_per_part):
    """Also those at the end of files, behind the last readable row, and parts without a row that has an answer."""
    for number in range(3):
        (tmp_path / f"in{number}.csv").write_text(BAD_ROWS + "8,,\n9,,\n10,,\n11,x,y,z\n")
    skip = {"columns": {"on_bad_row": "skip"}, "bad_rows": tmp_path / "bad.jsonl", "rows_per_part": rows_per_part}
    out = {"data": tmp_path / "in*.csv", "out": "out.csv", **skip}
    with pytest.raises(Killed):
        predict(**out, engine=killed_after(4))
    result = predict(**out, resume=True)
    assert (result.answered, result.left_out) == (9, 24)
    assert [row[0] for row in read_csv(tmp_path / "out.csv")] == ["id", *["1", "4", "6"] * 3]
    listed = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    places = [(row["file"][-5], row["line"]) for row in listed]
    assert sorted(places) == [(f, n) for f in "012" for n in (3, 4, 7, 10, 11, 12, 13, 14)]


def test_bad_rows_of_json_lines_and_parquet(predict, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"title": "a", "body": "b"}\n\n{"title": 3}\n{"title": "\\ud800"}\nx\n')
    skip = {"columns": {"on_bad_row": "skip"}, "bad_rows": tmp_path / "bad.jsonl", "overwrite": True}
    assert predict(tmp_path / "in.jsonl", "out.csv", **skip).answered == 1
    listed = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert sorted(row["line"] for row in listed) == [3, 4, 5]
    pd.DataFrame({"title": ["a", None, "b"], "body": None}).to_parquet(tmp_path / "in.parquet")
    assert predict(tmp_path / "in.parquet", "out.csv", **skip).answered == 2
    (row,) = map(json.loads, (tmp_path / "bad.jsonl").read_text().splitlines())
    assert row["row"] == 2
    with pytest.raises(DataError, match="in.parquet: row 2 has no text"):
        predict(tmp_path / "in.parquet", "out.csv", overwrite=True)


def test_an_output_that_is_overwritten_stays_until_the_new_one_is_whole(predict, many, tmp_path):
    predict(many, "out.csv")
    before = (tmp_path / "out.csv").read_bytes()
    with pytest.raises(UserError, match="out.csv exists and no part of an earlier start is left to go on with; --over"):
        predict(many, "out.csv", resume=True)
    with pytest.raises(Killed):
        predict(many, "out.csv", engine=killed_after(5), overwrite=True, request=Request(probabilities=True))
    assert (tmp_path / "out.csv").read_bytes() == before
    predict(many, "out.csv", resume=True, request=Request(probabilities=True))
    assert "probabilities" in (tmp_path / "out.csv").read_text()


def test_from_python_the_answers_are_those_of_a_predictor(model, predictor, many, one_network, tmp_path):
    done = bertjax.predict_files(model, many, tmp_path / "answers.parquet", probabilities=True)
    rows, found = pd.read_csv(many, dtype=str), pd.read_parquet(tmp_path / "answers.parquet")
    answers = predictor(rows)
    assert (done.answered, done.left_out) == (103, 0)
    assert found["label"].tolist() == [answer["label"] for answer in answers]
    assert found["id"].tolist() == rows["id"].tolist()
    with pytest.raises(RunFolderError, match="--overwrite"):
        bertjax.predict_files(model, many, tmp_path / "answers.parquet")
