"""Nothing is lost: a run that is killed four times, in the middle of a save too, ends as one that never was."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "interrupt_runs.py"


def test_a_run_that_is_interrupted_four_times_ends_the_same(tmp_path):
    variables = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "PYTHONWARNINGS")}
    found = tmp_path / "found.json"
    command = [sys.executable, str(SCRIPT), "--runs", "1", "--interruptions", "4", "--json", str(found)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert found.is_file(), done.stderr + done.stdout
    (run,) = json.loads(found.read_text())["runs"]
    assert run["differences"] == [], done.stdout
    kinds = [happened.split(" at step")[0] for happened in run["interruptions"]]
    assert kinds == ["SIGTERM", "SIGKILL", "SIGKILL while saving", "SIGTERM"]
