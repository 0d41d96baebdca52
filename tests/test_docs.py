"""The documents name files, functions and classes that are there."""

import re
from pathlib import Path

import pytest

from bertjax.cli.main import main

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("document", ["docs/architecture.md", "docs/custom_logic.md", "CONTRIBUTING.md", "README.md"])
def test_every_file_that_a_document_names_is_there(document):
    paths = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/**/*.py") if ".venv" not in path.parts}
    # Code in backticks that ends like a file; a bare name is that of a file of the package.
    named = set(re.findall(r"`((?:[\w.-]+/)*\w+\.py)`", (ROOT / document).read_text(encoding="utf-8")))
    made_elsewhere = {"utils.py", "best.py"}  # what there is not, and what a sweep writes
    missing = {
        name for name in named - made_elsewhere if not any(path == name or path.endswith(f"/{name}") for path in paths)
    }
    assert not missing
    assert named


# A page -> the commands whose flags it names, and flags of other programs in it.
PAGES = {
    "docs/calibration.md": (["evaluate --help", "predict --help", "serve --help", "finetune --help-all"], set()),
    "docs/data.md": (["finetune --help-all"], set()),
    "docs/behaviour.md": (["evaluate --help"], set()),
    "docs/eda.md": (["eda --help", "finetune --help-all"], set()),
    "docs/evaluation.md": (["evaluate --help", "finetune --help-all"], set()),
    "docs/labeling.md": (["label --help", "compare --help", "finetune --help-all"], set()),
    "docs/label_issues.md": (["label-issues --help-all", "evaluate --help"], set()),
    "docs/explanations.md": (["explain --help", "evaluate --help", "serve --help"], set()),
    "docs/predict.md": (["predict --help", "finetune --help-all"], set()),
    "docs/simple_models.md": (["evaluate --help", "finetune --help-all"], set()),
    "docs/serving.md": (["serve --help", "finetune --help-all"], set()),
    "docs/slices.md": (["evaluate --help"], set()),
    "docs/custom_logic.md": (["predict --help", "serve --help", "evaluate --help", "finetune --help-all"], set()),
}


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_of_a_page_is_there(capsys, page):
    commands, others = PAGES[page]
    described = set(others)
    for command in commands:
        with pytest.raises(SystemExit):
            main(command.split())
        described |= set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    named = set(re.findall(r"--[a-z][\w-]*", (ROOT / page).read_text(encoding="utf-8")))
    assert len(named) > 3
    assert named <= described
