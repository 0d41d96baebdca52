"""Every experiment's config loads, and its docstring has the required lines."""

import importlib.util
from pathlib import Path

import pytest

from bertjax import FineTuneConfig, Sweep

FILES = sorted((Path(__file__).parents[1] / "experiments").glob("*.py"))


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
    for word in ("Published", "Expected", "Cost", command):
        assert word in module.__doc__
