"""MLflow takes the metrics of a class whatever it is called, and what it refuses holds back nothing else."""

import json
import logging
import sys
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    REQUEST_LIMIT_EXCEEDED,
    TEMPORARILY_UNAVAILABLE,
)
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name
from requests import Response
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import HTTPError

from bertjax.cli.main import main
from bertjax.errors import ConfigError
from bertjax.tracking.event_log import EventLog
from bertjax.tracking.metric_names import MetricNames
from bertjax.tracking.mlflow_sink import METRIC_NAMES
from bertjax.tracking.mlflow_tracker import MlflowTracker
from bertjax.tracking.tracker import Dataset

HOSTILE = {
    "paths": ["news/", "news", "/news", "sports//football", "sports/football", "a/./b", "a/../b", "~/x"],
    "dots": [".", "..", "...", "a.", "_", "__"],
    "empty": ["", " ", "  ", "/", "//", "-"],
    "long": ["x" * 240, "x" * 241, "x" * 210, "y" * 5000, "ß" * 300],
    "signs": ["C++", "C__", "C--", "C##", "a|b", "`", "'", '"', "\\", "%", "a&b", "a_b"],
    "emoji": ["👍", "👎", "👍🏽", "e\u0301", "é", "e_", "日本", "한"],
    "control": ["\n", "\t", "a\nb", "a\tb", "\x00", "\x1b[31m", "a_b", "\u200b", "\ufeff"],
    "cases": ["Spam", "spam", "SPAM!", "spam?", "Straße+", "STRASSE!"],
    "surrogates": ["\ud800", "\udfff", "?"],
    "numbered": ["+", "_", "_-2", "-", "_-3", "&"],
    "looks_like_keys": ["f1", "class", "test/class/x", "x/f1", "validation/class/+/f1", "accuracy"],
}
METRICS = ("precision", "recall", "f1_mean")


def keys_of(labels, side="validation"):
    return [f"{side}/class/{label}/{metric}" for label in labels for metric in METRICS]


def assert_valid_and_distinct(names):
    for name in names.values():
        _validate_metric_name(name)  # MLflow's own check
        assert len(name) <= MAX_ENTITY_KEY_LENGTH
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("labels", HOSTILE.values(), ids=HOSTILE)
def test_names_of_hostile_labels(labels):
    keys = keys_of(labels) + keys_of(labels, "test")
    names = MetricNames().add(keys)
    assert_valid_and_distinct(names)
    Random(0).shuffle(keys)
    assert MetricNames().add(keys) == names  # whatever the order of the labels
    parts = {side: [name.removeprefix(f"{side}/") for name in names.values() if name.startswith(side)] for side in
             ("test", "validation")}  # fmt: skip
    assert parts["test"] == parts["validation"]


TEXTS = st.text(st.characters(codec=None), max_size=8) | st.text(st.sampled_from("/._-ab+ "), max_size=6)


@given(st.lists(st.sets(TEXTS, min_size=1, max_size=12), min_size=1, max_size=4))
@example([{"+"}, {"_", "_-2"}])  # a valid label that comes when another one has its name
def test_names_of_any_labels(sets):
    """Labels that come later, such as entity types that occur in one evaluation only, change no name."""
    names, seen = MetricNames(), {}
    for labels in sets:
        added = names.add(keys_of(labels))
        assert all(seen[key] == name for key, name in added.items() if key in seen)
        seen |= added
    assert_valid_and_distinct(seen)


@given(st.sets(TEXTS | st.text(min_size=200, max_size=300), min_size=1, max_size=12))
def test_names_of_any_keys(keys):
    """A task of the user's own may call its metrics what it likes."""
    assert_valid_and_distinct(MetricNames().add(keys))


@pytest.mark.parametrize("key", ["train/loss", "test/class/good/f1", "test/class/a b:c-d.e/f1", "test/class/Spam/f1"])
def test_a_valid_name_stays(key):
    assert MetricNames().add([key, "test/class/ä/f1", "test/class/spam/f1"])[key] == key


def started(folder, **options):
    tracker = MlflowTracker("questions", **options)
    tracker.connect()
    return tracker, tracker.start(folder.name, {}, folder)


