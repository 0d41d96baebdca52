"""The command as a stranger uses it: a real process, the real MiniLM, a table of their own, Ctrl-C, a second start."""

import json
import re
import signal
import subprocess
import sys

import pytest

from tests.support.processes import user_environment
from tests.support.tracking import runs_of

pytestmark = pytest.mark.usefixtures("catalog_assets")


@pytest.fixture
def environment(in_folder):
    """One CPU device, as on a laptop; what conftest forces on this process is not for others."""
    return user_environment(COLUMNS="120")


@pytest.fixture
def command(reviews):
    table = ["--train", str(reviews), "--text-columns", "title", "body", "--label-column", "stars"]
    return [sys.executable, "-m", "bertjax", "finetune", *table, "--epochs", "4", "--batch-size", "8", "--out", "run"]


def test_finetune_leaves_folder_and_mlflow_run(command, environment, in_folder):
    command = [*command, "--register", "reviews"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"weighted .* 1\.0000", done.stdout.replace("│", " "))
    assert "48 training examples (0 duplicate rows dropped), 12 test examples, 2 labels: bad, good" in done.stderr
    assert "examples/s" in done.stderr
    assert "mlflow" not in done.stderr.lower()  # it has nothing to say that a user should read
    assert "Downloading" not in done.stderr
    metrics = json.loads((in_folder / "run" / "metrics.json").read_text())
    assert metrics["test/accuracy"] == 1.0

    client, (run,) = runs_of(in_folder)
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == "minilm-l6"
    assert run.data.metrics["test/accuracy"] == 1.0
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")][:3] == [1, 2, 3]
    assert client.get_model_version_by_alias("reviews", "champion").run_id == run.info.run_id
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {
        "config.json", "environment.json", "metrics.json", "report.html", "report.md", "model",
        "slices.json", "charts",
    }  # fmt: skip


def test_ctrl_c_saves_and_a_second_start_continues(command, environment, in_folder):
    command = [*command, "--epochs", "10"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if re.search(r"step \d+/60", line):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=120) == 130
    found = re.search(r"stopped after step (\d+) of 60; --resume --out run with the same flags continues it", rest)
    assert found, rest
    assert "Traceback" not in rest
    assert not (in_folder / "run" / "metrics.json").exists()

    done = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    client, (run,) = runs_of(in_folder)
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/learning_rate")]
    assert steps == list(range(1, 61))
    assert run.info.status == "FINISHED"
