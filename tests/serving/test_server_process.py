"""The server as a process: how it starts, refuses to, and ends."""

import json
import re
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bertjax.cli.main import main
from bertjax.serving.service_metrics import ServiceMetrics
from tests.support.processes import ROOT, complaint
from tests.support.servers import serving

KEY = "open-sesame"


@pytest.fixture(scope="module")
def keyed(finished_run):
    """A server with a key."""
    with serving("--model", str(finished_run.model_dir), env={"BERTJAX_API_KEY": KEY}) as server:
        yield server


ANSWERS_TO_KEYS = {
    "none": ({}, 401),
    "a wrong one": ({"X_API_Key": "open-sesam"}, 401),
    "a wrong bearer": ({"Authorization": "Bearer open"}, 401),
    "another scheme": ({"Authorization": f"Basic {KEY}"}, 401),
    "no ASCII": ({"X_API_Key": "\xfc"}, 401),
    "as a bearer": ({"Authorization": f"bearer {KEY}"}, 200),
    "as a header": ({"X_API_Key": KEY}, 200),
}


@pytest.mark.parametrize("case", ANSWERS_TO_KEYS)
def test_the_key_opens_all_routes_but_those_of_health(keyed, case):
    headers, status = ANSWERS_TO_KEYS[case]
    for path in ("/model", "/metrics", "/openapi.json"):
        assert keyed.get(path, **headers).status == status
    reply = keyed.post("/predict", {"text": "a good film"}, **headers)
    assert reply.status == status
    if status == 401:
        assert reply.headers["www-authenticate"] == "Bearer"
        assert "the API key is missing or wrong" in reply.json["detail"]
    assert (keyed.get("/health").status, keyed.get("/ready").status) == (200, 200)
    assert KEY not in "".join(keyed.log)


def test_without_an_admin_token_nobody_changes_the_model(keyed):
    reply = keyed.post("/model", {"model": "default"}, X_API_Key=KEY)
    assert (reply.status, "without an admin token" in reply.json["detail"]) == (403, True)


def test_it_ends_when_what_has_come_is_answered(keyed):
    """SIGTERM in the middle of lists that wait: all are answered, nobody else gets in, and the status is the signal's.

    The last test of this file that asks the server."""
    body = {"texts": ["a good film"] * 1000}
    with ThreadPoolExecutor(4) as clients:
        replies = [clients.submit(keyed.post, "/predict", body, X_API_Key=KEY) for _ in range(4)]
        deadline = time.monotonic() + 30
        while (
            b"\nbertjax_texts 4000.0" not in keyed.get("/metrics", X_API_Key=KEY).body and time.monotonic() < deadline
        ):
            time.sleep(0.001)
        assert keyed.stop(signal.SIGTERM) == 143
        assert [reply.result().status for reply in replies] == [200] * 4
    assert [len(reply.result().json["predictions"]) for reply in replies] == [1000] * 4
    assert complaint("\n".join(keyed.log)) == "bertjax: terminated"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", keyed.port))


def test_a_port_that_is_taken(finished_run, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--model", str(finished_run.model_dir), "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in complaint(capsys.readouterr().err)


def truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def foreign(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))


def without_tokenizer(folder):
    for path in folder.glob("*token*"):
        path.unlink()


BROKEN = {
    "truncated weights": (truncated, "truncated or no safetensors file"),
    "another architecture": (foreign, "model_type 'gpt2' is not supported"),
    "no tokenizer": (without_tokenizer, "tokenizer"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_model_that_cannot_be_served(finished_run, tmp_path, capsys, case):
    break_it, message = BROKEN[case]
    shutil.copytree(finished_run.model_dir, tmp_path / "model")
    break_it(tmp_path / "model")
    assert main(["serve", "--model", str(tmp_path / "model"), "--port", "0"]) == 2
    assert message in complaint(capsys.readouterr().err)


def test_the_page_about_serving_names_flags_metrics_and_statuses_that_there_are(capsys):
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    flags = set(re.findall(r"--[a-z][\w-]+", capsys.readouterr().out))
    of_finetune = {"--train", "--text-columns", "--label-column", "--out"}
    assert set(re.findall(r"--[a-z][\w-]+", page)) - of_finetune <= flags
    metrics = ServiceMetrics()
    metrics.close()
    exposed = re.findall(r"^# TYPE (\w+)", metrics.exposition().decode(), re.MULTILINE)
    assert set(re.findall(r"bertjax_\w+", page)) <= set(exposed)
    statuses = re.findall(r"^\| (4\d\d|5\d\d)", page, re.MULTILINE)
    assert {"400", "401", "408", "413", "422", "503"} <= set(statuses)


FLAGS = {
    "no model": ([], "--model"),
    "a folder that is not there": (["--model", "/nowhere/at/all"], "/nowhere/at/all is not a folder"),
    "a port that is none": (["--model", "m", "--port", "70000"], "port must be 65535 or less"),
    "a host that is none": (["--model", "m", "--host", "nowhere.invalid"], "--host nowhere.invalid is no address"),
    "a model without a name": (["--model", "m", "--models", "folder"], "--models folder must be NAME=ADDRESS"),
    "the first model's name": (["--model", "m", "--models", "default=x"], "none of them default"),
    "a name twice": (["--model", "m", "--models", "a=x", "a=y"], "another name for each"),
    "no texts at all": (["--model", "m", "--max-texts", "0"], "max_texts must be 1 or more"),
    "no time": (["--model", "m", "--time-limit", "0"], "time_limit must be positive"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_flags_that_contradict_the_rules(capsys, case):
    flags, message = FLAGS[case]
    assert main(["serve", *flags]) == 2
    assert message in complaint(capsys.readouterr().err)