def test_a_run_with_hostile_labels(in_store):
    labels = sorted({label for labels in HOSTILE.values() for label in labels})
    tracker, run_id = started(in_store / "run")
    for step in (1, 2):
        metrics = {key: step + number / 1000 for number, key in enumerate(keys_of(labels))}
        tracker.log_metrics(metrics, step)
    tracker.finish("FINISHED")
    client = MlflowClient(f"sqlite:///{in_store}/mlflow.db")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    names = json.loads(Path(client.download_artifacts(run_id, METRIC_NAMES, str(in_store))).read_text())
    for number, label in enumerate(labels):
        for offset, metric in enumerate(METRICS):
            key = f"validation/class/{names.get(label, label)}/{metric}"
            history = [(point.step, point.value) for point in client.get_metric_history(run_id, key)]
            assert history == [(step, step + (3 * number + offset) / 1000) for step in (1, 2)], label
    assert "good" not in names
    assert names["news/"] == "news-3"  # "/news" comes first

    again, _ = started(in_store / "run")  # a class that comes later changes no name
    again.log_metrics({"validation/class/!/recall": 1.0, "validation/class/news//recall": 7.0}, 3)
    again.finish("FINISHED")
    assert [point.value for point in client.get_metric_history(run_id, "validation/class/news-3/recall")][-1] == 7.0


def test_a_run_that_an_earlier_version_could_not_upload(in_store, capsys):
    """Its log holds the refused event before all others; `sync` sends it."""
    tracker, run_id = started(in_store / "run", seconds_between_uploads=60)
    tracker.finish("KILLED")
    log = EventLog(in_store / "run" / "tracking.jsonl")
    log.record({"metrics": {"test/class/news//f1": 0.5}, "step": 1, "time_ms": 1})
    log.record({"status": "FINISHED", "time_ms": 2})
    assert main(["sync", str(in_store / "run")]) == 0
    assert capsys.readouterr().out == f"{in_store / 'run'}: 2 records sent\n"
    run = MlflowClient(f"sqlite:///{in_store}/mlflow.db").get_run(run_id)
    assert run.data.metrics["test/class/news/f1"] == 0.5
    assert run.info.status == "FINISHED"


@pytest.fixture
def refusing(monkeypatch):
    """MLflow's client, with `log_batch` of a metric called `bad` and the upload of `bad.html` refused."""

    def refuse(error):
        log_batch, log_artifact = MlflowClient.log_batch, MlflowClient.log_artifact

        def refusing_batch(self, run_id, metrics=(), **others):
            if any(metric.key == "bad" for metric in metrics):
                raise error
            return log_batch(self, run_id, metrics=metrics, **others)

        def refusing_artifact(self, run_id, path, *others):
            if path.endswith("bad.html"):
                raise error
            return log_artifact(self, run_id, path, *others)

        monkeypatch.setattr(MlflowClient, "log_batch", refusing_batch)
        monkeypatch.setattr(MlflowClient, "log_artifact", refusing_artifact)

    return refuse


def http_error(status):
    response = Response()
    response.status_code = status
    return HTTPError(f"{status} from a gateway", response=response)


FINAL = {
    "invalid value": MlflowException("no such value\nand more", INVALID_PARAMETER_VALUE),
    "bad request": MlflowException("no", BAD_REQUEST),
    "too large": http_error(413),
    "a fault in code": TypeError("no double"),
}


@pytest.mark.parametrize("error", FINAL.values(), ids=FINAL)
def test_what_is_refused_for_good_is_set_aside(in_store, refusing, caplog, capsys, error):
    refusing(error)
    folder = in_store / "run"
    tracker, run_id = started(folder, patience_seconds=60)
    for name in ("good.html", "bad.html", "other.html"):
        (folder / name).write_text("<p>")
    for step in range(1, 1203):  # two batches
        tracker.log_metrics({"loss": 1 / step, **({"bad": 1.0} if step in (3, 1000) else {})}, step)
    for name in ("good.html", "bad.html", "other.html"):
        tracker.log_artifact(folder / name)
    tracker.finish("FINISHED")
    client = MlflowClient(f"sqlite:///{in_store}/mlflow.db")
    assert client.get_run(run_id).info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(run_id, "loss")] == list(range(1, 1203))
    assert [item.path for item in client.list_artifacts(run_id)] == ["good.html", "other.html"]
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    for record in ("metric 'bad'", "artifact 'bad.html'"):
        assert sum(record in line for line in warnings) == 1  # though two values of the metric were refused
    reason = str(error).splitlines()[0]
    assert f"metric 'bad' ({reason})" in " ".join(warnings)
    assert all("\n" not in line for line in warnings)
    kept = [json.loads(line) for line in (folder / "tracking.jsonl").read_text().splitlines()]
    assert [line["refused"]["step"] for line in kept if line.get("record") == "metric 'bad'"] == [3, 1000]

    assert main(["sync", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}: 0 records sent",
        f"{folder}: MLflow refuses metric 'bad' ({reason}); it stays in {folder / 'tracking.jsonl'}",
        f"{folder}: MLflow refuses artifact 'bad.html' ({reason}); it stays in {folder / 'tracking.jsonl'}",
    ]


