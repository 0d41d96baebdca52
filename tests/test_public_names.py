"""The public names: each resolves, and whatever users read or get written imports nothing below `bertjax`."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import bertjax
from bertjax.sweeps.results.sweep_results import experiment_file

ROOT = Path(__file__).parents[1]
README_BLOCKS = [
    block
    for page in ("README.md", "docs/python.md")
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
]


def deep_imports(source: str) -> list[str]:
    """The modules below `bertjax` that a source imports, and the attributes of `bertjax` that are not public."""
    deep = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            deep += [alias.name for alias in node.names if alias.name.startswith("bertjax.")]
        elif isinstance(node, ast.ImportFrom) and node.module == "bertjax":
            deep += [alias.name for alias in node.names if alias.name not in bertjax.__all__]
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("bertjax."):
            deep.append(str(node.module))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bertjax":
            deep += [] if node.attr in {*bertjax.__all__, "__version__"} else [node.attr]
    return deep


def test_deep_imports_are_found():
    source = "import bertjax.settings\nfrom bertjax.tasks import TASKS\nfrom bertjax import nothing\nbertjax.nowhere"
    assert deep_imports(source) == ["bertjax.settings", "bertjax.tasks", "nothing", "nowhere"]
    assert deep_imports("import bertjax\nfrom bertjax import Table\nbertjax.finetune") == []


@pytest.mark.parametrize("name", bertjax.__all__)
def test_public_name_resolves(name):
    assert getattr(bertjax, name) is not None
    assert name in dir(bertjax)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'bertjax' has no attribute 'finetoon'"):
        bertjax.finetoon  # noqa: B018


def test_import_of_bertjax_imports_nothing_heavy():
    code = "import sys, bertjax; sys.exit(str({'jax', 'numpy', 'pandas', 'tyro', 'ray'} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr.strip(), done.stdout) == ("", "")


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda path: path.stem)
def test_experiments_import_public_names_only(path):
    assert deep_imports(path.read_text()) == []


@pytest.mark.parametrize("block", README_BLOCKS, ids=range(len(README_BLOCKS)))
def test_readme_imports_public_names_only(block):
    assert deep_imports(block) == []


def test_readme_names_in_text_are_public():
    """Of what stands in backquotes: a name of the package, or a path of a file."""
    names = re.findall(r"`bertjax\.(\w+)", (ROOT / "README.md").read_text() + (ROOT / "docs/python.md").read_text())
    assert names
    assert set(names) <= set(bertjax.__all__)


def test_experiment_file_of_a_sweep_imports_public_names_only():
    base = bertjax.override(bertjax.FineTuneConfig(), {"data.validation_size": 0.1})
    sweep = bertjax.Sweep(base, space={"epochs": bertjax.Choice((1, 2))})
    trial = SimpleNamespace(trial=SimpleNamespace(number=0, values={"epochs": 2}, exploits=()), best=0.5)
    results = SimpleNamespace(sweep=sweep, metric="validation/loss", trials=[trial])
    source = experiment_file(results, trial)
    assert deep_imports(source) == []
    assert "bertjax.override" in source
