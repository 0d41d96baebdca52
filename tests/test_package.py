"""What users install: a wheel that runs outside the checkout, with its own requirements and no others.

A virtual environment gets links to the installed distributions that the wheel requires, found by their metadata, and
the wheel itself. So a package that bertjax imports and does not require is missing there, in seconds.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bertjax import catalog
from scripts.check_extras import MODULES, declared
from tests.support.processes import ROOT, user_environment

BUILD = "import sys; from setuptools import build_meta as b; out = sys.argv[1]; b.build_wheel(out); b.build_sdist(out)"


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist, built from a copy of the checkout's files."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT / "bertjax", source / "bertjax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "LICENSE-catalog.md"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=source, capture_output=True, check=True)
    return out


def closure(requirements: list[Requirement]) -> set[str]:
    """The names of all distributions that requirements bring; the installed versions are what they ask for."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = list(requirements)
    while todo:
        item = todo.pop()
        name, extras = canonicalize_name(item.name), frozenset(item.extras)
        assert item.specifier.contains(metadata.version(name), prereleases=True), item
        if (name, extras) not in seen:
            seen.add((name, extras))
            for each in map(Requirement, metadata.requires(name) or []):
                if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                    todo.append(each)
    return {name for name, _ in seen}


def environment(folder: Path, wheel: Path, extra: str = "") -> Path:
    """The Python of a new virtual environment that has the wheel, what it requires with an extra, and nothing else."""
    venv.create(folder, with_pip=False)
    with zipfile.ZipFile(wheel) as archive:
        text = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        lines = re.findall(r"^Requires-Dist: (.+)$", archive.read(text).decode(), re.MULTILINE)
    items = [Requirement(line) for line in lines]
    wanted = [item for item in items if item.marker is None or item.marker.evaluate({"extra": extra})]
    (site,) = folder.glob("lib/python*/site-packages")
    for name in closure(wanted):
        distribution = metadata.distribution(name)
        for entry in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / entry).exists():
                (site / entry).symlink_to(Path(str(distribution.locate_file(entry))))
    if extra:
        with zipfile.ZipFile(wheel) as archive:  # a wheel of Python alone is installed so
            archive.extractall(site)
    else:
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check"]
        install = [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
        subprocess.run(install, capture_output=True, check=True)
        subprocess.run([*pip, "check"], capture_output=True, check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def wheel(dist) -> Path:
    (wheel,) = dist.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(tmp_path_factory, wheel) -> Path:
    """The Python of an environment without any extra."""
    return environment(tmp_path_factory.mktemp("venv"), wheel)


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    variables = user_environment(JAX_PLATFORMS="cpu")
    variables.pop("PYTHONPATH", None)
    variables.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.run(
        [str(python), "-W", "ignore", *arguments], cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )


def test_the_wheel_and_the_sdist_have_every_file_of_the_package(dist, wheel):
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "bertjax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"bertjax/py.typed", "bertjax/report_pages/templates/serve.js"} <= package
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    assert package <= shipped
    assert not {name for name in shipped - package if ".dist-info/" not in name}
    assert {"LICENSE", "LICENSE-catalog.md"} <= {Path(name).name for name in shipped}
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert package <= {name.partition("/")[2] for name in archive.getnames()}


def test_the_wheel_trains_in_a_new_environment_without_the_checkout(python, reviews, tiny_model, tmp_path):
    found = run(python, "-c", "import bertjax; print(bertjax.__file__)", cwd=tmp_path)
    assert found.stdout.startswith(str(python.parents[1])), found.stderr
    table = ["--train", str(reviews), "--text-columns", "title", "body", "--label-column", "stars"]
    job = ["--model", str(tiny_model), "--max-length", "48", "--batch-size", "16", "--epochs", "1", "--out", "run"]
    done = run(python, "-m", "bertjax", "finetune", *table, *job, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()  # its templates came with the wheel
    assert (tmp_path / "mlflow.db").is_file()


_SEARCH = """
import bertjax
from bertjax.sweeps.searchers import make_searcher as f
base = bertjax.FineTuneConfig(data=bertjax.Table('t', validation_size=0.1))
space = {'optimizer.learning_rate': bertjax.LogUniform(1e-5, 1e-3)}
"""
# Extra -> code that asks for what it brings, where it is missing.
ASKED = {
    "serve": ["from bertjax.cli.serve import _check_packages as f; f()"],
    "torch": ["import bertjax; bertjax.parity('x')"],
    "onnx": ["from bertjax.baselines.runners.frameworks import check_frameworks as f; f(['onnx'])"],
    "search": [
        f"{_SEARCH}f(bertjax.Sweep(base, space, searcher={searcher!r}, samples=1), [], 'cost', 0)"
        for searcher in ("optuna", "hyperopt")
    ],
    "labeling": ["from bertjax.labeling.label_models import fit_label_model as f; f(None, None, 0)"],
    "analysis": [
        "from bertjax.evaluation.label_issues.confident_learning import import_cleanlab as f; f()",
        "from bertjax.inference.explanations.lime_samples import check_lime as f; f()",
    ],
}


def test_a_missing_extra_names_the_one_to_install(python, tmp_path):
    asked = [(extra, code) for extra, codes in ASKED.items() for code in codes]
    code = f"for extra, code in {asked!r}:\n    try: exec(code)\n    except ValueError as error: print(extra, error)\n"
    done = run(python, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line.partition(" ")[0] for line in said] == [extra for extra, _ in asked]
    assert all(f"pip install 'bertjax[{line.partition(' ')[0]}]'" in line for line in said), said


def test_every_extra_is_checked_in_an_environment_of_its_own():
    """By `scripts/check_extras.py`, from the package index, which takes an hour; here its table is whole."""
    assert declared() == MODULES.keys()


@pytest.mark.parametrize("extra", [*ASKED, "cluster", "notebook", "docs"])
def test_an_extra_brings_what_its_modules_import(extra, wheel, tmp_path):
    python = environment(tmp_path / "venv", wheel, extra)
    done = run(python, "-c", f"import {', '.join(MODULES[extra])}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_licences_of_the_catalog_are_those_that_it_states():
    """`bertjax fetch --licenses > LICENSE-catalog.md` writes the file."""
    text = (ROOT / "LICENSE-catalog.md").read_text(encoding="utf-8")
    assert text == f"{catalog.licenses()}\n"
    assert all(f"| {name} |" in text for name in catalog.names())
