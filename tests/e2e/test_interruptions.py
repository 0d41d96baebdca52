"""Nothing is lost: a run that is killed four times, in the middle of a save too, ends as one that never was."""

import json

from tests.support.processes import ROOT, run_python, user_environment

SCRIPT = ROOT / "scripts" / "interrupt_runs.py"


def test_a_run_that_is_interrupted_four_times_ends_the_same(tmp_path):
    found = tmp_path / "found.json"
    command = [str(SCRIPT), "--runs", "1", "--interruptions", "4", "--json", str(found)]
    done = run_python(*command, env=user_environment())
    assert found.is_file(), done.stderr + done.stdout
    (run,) = json.loads(found.read_text())["runs"]
    assert run["differences"] == [], done.stdout
    kinds = [happened.split(" at step")[0] for happened in run["interruptions"]]
    assert kinds == ["SIGTERM", "SIGKILL", "SIGKILL while saving", "SIGTERM"]
