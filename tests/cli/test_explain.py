"""`bertjax explain`: what it prints and writes, and its answer to what it cannot explain."""

import json

import pytest

from bertjax.cli.main import main
from bertjax.inference.predictor import Predictor


@pytest.fixture(scope="module")
def model(finished_run):
    return str(finished_run.model_dir)


def test_words_with_their_weights_and_a_file(model, tmp_path, capsys):
    out, text = tmp_path / "why.json", "the film <i>[red]bad\x1b[31m"
    assert main(["explain", "--model", model, "--text", text, "--text", "good and great", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "text 1: bad (" in printed
    assert "\x1b" not in printed
    assert "the weights miss the difference by" in printed
    first, second = json.loads(out.read_text())
    (expected,) = Predictor.load(model).explain([text])
    assert first["words"] == [[word.word, pytest.approx(word.weight, abs=1e-6)] for word in expected.words]
    assert (second["label"], second["texts"]) == ("good", ["good and great"])
    assert main(["explain", "--model", model, "--text", "a", "--out", str(out)]) == 2
    assert "is there already; give --overwrite" in capsys.readouterr().err


def test_rows_of_a_table(model, reviews, tmp_path, capsys):
    out = tmp_path / "why.json"
    flags = ["--data", str(reviews), "--rows", "2", "60", "--method", "occlusion", "--label", "bad", "--out", str(out)]
    assert main(["explain", "--model", model, *flags]) == 0
    found = json.loads(out.read_text())
    assert [record["name"] for record in found] == ["row 2", "row 60"]
    assert found[0]["texts"] == ["the film bad and dull ."]  # the columns are joined by a space
    assert {record["label"] for record in found} == {"bad"}
    assert "row 60: " in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["html", "md"])
def test_a_page_has_the_words_and_escapes_them(model, tmp_path, capsys, suffix):
    out = tmp_path / f"why.{suffix}"
    texts = ["--text", "the <script>alert(1)</script> film was bad", "--text", "good"]
    assert main(["explain", "--model", model, *texts, "--method", "occlusion", "--out", str(out)]) == 0
    page = out.read_text()
    assert "text 1: bad (" in page
    assert "text 2: good (" in page
    assert "Words in blue speak for what is explained" in page
    assert "<script>alert" not in page
    assert capsys.readouterr().out.endswith(f"the weights of all words are in {out}\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --text (once for each text) or --data, and not both"),
        (["--text", "a", "--data", "b.csv"], "give --text (once for each text) or --data, and not both"),
        (["--text", " "], "--text 1 is empty"),
        (["--text", "a", "--pair", "b", "--pair", "c"], "once for each --text (1)"),
        (["--text", "a", "--rows", "1"], "--rows are rows of a table"),
        (["--text", "a", "--method", "magic"], "invalid choice 'magic'"),
        (["--text", "a", "--label", "fine"], "label 'fine' is unknown"),
        (["--text", "a", "--method", "rollout", "--label", "bad"], "leave out the label"),
        (["--text", "a", "--out", "why.txt"], "is no .json, .html or .md file"),
        (["--text", "a", "--word", "a"], "--word is for models that label words"),
        (["--data", "{reviews}", "--rows", "61"], "has 60 rows; there is no row 61"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_line_for_what_cannot_be_explained(model, reviews, capsys, flags, message):
    assert main(["explain", "--model", model, *(flag.format(reviews=reviews) for flag in flags)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_model_that_says_nothing_of_a_text(tiny_model, capsys):
    assert main(["explain", "--model", str(tiny_model), "--text", "a"]) == 2
    assert "a model of task 'encoder' does not predict texts" in capsys.readouterr().err