TEMPORARY = {
    "server error": MlflowException("down", INTERNAL_ERROR),
    "unavailable": MlflowException("down", TEMPORARILY_UNAVAILABLE),
    "too many requests": MlflowException("slow", REQUEST_LIMIT_EXCEEDED),
    "login": MlflowException("who", PERMISSION_DENIED),
    "connection": NoConnection("reset"),
    "gateway": http_error(502),
    "login of the artifacts": http_error(403),
    "disk": PermissionError("no"),
}


@pytest.mark.parametrize("error", TEMPORARY.values(), ids=TEMPORARY)
def test_what_may_be_taken_later_is_kept(in_store, refusing, monkeypatch, caplog, error):
    refusing(error)
    tracker, run_id = started(in_store / "run", patience_seconds=0.1)
    tracker.log_metrics({"bad": 1.0}, 1)
    tracker.finish("FINISHED")
    assert "did not take all of the run" in caplog.text
    monkeypatch.undo()
    assert main(["sync", str(in_store / "run")]) == 0
    client = MlflowClient(f"sqlite:///{in_store}/mlflow.db")
    assert [point.value for point in client.get_metric_history(run_id, "bad")] == [1.0]
    assert client.get_run(run_id).info.status == "FINISHED"


def test_the_records_of_a_deleted_run_are_kept(in_store, caplog):
    client = MlflowClient(f"sqlite:///{in_store}/mlflow.db")
    tracker, run_id = started(in_store / "run", patience_seconds=0.1, seconds_between_uploads=60)
    client.delete_run(run_id)
    tracker.log_metrics({"loss": 1.0}, 1)
    tracker.finish("FINISHED")
    assert "did not take all of the run" in caplog.text
    with pytest.raises(
        ConfigError, match=rf"was deleted; `mlflow runs restore --run-id {run_id}` brings it back \(the run in "
    ):
        started(in_store / "run")
    client.restore_run(run_id)
    assert main(["sync", str(in_store / "run")]) == 0
    assert client.get_run(run_id).data.metrics["loss"] == 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e308, 5e-324])
def test_extreme_values(in_store, value):
    tracker, run_id = started(in_store / "run")
    tracker.log_metrics({"loss": value, "other": 1.0}, 1)
    tracker.finish("FINISHED")
    run = MlflowClient(f"sqlite:///{in_store}/mlflow.db").get_run(run_id)
    assert run.data.metrics["other"] == 1.0
    limits = {float("inf"): sys.float_info.max, -float("inf"): -sys.float_info.max}
    assert run.data.metrics["loss"] == pytest.approx(limits.get(value, value), nan_ok=True)
    assert run.info.status == "FINISHED"


def test_a_server_with_hostile_labels_and_values(server, in_folder, monkeypatch):
    """The same over HTTP, where numbers and names travel as JSON, in requests of a limited size."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    tracker, run_id = started(in_folder / "run", seconds_between_uploads=0.1)
    tracker.log_metrics({"train/loss": 1.0}, 1)
    while '"sent"' not in (in_folder / "run" / "tracking.jsonl").read_text():
        time.sleep(0.1)  # MLflow is asked for what it has of each metric only before that
    labels = [chr(0x4E00 + i) * 230 for i in range(400)]  # six bytes a character in JSON
    tracker.log_metrics({key: float("inf") for key in keys_of(labels)}, 1)
    tracker.log_metrics({"loss": float("nan"), "test/class/\ud800/f1": 1.0, "test/class/%2F../f1": 2.0}, 1)
    tracker.log_dataset(Dataset("train", "https://example.org/" + "x" * 700, "d" * 36, 1))
    tracker.finish("FINISHED")
    client = MlflowClient(server.address)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert len([key for key in run.data.metrics if key.startswith("validation/class")]) == len(keys_of(labels))
    assert run.data.metrics["test/class/_/f1"] == 1.0
    assert len(run.inputs.dataset_inputs) == 1
    assert not EventLog(in_folder / "run" / "tracking.jsonl").refused
