"""Every experiment: its config loads, its docstring has the required lines, and all of it runs with `--smoke`."""

import importlib.util
import os
import runpy
from pathlib import Path

import pytest

from bertjax import FineTuneConfig, Sweep
from bertjax.cli import experiment
from tests.support.processes import complaint

FILES = sorted((Path(__file__).parents[1] / "experiments").glob("*.py"))
OF_PROJECTS = ("projects", "weak_supervision")  # read the projects table, from BERTJAX_DATA or the web
SMOKED = [path for path in FILES if not path.stem.startswith("sweep_")]
DATA = os.environ.get("BERTJAX_DATA")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_experiment_loads_and_documents_its_score_cost_and_command(path):
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if isinstance(module.CONFIG, Sweep):
        command = f"bertjax sweep --config experiments/{path.name}"
    else:
        assert isinstance(module.CONFIG, FineTuneConfig)
        assert module.PUBLISHED.metrics
        command = f"python experiments/{path.name}"
    for word in ("Data ", "Published", "Expected", "Cost", command):
        assert word in module.__doc__


@pytest.fixture
def run_file(in_store, monkeypatch):
    """(experiment, flags...) -> the exit status, in a new folder and in this process, whose programs it shares."""
    monkeypatch.setattr(experiment, "prepare_process", lambda: None)

    def run_file(name: str, *flags: str) -> int:
        path = next(path for path in FILES if path.stem == name)
        monkeypatch.setattr("sys.argv", [str(path), *flags])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path), run_name="__main__")
        return int(ended.value.code or 0)

    return run_file


@pytest.mark.index
@pytest.mark.parametrize("name", [path.stem for path in SMOKED])
def test_all_of_an_experiment_runs(catalog_assets, run_file, name, capfd):
    if name in OF_PROJECTS and DATA is None:
        pytest.skip("BERTJAX_DATA names no folder with the projects table")
    assert run_file(name, "--smoke") == 0
    assert (Path("runs") / f"{name}-smoke").is_dir()
    said = capfd.readouterr().out
    assert said.count("seed 0") or said.count("report.html") or said.count("accuracy") or said.count("VADER")


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("squad", ["--data", "none"], "none/train-v1.1.json is not there; https://rajpurkar.github.io"),
        ("conll", [], "conll/eng.train is not there; https://www.clips.uantwerpen.be/conll2003/ner/ says how to get"),
        ("glue", ["--variants", "RTE"], "glue/RTE/train.tsv is not there; https://gluebenchmark.com/tasks has"),
        ("glue", ["--variants", "CoLa"], "--variants CoLa is no task of GLUE; they are CoLA, SST-2"),
        ("trec", ["--variants", "classic"], "--variants classic is no variant of trec; it has none"),
        ("trec", ["--seed", "1"], "--seed"),
    ],
)
def test_a_mistake_is_one_line(run_file, monkeypatch, capsys, name, flags, message):
    monkeypatch.delenv("BERTJAX_DATA", raising=False)
    assert run_file(name, *flags) == 2
    assert message in complaint(capsys.readouterr().err)
    assert not Path("runs").exists()
