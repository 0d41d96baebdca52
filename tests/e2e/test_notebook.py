"""`experiments/start.ipynb`: it runs from top to bottom, what it shows is what it computes, and it names no machine."""

import os
import re
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from jupyter_client.manager import KernelManager

import bertjax
from tests.support.processes import user_environment
from tests.test_public_names import deep_imports

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "start.ipynb"
DATA = os.environ.get("BERTJAX_DATA")
_MAGIC = re.compile(r"^%%writefile (\S+)\n")


def read() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: nbformat.NotebookNode) -> str:
    """The text of a cell's outputs."""
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(texts)


def test_it_calls_public_names_only_and_the_files_that_it_writes_do():
    for cell in code_cells(read()):
        written = _MAGIC.match(cell.source)
        if written is None or written[1].endswith(".py"):
            assert deep_imports(_MAGIC.sub("", cell.source)) == []


def test_its_outputs_are_those_of_one_run_from_top_to_bottom_and_name_no_machine():
    cells = code_cells(read())
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    text = nbformat.writes(nbformat.v4.new_notebook(cells=cells))
    assert not re.findall(r"/(?:work|tmp|root|home|usr|opt|mnt|Users)/[\w./-]*", text)
    assert not re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", text.replace("127.0.0.1", ""))


@pytest.mark.ray
@pytest.mark.index
@pytest.mark.skipif(DATA is None, reason="BERTJAX_DATA names no folder with the projects table")
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """On one start of Ray, in a process of its own; what it says is near what it says in the repository."""
    assert DATA is not None
    (tmp_path / "data").symlink_to(Path(DATA).absolute())
    monkeypatch.chdir(tmp_path)  # the kernel's sockets are files of its folder, which the client looks for in its own
    environment = user_environment() | {"BERTJAX_DATA": "data", "PYTHONPATH": str(Path(bertjax.__file__).parents[1])}
    for name in {*os.environ} - {*environment}:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    notebook = read()
    manager = KernelManager(kernel_name="python3", transport="ipc")
    manager.kernel_spec.argv[0] = sys.executable
    client = nbclient.NotebookClient(
        notebook,
        km=manager,
        timeout=600,
        coalesce_streams=True,  # lines that come apart are one output, as in the file
        resources={"metadata": {"path": str(tmp_path)}},
        shutdown_kernel="graceful",
    )
    client.execute(cleanup_kc=True)  # ends a manager's kernel that is not its own, after a cell that failed too
    said = "\n".join(map(shown, code_cells(notebook)))
    assert "same batch: True" in said
    assert "holds" in said.splitlines()
    assert "ask a human" in said
    kept = {cell.id: shown(cell) for cell in code_cells(read())}
    for cell in code_cells(notebook):
        if "data_report" in cell.source or "value_counts" in cell.source or ".tokens()" in cell.source:
            assert shown(cell) == kept[cell.id]
    (scores,) = [shown(cell) for cell in code_cells(notebook) if "judgement.intervals" in cell.source]
    assert float(re.search(r"f1_weighted\s+([\d.]+)", scores)[1]) > 0.88
