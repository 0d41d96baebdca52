"""Every experiment: its config loads, its docstring has the required lines, and all of it runs with `--smoke`."""

import importlib.util
import json
import os
import re
import runpy
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import pyarrow as pa
import pytest
from pyarrow import parquet
from transformers import AutoTokenizer

import bertjax
from bertjax import FineTuneConfig, Sweep, catalog
from bertjax.cli import experiment
from bertjax.errors import Diverged, UserError
from tests.support.models import TINY
from tests.support.processes import complaint, hub_snapshot
from tests.support.tables import splits_of

FILES = sorted((Path(__file__).parents[1] / "experiments").glob("*.py"))
OF_PROJECTS = ("projects", "weak_supervision")  # read the projects table, from BERTJAX_DATA or the web
SMOKED = [path for path in FILES if not path.stem.startswith("sweep_")]
DATA = os.environ.get("BERTJAX_DATA")


def loaded(path: Path):
    """The module of an experiment."""
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_experiment_loads_and_documents_its_score_cost_and_command(path):
    module = loaded(path)
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
    assert run_file(name, "--smoke", "--out", f"mine/{name}") == 0
    assert {path.name for path in Path("mine").iterdir()} - {f"{name}-tables"} == {name}
    beside = {path.name for path in Path("runs").iterdir() if not path.name.startswith("weak_supervision.")}
    assert beside <= {"smoke-model"}  # and the labels of functions, whose place the config names
    said = capfd.readouterr().out
    assert said.count("seed 0") or said.count("report.html") or said.count("accuracy") or said.count("VADER")


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("squad", ["--data", "none"], "none/train-v1.1.json is not there; https://rajpurkar.github.io"),
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


_INDEX = "is not in .*/assets/{} either: connect to a package index, or copy that folder from a machine that has it"
_WEB = (
    r"https://raw.githubusercontent.com/GokuMohandas/Made-With-ML/main/datasets/\w+.csv cannot be read: .*; "
    "BERTJAX_DATA may name a folder with copies, as experiments/README.md says"
)
_FILES = r"{} is not there.*; {}.*\. --data names the folder, or BERTJAX_DATA the one above"
# Experiment -> what it says where its data is nowhere.
WITHOUT_DATA = {
    **{name: _INDEX.format("trec") for name in ("trec", "compare_trec", "distillation", "few_shot", "pooling")},
    **{name: _INDEX.format("snippets-movies") for name in ("sentiment_regression", "mlm_domain")},
    "domain_shift": _INDEX.format("snippets-tweets"),
    "twitter_ner": _INDEX.format("twitter-ner"),
    "projects": _WEB,
    "weak_supervision": _WEB,
    "sweep_projects": _WEB.partition("; ")[0],
    "squad": _FILES.format("squad/train-v1.1.json", "https://rajpurkar.github.io/SQuAD-explorer/ has train-v1.1.json"),
    "glue": _FILES.format("glue/CoLA/train.tsv", "https://gluebenchmark.com/tasks has the tasks' folders"),
    "conll": _FILES.format("conll/eng.train", "https://www.clips.uantwerpen.be/conll2003/ner/ says how to get"),
}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory, tiny_model) -> str:
    """A model of random numbers that takes the lengths of all experiments."""
    folder = tmp_path_factory.mktemp("small")
    model = bertjax.make_model(replace(TINY, max_position_embeddings=384), "encoder")
    params = model.init(jax.random.key(0))
    return str(bertjax.save_pretrained(folder / "model", model, params, AutoTokenizer.from_pretrained(tiny_model)))


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_without_its_data_an_experiment_says_where_to_get_it(
    name, run_file, small_model, monkeypatch, tmp_path, capsys
):
    monkeypatch.delenv("BERTJAX_DATA", raising=False)
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # no web
    no_index = subprocess.CompletedProcess([], 1, "", "ERROR: no index")  # pip takes a second to find that out
    monkeypatch.setattr(catalog, "_watched", lambda *_: no_index)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    if name.startswith("sweep_"):
        with pytest.raises(UserError, match=WITHOUT_DATA[name]):
            bertjax.prepare(
                bertjax.override(
                    loaded(next(path for path in FILES if path.stem == name)).CONFIG.base, {"model": small_model}
                )
            )
        return
    assert run_file(name, "--model", small_model, "--seeds", "0") == 2
    assert re.search(WITHOUT_DATA[name], complaint(capsys.readouterr().err))


