"""A trial that fails costs one line, and a second attempt only where that may help; SIGTERM ends a sweep in order."""

import io
import json
import re
import signal
import subprocess
import sys

import pytest
from rich.console import Console

from bertjax.data.table import Table
from bertjax.errors import AssetError, ConfigError, DiskError, Diverged
from bertjax.sweeps import trial as trial_module
from bertjax.sweeps.ledger import Ledger
from bertjax.sweeps.results.sweep_report import console_table, render_report
from bertjax.sweeps.results.sweep_results import read_results
from bertjax.sweeps.search_space import Choice
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import run_trial
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support.processes import run_python, user_environment

BASE = FineTuneConfig(data=Table("t.csv", validation="v.csv"))
SWEEP = Sweep(BASE, {"epochs": Choice((1, 2))}, samples=2)
LONG = "diverged: 10 steps in a row were skipped, the last of them step 10: " + "the gradient is not finite; " * 9


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "s")
    ledger.open(SWEEP)
    ledger.record(0, drawn={"epochs": 1}, values={"epochs": 1}, ray_id="a")
    return ledger


@pytest.fixture
def reported():
    """Costs that Ray got."""
    return []


@pytest.fixture
def attempt(ledger, reported, monkeypatch):
    """Runs trial 0 with a training that ends with an error; returns how often it was trained."""
    trained = []

    def attempt(error):
        def fail(*arguments):
            trained.append(1)
            raise error

        monkeypatch.setattr(trial_module, "_train", fail)
        monkeypatch.setattr(trial_module, "_count_in_checkpoint", lambda: 0)
        monkeypatch.setattr(trial_module, "_report", lambda values, count: reported.append(values["cost"]))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
        monkeypatch.setenv("TUNE_FUNCTION_THREAD_TIMEOUT_S", "")
        run_trial({"number": 0}, str(ledger.folder), "parent", str(ledger.folder), "")
        return len(trained)

    return attempt


FINAL = {
    "diverged": (Diverged("10 steps in a row\nwere skipped"), "diverged: 10 steps in a row were skipped"),
    "a setting": (ConfigError("warmup takes 9 of the 6 steps"), "warmup takes 9 of the 6 steps"),
}


@pytest.mark.parametrize(("error", "cause"), FINAL.values(), ids=FINAL)
def test_what_is_deterministic_is_not_tried_again(ledger, attempt, reported, error, cause):
    assert attempt(error) == 1  # Ray sees no error, and nothing to repeat
    assert Ledger(ledger.folder).final_failure(0) == cause
    assert attempt(error) == 1  # nor does a driver that was killed before it had recorded the end
    assert reported == [trial_module.WORST_COST] * 2  # Ray wants a report of each trial


TROUBLE = [DiskError("full"), AssetError("no network"), RuntimeError("x"), MemoryError()]


@pytest.mark.parametrize("error", TROUBLE, ids=repr)
def test_trouble_of_the_machine_is_left_to_ray(ledger, attempt, error):
    with pytest.raises(type(error)):
        attempt(error)
    assert ledger.final_failure(0) is None


def test_the_table_has_a_line_a_trial_and_the_page_the_whole_cause(ledger):
    ledger.record(0, status="failed", cause=LONG)
    results = read_results(ledger.folder)
    printed = io.StringIO()
    Console(file=printed, width=160).print(console_table(results))
    (line,) = [line for line in printed.getvalue().splitlines() if "failed: " in line]
    assert "failed: diverged: 10 steps in a row were skipped, the ..." in line
    assert LONG.strip() in render_report(results)
    assert json.loads((ledger.folder / "trials.jsonl").read_text().splitlines()[-1])["cause"] == LONG


SWEEP_FILE = """
from bertjax import FineTuneConfig, Sweep, Table
from bertjax.sweeps.search_space import Choice, Grid

TABLE = Table({reviews!r}, text=("title", "body"), label="stars", validation_size=0.25)
CONFIG = Sweep(
    base=FineTuneConfig(model={model!r}, data=TABLE, epochs=3, max_length=48, batch_size=4),
    space={{"optimizer.learning_rate": Grid((1e38, 1e-3, 1e-4))}},
    searcher="grid", concurrency=1,
)
"""


@pytest.mark.ray
def test_a_sweep_with_a_diverging_trial_that_sigterm_ends(tiny_model, reviews, in_store):
    (in_store / "sweep.py").write_text(SWEEP_FILE.format(reviews=str(reviews), model=str(tiny_model)))
    start = [sys.executable, "-m", "bertjax", "sweep", "--config", "sweep.py", "--out", "s"]
    seen = []
    with subprocess.Popen(start, env=user_environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            seen.append(line)
            if line.startswith("trial 1, epoch 1"):
                process.send_signal(signal.SIGTERM)
                break
        seen += process.stderr.readlines()
    assert process.returncode == 143
    failures = [line for line in seen if "trial 0" in line and "epoch" not in line]
    assert len(failures) == 1
    assert re.match(r"trial 0 failed: diverged: 10 steps in a row were skipped", failures[0])
    for word in ("Traceback", "SIGTERM received", "Error", "restarted", "    @"):
        assert not [line for line in seen if word in line], word
    assert seen[-1].startswith("bertjax: the sweep in ")
    assert [trial.status for trial in Ledger(in_store / "s").trials()][:2] == ["failed", "running"]

    again = run_python("-m", "bertjax", "sweep", "--resume", "s", env=user_environment())
    assert again.returncode == 0, again.stderr
    assert "3 of 3 trials (1 failed, 2 finished)" in again.stdout
    assert again.stderr.splitlines()[-1].startswith("bertjax: 1 of 3 trials failed; the first: diverged: 10 steps in a")
    assert "trial 0" not in again.stderr
    assert "Traceback" not in again.stderr
