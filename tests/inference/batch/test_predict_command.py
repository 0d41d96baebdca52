"""`bertjax predict` from the outside: every mistake is one line and status 2, and leaves nothing behind."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from bertjax.cli.main import main
from bertjax.inference.batch import row_answers
from bertjax.inference.predictor import Predictor
from tests.support.processes import ROOT, complaint, holding, run_python, user_environment


@pytest.fixture(autouse=True, scope="module")
def one_network(finished_run):
    """Starts with the model of the run share what is compiled."""
    made: dict[int, Predictor] = {}

    def shared(loaded):
        if loaded.max_length not in made:
            made[loaded.max_length] = Predictor(loaded)
        return made[loaded.max_length]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_answers, "Predictor", shared)
        yield


@pytest.fixture
def predict(finished_run, capsys, in_folder):
    """(flags of a line...) -> status, stdout, stderr; in an empty folder with a table."""
    Path("in.csv").write_text("id,title,body\n1,the film,good\n2,a book,\n3,so,bad\n")

    def predict(*flags, model=finished_run.model_dir, data="in.csv", out="out.csv"):
        status = main(["predict", "--model", str(model), "--data", str(data), "--out", str(out), *flags])
        return status, *capsys.readouterr()

    return predict


def test_the_answers_beside_the_columns(predict):
    status, shown, _ = predict("--probabilities", "--top-k", "1")
    assert (status, shown) == (0, "3 rows predicted; they are in out.csv\n")
    frame = pd.read_csv("out.csv")
    assert frame.columns.tolist() == ["id", "title", "body", "label", "probability", "probabilities", "top"]
    assert [json.loads(cell)[label] for cell, label in zip(frame.probabilities, frame.label, strict=True)] == frame[
        "probability"
    ].tolist()
    assert sorted(map(str, Path().iterdir())) == ["in.csv", "out.csv"]
    status, shown, _ = predict(
        "--overwrite", "--on-bad-row", "skip", "--bad-rows", "bad.jsonl", "--text-columns", "body"
    )
    assert (status, shown) == (0, "2 rows predicted, 1 left out (see bad.jsonl); they are in out.csv\n")


def write(content: bytes | str, name: str = "in.csv"):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


MISTAKES = {
    "empty text": (lambda: write("title,body\na,b\n,\n"), {}, "in.csv: line 3 has no text in title and body"),
    "blank text": (lambda: write('title,body\n" ","\t"\n'), {}, "in.csv: line 2 has no text in title and body"),
    "invalid utf-8": (lambda: write(b"title,body\na,b\n\xff,x\n"), {}, "byte 0xff in line 3 cannot be read"),
    "missing column": (
        lambda: write("title,text\na,b\n"),
        {},
        "in.csv has no column 'body'; its columns are title, text",
    ),
    "empty file": (lambda: write(""), {}, "in.csv is empty"),
    "header alone": (lambda: write("title,body\n"), {}, "in.csv has no row to predict"),
    "other columns": (
        lambda: write("title,text\na,b\n", "in2.csv"),
        {"data": "in*.csv"},
        "in2.csv has other columns than in.csv: it lacks 'id', 'body' and adds 'text'",
    ),
    "no file": (None, {"data": "none*.csv"}, "no file matches none*.csv"),
    "no such file": (None, {"data": "none.csv"}, "none.csv does not exist"),
    "a folder": (lambda: Path("d").mkdir(), {"data": "d"}, "d is a folder; name a file in it"),
    "unknown input": (lambda: write("", "in.doc"), {"data": "in.doc"}, "in.doc: unknown format"),
    "unknown suffix": (None, {"out": "out.xml"}, "--out out.xml: bertjax writes .csv, .tsv, .jsonl, .parquet"),
    "compressed out": (None, {"out": "out.csv.gz"}, "--out out.csv.gz: bertjax writes"),
    "other format": (None, {"out": "out.csv", "format": "jsonl"}, "leave out --format jsonl"),
    "output exists": (lambda: write("x", "out.csv"), {}, "--out out.csv exists; --overwrite replaces it"),
    "a file in the way": (lambda: write("x", "d"), {"out": "d/out.csv"}, "d is a file; give a folder"),
    "foreign folder": (
        lambda: (Path("d").mkdir(), write("x", "d/notes.txt")),
        {"out": "d", "overwrite": ""},
        "d holds notes.txt, which is no part of a prediction",
    ),
    "its own output": (lambda: write("title,body\na,b\n", "out.csv"), {"data": "*.csv", "overwrite": ""}, "writes"),
    "its own part": (
        lambda: (Path("d").mkdir(), write("title,body\na,b\n", "d/part-00000.csv")),
        {"data": "d/*.csv", "out": "d", "overwrite": ""},
        "--data matches d/part-00000.csv, which --out d writes",
    ),
    "no model": (None, {"model": "nowhere"}, "nowhere"),
    "top-k 0": (None, {"top-k": "0"}, "top_k must be 1 or more, got 0"),
    "top-k -1": (None, {"top-k": "-1"}, "top_k must be 1 or more, got -1"),
    "top-k word": (None, {"top-k": "many"}, "many"),
    "threshold": (None, {"threshold": "1.5"}, "--threshold 1.5 is no probability"),
    "threshold -1": (None, {"threshold": "-0.1"}, "--threshold -0.1 is no probability"),
    "threshold nan": (None, {"threshold": "nan"}, "--threshold nan is no probability"),
    "rows 0": (None, {"rows-per-part": "0"}, "rows_per_part must be 1 or more"),
    "batch 0": (None, {"batch-size": "0"}, "batch_size must be 1 or more"),
    "length 0": (None, {"max-length": "0"}, "max_length must be 1 or more"),
    "unknown flag": (None, {"treshold": "0.5"}, "--treshold"),
    "entities": (None, {"entities": ""}, "--entities: a model of task 'classification' gives none"),
    "bad rows alone": (None, {"bad-rows": "b.jsonl"}, "--bad-rows lists the rows that --on-bad-row skip leaves out"),
    "two policies": (None, {"resume": "", "overwrite": ""}, "--resume goes on with an earlier start and --overwrite"),
    "workers": (None, {"workers": "2"}, "--workers and --address are of --engine ray"),
    "text column": (None, {"text-columns": "name"}, "in.csv has no column 'name'"),
    "text column of txt": (
        lambda: write("a\n", "in.txt"),
        {"data": "in.txt", "text-columns": "name"},
        "in.txt has no column 'name'; its columns are text",
    ),
    "taken name": (lambda: write("title,body,label\na,b,c\n"), {}, "--prefix predicted_"),
    "prefix taken": (
        lambda: write("title,body,label,p_label\na,b,c,d\n"),
        {"prefix": "p_"},
        "a column 'p_label' themselves",
    ),
}


@pytest.mark.parametrize(("prepare", "flags", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(predict, prepare, flags, message):
    if prepare is not None:
        prepare()
    before = sorted(path for path in Path().rglob("*"))
    places = {name: flags[name] for name in ("model", "data", "out") if name in flags}
    words = [word for name, value in flags.items() if name not in places for word in (f"--{name}", value) if word]
    status, shown, err = predict(*words, **places)
    assert (status, shown) == (2, "")
    assert message in complaint(err)
    assert sorted(path for path in Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: (model / "model.safetensors").write_bytes(b"\x08"), "model.safetensors"),
        (lambda model: (model / "config.json").write_text("{"), "config.json"),
        (lambda model: (model / "tokenizer.json").unlink(), "tokenizer"),
        (lambda model: (model / "model.safetensors").unlink(), "model"),
    ],
    ids=["cut-weights", "cut-config", "no-tokenizer", "no-weights"],
)
def test_a_damaged_model_is_one_line(predict, finished_run, damage, message):
    model = Path("model")
    shutil.copytree(finished_run.model_dir, model)
    (model / "vocab.txt").unlink(missing_ok=True)
    damage(model)
    status, _, err = predict(model=model)
    assert status == 2
    assert message in complaint(err)
    assert not Path("out.csv.parts").exists()


def test_an_encoder_says_nothing_of_a_row(predict, tiny_model):
    status, _, err = predict(model=tiny_model)
    assert status == 2
    assert "encoder" in complaint(err)


@pytest.mark.parametrize("out", ["out.csv", "out"])
def test_a_second_process_is_kept_out(predict, out):
    folder = Path("out.csv.parts" if out == "out.csv" else out)
    with holding(folder) as process:
        status, _, err = predict(out=out)
    assert status == 2
    assert f"{folder} is in use by process {process.pid}" in complaint(err)


def test_a_long_text_is_cut(predict):
    """A megabyte, in a cell."""
    frame = pd.DataFrame({"title": ["good film " * 100_000, "good film " * 4], "body": None})
    frame.to_csv("long.csv", index=False)
    assert predict(data="long.csv")[0] == 0
    found = pd.read_csv("out.csv")
    assert found["title"].tolist() == frame["title"].tolist()
    assert found["probability"][0] == pytest.approx(found["probability"][1], abs=1e-6)


def test_sigterm_keeps_what_is_finished(finished_run, in_folder):
    """Also of a process that a script has started in the background, which Ctrl-C does not reach."""
    rows = pd.DataFrame({"title": [f"the film {i}" for i in range(200_000)], "body": "good"})
    rows.to_csv("in.csv", index=False)
    flags = ["--model", str(finished_run.model_dir), "--data", "in.csv", "--out", "out.csv"]
    command = [sys.executable, "-m", "bertjax", "predict", *flags, "--rows-per-part", "2000"]
    parts = Path("out.csv.parts")
    in_background = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command]
    with subprocess.Popen(in_background, stderr=subprocess.PIPE, text=True, env=user_environment()) as job:
        deadline = time.monotonic() + 120
        while len(list(parts.glob("part-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        job.terminate()
        _, err = job.communicate(timeout=60)
    assert job.returncode == 143
    said = "stopped; its finished parts are in out.csv.parts: --resume with the same flags goes on"
    assert said in complaint(err)
    assert not Path("out.csv").exists()
    lines = [json.loads(line) for line in (parts / "_manifest.jsonl").read_text().splitlines()]
    assert [line["part"] for line in lines[1:]] == list(range(len(lines) - 1))


def test_every_row_once_after_three_kills(tmp_path):
    """Real processes, SIGKILL at random moments; see the script."""
    found = tmp_path / "found.json"
    script = str(ROOT / "scripts" / "interrupt_predictions.py")
    command = [script, "--rows", "8000", "--rows-per-part", "200", "--json", str(found)]
    done = run_python(*command, env=user_environment())
    assert found.is_file(), done.stderr + done.stdout
    (result,) = json.loads(found.read_text())["results"]
    assert result["faults"] == []
    assert len(result["parts_at_kills"]) == 3