def _write_classes(path: Path, columns: dict, classes: dict[str, list[str]]) -> None:
    """A parquet file as `datasets` writes it: classes are integers, and the schema has their names."""
    features = {
        name: {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}
        if isinstance(columns[name][0], list)
        else {"names": names, "_type": "ClassLabel"}
        for name, names in classes.items()
    }
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Writes data sets where a hub client leaves them; offline, it reads nothing else."""
    monkeypatch.delenv("BERTJAX_DATA", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    texts = [f"it was film {i}" for i in range(24)]
    numbers = [i % 2 for i in range(24)]

    glue = hub_snapshot(tmp_path / "hub", "nyu-mll/glue", "dataset")
    for file in ("train", "validation"):
        pairs = {"sentence1": texts, "sentence2": [f"{file} {text}" for text in texts], "label": numbers}
        names = {"label": ["not_equivalent", "equivalent"]}
        _write_classes(glue / "mrpc" / f"{file}-00000-of-00001.parquet", pairs, names)
    for file in ("train", "validation_matched", "validation_mismatched"):
        pairs = {"premise": texts, "hypothesis": [f"{file} {text}" for text in texts], "label": numbers}
        names = {"label": ["entailment", "neutral", "contradiction"]}
        _write_classes(glue / "mnli" / f"{file}-00000-of-00001.parquet", pairs, names)

    conll = hub_snapshot(tmp_path / "hub", "eriktks/conll2003", "dataset", "refs/convert/parquet")
    for file in ("train", "validation", "test"):
        columns = {"tokens": [[file, *text.split()] for text in texts], "ner_tags": [[0, 0, 0, 1, 2]] * 24}
        _write_classes(conll / "conll2003" / file / "0000.parquet", columns, {"ner_tags": ["O", "B-MISC", "I-MISC"]})


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("glue", ["--variants", "MNLI"], r"MNLI, mismatched, seed 0: accuracy [\d.]+ \(published: 0\.841\)"),
        ("conll", [], r"test/f1 .* 0\.9240 .*\d"),
    ],
    ids=["MNLI", "CoNLL"],
)
def test_tables_of_the_hub_are_learned_from(hub, run_file, small_model, capsys, name, flags, said):
    assert run_file(name, "--model", small_model, "--seeds", "0", "--epochs", "1", *flags) == 0
    assert re.search(said, capsys.readouterr().out.replace("\n", " "))


def test_scores_of_a_class_are_those_of_the_hubs_name_of_it(hub, in_folder):
    (path,) = (path for path in FILES if path.stem == "glue")
    tables = loaded(path).tables_of("MRPC", bertjax.ExperimentFlags(), None)
    assert tables.published == {"test/class/equivalent/f1": 0.8885, "test/accuracy": 0.8407}
    table = bertjax.Table(str(tables.train), test=str(tables.dev), text=("sentence1",), text_pair=("sentence2",))
    assert set(splits_of(table).vocabulary) == {"equivalent", "not_equivalent"}


def test_runs_that_diverge_are_told(run_file, monkeypatch, capsys):
    def trained(folder, config, policy, context):
        if config.seed:
            raise Diverged("the loss is no number")
        context.begun()
        return SimpleNamespace(metrics={"test/accuracy": 0.5, "test/f1_macro": 0.5})

    monkeypatch.setattr("bertjax.training.multi.learning_curve.finetune_in", trained)
    assert run_file("few_shot", "--seeds", "0", "1") == 1
    printed = capsys.readouterr()
    assert "learning_curve/16/accuracy_mean" in printed.out
    assert "bertjax: 16 rows of each class, seed 1: the loss is no number" in printed.err
