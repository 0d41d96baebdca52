"""`bertjax eda` as a user runs it: every task, odd tables, the page, and what is refused."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import bertjax
from bertjax.cli.main import main
from bertjax.eda.findings import plain
from bertjax.errors import ConfigError
from tests.support import processes
from tests.support.tables import TABLES
from tests.support.tracking import runs_of

FLAGS = {
    "next_sentence": ["--pair-columns", "next"],
    "multiple_choice": ["--candidates", "choices", "--label-column", "answer"],
    "sentence_embedding": ["--pair-columns", "text2"],
}
HOSTILE = [
    ("<script>alert(1)</script> & \"quotes\"", "<b>bold</b>"),
    ("</script></style><img src=x onerror=alert(1)>", "a&b"),
    ("I 😀 love 🎉", "😀"),
    ("مرحبا بالعالم", "عربي"),
    ("我喜欢这部电影", "中文"),
    ("ภาษาไทยไม่มีช่องว่าง", "ไทย"),
    ("red \x1b[31m and {{ 1 + 1 }} {% raw %}", "$x$"),
    ("-" * 50 + "x" * 500, "long " * 40),
    ("same", "a"),
    ("same", "a\u200b"),
]  # fmt: skip


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def look(in_folder, tiny_model):
    """Runs `bertjax eda` on a table of the given content; returns the numbers."""

    def run(content, *flags, name="table.csv"):
        if isinstance(content, str | bytes):
            Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        elif content is not None:
            Path(name).write_text("".join(json.dumps(row) + "\n" for row in content))
        command = [
            "eda",
            "--model",
            str(tiny_model),
            "--data",
            name,
            "--out",
            "out",
            "--overwrite",
            "--max-length",
            "40",
        ]
        assert main([*command, *flags]) == 0
        return json.loads(Path("out/eda.json").read_text())

    return run


def page() -> Page:
    return Page(Path("out/eda.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("task", TABLES)
def test_every_task_has_a_page(look, task):
    found = look(TABLES[task], "--task", task, *FLAGS.get(task, []), name="table.jsonl")
    assert (found["task"], found["rows"], found["with_text"]) == (task, 48, 48)
    expected = {
        "classification": "balance", "multi_label": "balance", "next_sentence": "balance", "regression": "numbers",
        "token_classification": "entities", "question_answering": "answers", "sentence_embedding": "numbers",
    }.get(task)  # fmt: skip
    assert expected is None or found[expected]
    sections = [attributes.get("id") for tag, attributes in page().tags if tag == "h2"]
    links = [attributes["href"].removeprefix("#") for tag, attributes in page().tags if tag == "a"]
    assert links == sections


def test_the_page_needs_no_other_file(look):
    rows = [row | {"day": f"2024-{i % 12 + 1:02}-01"} for i, row in enumerate(TABLES["classification"])]
    found = look(rows, "--date-column", "day", name="table.jsonl")
    assert len(found["drift"]["periods"]) == 12
    text = Path("out/eda.html").read_text(encoding="utf-8")
    tags = page().tags
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in tags}
    assert not any("src" in attributes or "http" in str(attributes.get("href")) for _, attributes in tags)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", text)
    assert [tag for tag, _ in tags].count("script") == 1
    pictures = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(pictures) == [tag for tag, _ in tags].count("figcaption") == 6
    assert all(attributes["aria-label"] for attributes in pictures)
    assert len(text.encode()) < 3_000_000


def test_text_of_users_is_shown_and_never_obeyed(look):
    look([{"text": text, "label": label} for text, label in HOSTILE * 2], name="table.jsonl")
    raw, shown = Path("out/eda.html").read_text(encoding="utf-8"), page()
    assert [tag for tag, _ in shown.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in shown.tags]
    assert not any(attribute.startswith("on") for _, attributes in shown.tags for attribute in attributes)
    for text, label in HOSTILE[:6]:
        assert label in shown.text
        assert text in html.unescape(raw)
    assert r"\x1b[31m and {{ 1 + 1 }} {% raw %}" in shown.text
    assert "\x1b" not in raw
    assert r"'a\u200b'" in shown.text  # labels that look alike are told apart


def test_a_page_of_many_labels_and_long_texts_is_small(look):
    rows = [f"{'word' * 50}{i} film good,label number {i} {'x' * 100}" for i in range(3000)]
    found = look("text,label\n" + "\n".join(rows) + "\n")
    assert found["balance"]["distinct"] == 3000
    assert Path("out/eda.html").stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("content", "flags", "expected"),
    [
        ("text\ngood film\nbad film\n", [], {"rows": 2, "without_label": None, "balance": None, "words": []}),
        ("sentence\ngood film\nbad film\n", [], {"with_text": 2, "without_label": None}),
        ("text,label\ngood film,x\n", [], {"rows": 1, "words": []}),
        ("text,label\n,x\ngood,\n  ,y\nbad,y\n", [], {"with_text": 2, "without_text": 2, "without_label": 1}),
        ("text,label\na,b,c\ngood,y\n", [], {"rows": 1, "num_broken": 1}),
        ("text,label\n" + "the same text,x\n" * 3000, [], {"rows": 3000, "with_text": 3000}),
        ("text,label\n" + "good film,x\n" * 500, ["--sample-rows", "50"], {"rows": 500, "examined": 50}),
        ("text,label\n" + "word " * 200_000 + ",x\n" + "x" * 1_000_000 + ",y\n", [], {"rows": 2}),
        ("text,label\n...,x\n😀,y\n", [], {"words": [{"name": "x", "rows": 1, "words": [], "pairs": []}] * 2}),
    ],
    ids=[
        "no labels",
        "one column",
        "one row",
        "missing cells",
        "broken",
        "all the same",
        "a sample",
        "1 MB",
        "no words",
    ],
)
def test_odd_tables(look, content, flags, expected):
    found = look(content, *flags)
    if expected.get("words"):
        assert [described | {"name": "x"} for described in found["words"]] == expected["words"]
    else:
        assert {name: found[name] for name in expected} == expected
    assert ("A sample." in page().text) == bool(flags)


def test_labels_that_mix_types_do_not_end_it(look):
    found = look([{"text": "good", "label": "1"}, {"text": "bad", "label": 1}], name="table.jsonl")
    assert found["columns"][1]["holds"] == "text and numbers"


def test_repeats_and_leaks(look):
    Path("test.csv").write_text("text,label\nThe  BOOK,x\n")
    rows = [
        "a film,x",
        "a film,y",
        "a film,x",
        "the book,x",
        "the very good plot was dull,x",
        "the very bad plot was dull,y",
    ]
    found = look("\n".join(["text,label", *rows]) + "\n", "--test", "test.csv")["repeats"]
    assert (found["duplicates"], found["contradictions"], found["contradicting_rows"]) == (2, 1, 3)
    assert (found["leaks"], found["near_pairs"], found["near_rows"]) == ({"test": 1}, 1, 1)
    assert found["near"][0][0] == pytest.approx(5 / 7)
    assert [row["row"] for row in found["near"][0][1:]] == [5, 6]


def test_a_run_is_recorded_with_its_charts(in_store, tiny_model):
    rows = [{"text": f"{text} {i}", "label": label} for i, (text, label) in enumerate(HOSTILE)]
    Path("table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["eda", "--model", str(tiny_model), "--data", "table.jsonl", "--out", "out", "--experiment", "bertjax"]
    assert main(command) == 0
    client, (run,) = runs_of(in_store)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["data/rows"] == len(HOSTILE)
    stored = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert stored == {"eda.html", "eda.json", "labels.png", "lengths.png"}
    assert Path("out/labels.png").read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "nope.csv"], "nope.csv does not exist"),
        ([], "--data"),
        (["--data", "table.csv", "--bogus", "1"], "--bogus"),
        (["--data", "table.csv", "--task", "guessing"], "task 'guessing' is unknown"),
        (["--data", "table.csv", "--near-duplicates", "0"], "near_duplicates must be in [0.3, 1]"),
        (["--data", "table.csv", "--sample-rows", "0"], "sample_rows must be 1 or more"),
        (["--data", "table.csv", "--date-column", "day"], "has no column 'day'"),
        (["--data", "table.csv", "--date-column", "label"], "no cell of column 'label' is a date"),
        (["--data", "table.csv", "--label-column", "stars"], "has no column 'stars'"),
        (["--data", "table.csv", "--text-columns", "body"], "has no column 'body'; its columns are text, label"),
        (["--data", "table.csv", "--model", "no/such/model"], "no/such/model is not a folder"),
        (["--data", "table.csv", "--on-bad-row", "stop"], "line 4 has 3 fields"),
        (["--data", "empty.csv"], "no row with text"),
        (["--data", "header.csv"], "has no rows"),
        (["--data", "table.csv", "--task", "next_sentence"], "name the columns of the second with --pair-columns"),
        (["--data", "table.csv", "--out", "full"], "--out full is not empty"),
    ],
)  # fmt: skip
def test_what_is_refused(in_folder, tiny_model, capsys, flags, message):
    Path("table.csv").write_text("text,label\na film,x\na book,y\na,b,c\n")
    Path("empty.csv").write_text("text,label\n,x\n  ,y\n")
    Path("header.csv").write_text("text,label\n")
    Path("full").mkdir()
    Path("full/mine").write_text("x")
    before = sorted(path.name for path in in_folder.rglob("*"))
    model = [] if "--model" in flags else ["--model", str(tiny_model)]
    out = [] if "--out" in flags else ["--out", "out"]
    assert main(["eda", *model, *out, *flags]) == 2
    assert message in processes.complaint(capsys.readouterr().err)
    assert sorted(path.name for path in in_folder.rglob("*")) == before


def test_numbers_are_those_of_pandas(look):
    frame = pd.DataFrame({"text": [f"good film {i % 7}" for i in range(30)], "label": [f"c{i % 4}" for i in range(30)]})
    frame.to_csv("table.csv", index=False)
    found = look(None)
    assert {label["name"]: label["rows"] for label in found["balance"]["labels"]} == frame[
        "label"
    ].value_counts().to_dict()
    assert found["repeats"]["duplicates"] == frame.duplicated("text").sum()
    assert found["repeats"]["contradictions"] == (frame.groupby("text")["label"].nunique() > 1).sum()
    assert found["columns"][0]["distinct"] == frame["text"].nunique()


def test_from_python_it_finds_what_the_command_does(look, tiny_model):
    pd.DataFrame({"text": ["good film", "bad film", "good film"], "label": ["p", "n", "n"]}).to_csv("table.csv")
    found = look(None)
    explored = bertjax.explore_table(bertjax.Table("table.csv"), model=str(tiny_model), max_length=40)
    assert plain(explored.findings) == found
    assert "texts with contradicting labels" in explored.html()
    assert explored.table().row_count > 5
    with pytest.raises(ConfigError, match="task 'sentiment' is unknown"):
        bertjax.explore_table(bertjax.Table("table.csv"), task="sentiment")
