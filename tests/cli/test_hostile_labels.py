"""A whole run on labels that look like markup and like paths: its table, its files and its MLflow run have them all."""

import json
from itertools import product
from pathlib import Path

import pytest

from bertjax.cli.main import main
from bertjax.tracking.mlflow_sink import METRIC_NAMES
from tests.support.tracking import runs_of

LABELS = ["[spam]", "[/b]", "[red]", ":warning:", "news/", "sports//football", ".", "x" * 240, "\x1b[31mred", "a|b"]


@pytest.fixture
def table(tmp_path):
    texts = [
        f"{opening} {subject}" for opening, subject in product(["the", "a very", "what a"], ["film", "book", "plot"])
    ]
    rows = [{"text": f"{text} {number}", "label": label} for text in texts for number, label in enumerate(LABELS)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_run(in_store, tiny_model, table, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    words = [
        "--model",
        str(tiny_model),
        "--train",
        str(table),
        "--epochs",
        "1",
        "--max-length",
        "16",
        "--test-size",
        "0.3",
    ]
    assert main(["finetune", *words, "--out", "out"]) == 0
    out, err = capsys.readouterr()
    for label in LABELS:
        assert label.replace("\x1b", r"\x1b") in out
    assert "\x1b" not in out + err
    assert "Traceback" not in err
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert all(f"test/class/{label}/f1" in metrics for label in LABELS)

    client, (run,) = runs_of(in_store)
    assert run.info.status == "FINISHED"
    stored = json.loads(Path(client.download_artifacts(run.info.run_id, METRIC_NAMES, str(in_store))).read_text())
    names = {label: stored.get(label, label) for label in LABELS}
    assert len(set(names.values())) == len(LABELS)
    for label, name in names.items():
        assert run.data.metrics[f"test/class/{name}/f1"] == metrics[f"test/class/{label}/f1"]
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {"model", "metrics.json", "report.html"}

    assert main(["evaluate", "--model", "out/model", "--data", str(table), "--out", "scores"]) == 0
    out, _ = capsys.readouterr()
    assert all(label.replace("\x1b", r"\x1b") in out for label in LABELS)
    assert main(["export", "--model", "out/model", "--out", "card"]) == 0
    assert r"\[spam\]" in Path("card/README.md").read_text()
