"""Cleaned tables: which rows go and why, that the others stay as they are in every format, and what is refused."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from pyarrow import parquet

from bertjax.cli.main import main
from bertjax.data.read.content import Reading
from bertjax.data.read.sources import read_table
from tests.support import processes
from tests.support.tables import columns_of, write_frame

LONG = "the film was not a very good one and the plot was dull"
ROWS = [
    (LONG, "a"),  # 1
    ("it was great", "a"),
    (LONG, "a"),  # duplicates row 1
    (LONG.replace("dull", "bad"), "b"),  # 4: nearly row 1
    (None, "a"),  # empty
    ("a song", None),  # empty
    ("so what", "a"),  # 7: contradicts row 8
    ("So  WHAT", "b"),
    ("who and when", "b"),  # 9: leaks
    ("<b>good</b>, \"very\" good; 'so'\tgood 猫 😀", "b"),  # 10
    (LONG.replace("dull", "good"), "b"),  # 11: nearly row 1
]
ALL = ("empty", "leaks", "contradictions", "duplicates", "near_duplicates")
REASONS = {3: "duplicates", 4: "near_duplicates", 5: "empty", 6: "empty", 7: "contradictions", 8: "contradictions",
           9: "leaks", 11: "near_duplicates"}  # fmt: skip
KEPT = [1, 2, 10]


@pytest.fixture
def clean(in_folder, tiny_model, capsys):
    """Runs `bertjax eda --write-clean`; returns the rows of the file of dropped ones."""

    def run(source, target, *flags, drop=ALL, test="test.csv", status=0):
        write_frame(pd.DataFrame({"text": ["Who and  when"], "label": ["b"]}), Path("test.csv"))
        sides = ["--test", test] if test else []
        command = ["eda", "--model", str(tiny_model), "--data", str(source), "--out", "out", "--overwrite", *sides]
        assert main([*command, "--write-clean", str(target), "--drop", *drop, *flags]) == status
        listed = Path(target).with_name(f"{Path(target).stem}.dropped.jsonl")
        return [json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines()]

    return run


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx"])
def test_each_format_keeps_its_rows_and_columns(clean, suffix):
    frame = pd.DataFrame(ROWS, columns=["text", "label"]).assign(number=range(1, 12))
    write_frame(frame, Path(f"table{suffix}"))
    dropped = clean(f"table{suffix}", f"clean{suffix}")
    assert {row["row"]: row["reason"] for row in dropped} == REASONS
    before, after = columns_of(f"table{suffix}"), columns_of(f"clean{suffix}")
    assert list(before) == list(after)
    assert {name: [cells[i - 1] for i in KEPT] for name, cells in before.items()} == after


def test_each_row_says_what_it_repeats(clean):
    write_frame(pd.DataFrame(ROWS, columns=["text", "label"]), Path("table.csv"))
    dropped = {row["row"]: row for row in clean("table.csv", "clean.csv")}
    assert (dropped[3]["of"], dropped[3]["similarity"]) == (1, None)
    assert dropped[4]["of"] == 1
    words, others = set(LONG.split()), set(ROWS[3][0].split())
    assert dropped[4]["similarity"] == pytest.approx(len(words & others) / len(words | others), abs=1e-4)
    assert dropped[9]["explanation"] == "its text stands in the test table too"


@pytest.mark.parametrize("reason", ALL)
def test_only_what_is_named_is_dropped(clean, reason):
    write_frame(pd.DataFrame(ROWS, columns=["text", "label"]), Path("table.csv"))
    dropped = {row["row"] for row in clean("table.csv", "clean.csv", drop=(reason,))}
    # Without `duplicates`, the copies of a text are no near-duplicates; without `contradictions`, they stay.
    expected = {row for row, why in REASONS.items() if why == reason} | ({8} if reason == "near_duplicates" else set())
    assert dropped == expected


def test_a_row_that_is_near_a_dropped_one_alone_stays(clean):
    # The second is near the first, the third near the second and not the first: it has no row to stand for it.
    words = [f"w{i}" for i in range(16)]
    texts = [" ".join(words[:10]), " ".join(words[2:12]), " ".join(words[4:14])]
    write_frame(pd.DataFrame({"text": texts, "label": ["a", "b", "a"]}), Path("table.csv"))
    assert [row["row"] for row in clean("table.csv", "clean.csv", drop=("near_duplicates",))] == [2]


def test_the_same_seed_keeps_the_same_rows(clean):
    words = ["good", "bad", "film", "book", "plot", "song", "great", "dull"]
    texts = [" ".join(words[(i * k) % 8] for k in range(1, 6)) for i in range(60)]
    write_frame(pd.DataFrame({"text": texts, "label": ["a", "b"] * 30}), Path("table.csv"))
    assert clean("table.csv", "one.csv", "--seed", "3") == clean("table.csv", "two.csv", "--seed", "3")
    assert Path("one.csv").read_bytes() == Path("two.csv").read_bytes()


def test_parquet_keeps_its_types_and_metadata(clean):
    frame = pd.DataFrame({"text": ["a film", "a film", "the book"], "label": [0, 0, 1], "list": [[1], [2], [3]]})
    frame.to_parquet("table.parquet")
    clean("table.parquet", "clean.parquet", drop=("duplicates",), test=None)
    before, after = parquet.read_table("table.parquet"), parquet.read_table("clean.parquet")
    assert before.schema.equals(after.schema, check_metadata=True)
    assert after.to_pylist() == before.take([0, 2]).to_pylist()


def test_a_delimiter_that_was_named_is_kept(clean):
    Path("table.csv").write_text('text;label\n"a; film";x\n"a; film";x\nthe book;y\n')
    clean("table.csv", "clean.csv", "--delimiter", ";", drop=("duplicates",), test=None)
    with Path("clean.csv").open(newline="") as file:
        assert list(csv.reader(file, delimiter=";")) == [["text", "label"], ["a; film", "x"], ["the book", "y"]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.conll", "a O\nfilm B-F\n\na O\nfilm B-F\n\nthe O\nbook B-B\n"),
        ("table.csv", "Sentence #,Word,Tag\n1,a,O\n1,film,B-F\n2,a,O\n2,film,B-F\n3,the,O\n3,book,B-B\n"),
        ("table.jsonl", '{"tokens": ["a"], "tags": ["O"]}\n{"tokens": ["a"], "tags": ["O"]}\n'),
    ],
    ids=["conll", "a word a row", "lists"],
)
def test_sentences_are_written_as_they_were(clean, name, content):
    Path(name).write_text(content)
    target = name.replace("table", "clean")
    clean(name, target, "--task", "token_classification", drop=("duplicates",), test=None)
    before, after = (read_table(source, Reading()).frame for source in (name, target))
    rows = {".conll": [0, 2], ".csv": [0, 1, 4, 5], ".jsonl": [0]}[Path(name).suffix]
    columns = [column for column in before if column != "place of the row"]
    assert after[columns].to_dict("list") == before[columns].iloc[rows].to_dict("list")


def test_a_sample_is_not_what_is_cleaned(clean):
    write_frame(pd.DataFrame(ROWS, columns=["text", "label"]), Path("table.csv"))
    assert len(clean("table.csv", "clean.csv", "--sample-rows", "2")) == len(REASONS)


@pytest.mark.parametrize(
    ("target", "flags", "message"),
    [
        ("there.csv", ["--drop", "empty"], "there.csv exists; --overwrite replaces it"),
        ("listed.csv", ["--drop", "empty"], "listed.dropped.jsonl exists; --overwrite replaces it"),
        ("table.csv", ["--drop", "empty", "--overwrite"], "is the table itself"),
        ("clean.csv", [], "--write-clean needs --drop"),
        ("clean.csv", ["--drop", "leaks"], "--drop leaks needs --validation or --test"),
        ("clean.csv", ["--drop", "most"], "invalid choice 'most'"),
        ("clean.foo", ["--drop", "empty"], "unknown format"),
        ("clean.csv.gz", ["--drop", "empty"], "would be compressed; name it clean.csv"),
        ("no/clean.csv", ["--drop", "empty"], "the folder no does not exist"),
        ("clean.csv", ["--drop", "contradictions"], "--drop leaves no row"),
        ("clean.txt", ["--drop", "empty"], "cannot be written as .txt"),
    ],
)
def test_what_cannot_be_written(in_folder, tiny_model, capsys, target, flags, message):
    Path("table.csv").write_text("text,label\na film,x\na film,y\n")
    Path("there.csv").write_text("mine\n")
    Path("listed.dropped.jsonl").write_text("mine\n")
    before = {path.name: path.read_bytes() for path in in_folder.iterdir()}
    command = ["eda", "--model", str(tiny_model), "--data", "table.csv", "--out", "out", "--write-clean", target]
    assert main([*command, *flags]) == 2
    assert message in processes.complaint(capsys.readouterr().err)
    assert {path.name: path.read_bytes() for path in in_folder.iterdir()} == before


def test_drop_needs_a_file(in_folder, capsys):
    assert main(["eda", "--data", "table.csv", "--drop", "empty"]) == 2
    assert "--drop needs --write-clean" in processes.complaint(capsys.readouterr().err)
