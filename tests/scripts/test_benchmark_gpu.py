"""The GPU benchmark, in tiny sizes on a CPU: every side runs, and no figure of a machine without a GPU is written."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_gpu.py"
# As on a machine where neither MLflow nor Ray is installed.
RUN = """
import runpy, sys
sys.modules.update(mlflow=None, ray=None)
sys.argv = sys.argv[1:]
sys.path.insert(0, {folder!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(folder, *flags):
    variables = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    variables |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "BERTJAX_CACHE": str(folder / "nothing")}
    command = [sys.executable, "-c", RUN.format(folder=str(SCRIPT.parent)), str(SCRIPT), *flags]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_every_side_runs_and_nothing_is_measured_without_a_gpu(tmp_path):
    """`rows` and `texts` have all frameworks; what the file has of other parts stays."""
    file = tmp_path / "gpu.json"
    file.write_text('{"update": {"status": "done"}}')
    ended = run(tmp_path, "--smoke", "--parts", "rows", "texts", "--json", str(file))
    assert ended.returncode == 0, ended.stderr
    results = json.loads(file.read_text())
    assert [(name, part["status"]) for name, part in results.items()] == [
        ("update", "done"),
        ("rows", "smoke"),
        ("texts", "smoke"),
    ]
    assert results["rows"]["card"] is None
    (full,), (texts,) = results["rows"]["rows"], results["texts"]["rows"]
    assert texts["about"].startswith("36 made-up texts with the lengths of TREC questions")
    for sides, absent in ((full["sides"], {"bertjax, pallas"}), (texts["sides"], set())):
        assert {side for side, figures in sides.items() if "ms" not in figures} == absent, ended.stderr
        assert {value for figures in sides.values() for value in figures.values()} == {"not measured"}
    assert {*full["sides"]} == {"bertjax", "bertjax, pallas", "torch", "torch.compile"}
    assert {*texts["sides"]} == {"bertjax", "Trainer", "Trainer, by length", "torch", "torch, by length"}


def test_a_machine_without_a_gpu_is_told_so(tmp_path):
    file = tmp_path / "gpu.json"
    ended = run(tmp_path, "--json", str(file))
    assert ended.stdout == "not measured: no GPU (--smoke runs every part in tiny sizes)\n"
    assert (ended.returncode, file.exists()) == (0, False)
