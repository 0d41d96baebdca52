"""The documents name files, functions and classes that are there."""

import inspect
import pkgutil
import re
from importlib import import_module
from inspect import signature
from pathlib import Path

import griffe
import pytest

import bertjax
from bertjax import catalog
from bertjax.cli.main import main
from bertjax.settings import flatten

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
    "docs/data.md": (["finetune --help-all", "fetch --help"], set()),
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
    "docs/faq.md": (["fetch --help", "doctor --help", "finetune --help-all"], set()),
    "docs/tasks.md": (["finetune --help-all"], set()),
    "docs/training.md": (
        ["finetune --help-all", "export --help"],
        {"--xla_gpu_autotune_level", "--xla_gpu_exclude_nondeterministic_ops"},  # of XLA
    ),
    "docs/inference.md": (
        ["predict --help", "evaluate --help", "explain --help", "label-issues --help-all", "serve --help"],
        {"--rm", "--build"},  # of docker compose
    ),
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


def test_every_page_is_in_the_site_and_has_a_title():
    listed = set(re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    pages = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
    assert listed == pages.keys()
    assert [name for name, text in pages.items() if not text.startswith("# ")] == []


def test_the_page_on_data_has_every_table_of_the_catalog():
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    assert [name for name in catalog.names("data") if f"`{name}`" not in page] == []


def test_every_public_name_is_in_the_api_and_documented():
    """The page has a line `::: module.name` for each line of the stub, and what it names says what it is."""
    names = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(names) == len(bertjax.__all__)
    found = {id(pkgutil.resolve_name(":".join(name.rsplit(".", 1)))) for name in names}
    assert [name for name in bertjax.__all__ if id(getattr(bertjax, name)) not in found] == []
    assert [name for name in bertjax.__all__ if not (getattr(bertjax, name).__doc__ or "").strip()] == []


def test_every_member_of_a_public_class_is_documented():
    """In its own docstring, in a base class's, or under `Attributes:`."""
    package = griffe.load("bertjax", search_paths=[ROOT])
    bare = []
    for name in re.findall(r"^::: bertjax\.(\S+)$", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.MULTILINE):
        found = package[name].final_target if package[name].is_alias else package[name]
        if not found.is_class:
            continue
        own = getattr(import_module(found.module.path), found.name)
        listed = set(re.findall(r"^ +(\w+(?:, \w+)*): ", inspect.getdoc(own) or "", re.MULTILINE))
        listed = {word for words in listed for word in words.split(", ")}
        bare += [
            f"{name}.{member.name}"
            for member in found.members.values()
            if not (member.name.startswith("_") or member.is_alias or member.docstring or member.name in listed)
            and not (member.is_function and inspect.getdoc(getattr(own, member.name)))
        ]
    assert bare == []


def test_the_settings_of_the_page_for_people_from_elsewhere_are_there():
    """On both sides of its table."""
    from transformers import Trainer, TrainingArguments

    page = (ROOT / "docs/coming_from.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1:3] for row in re.findall(r"^\| `.*$", page, re.MULTILINE)]
    theirs = {name for row in rows for name in re.findall(r"`(?:trainer\.)?(\w+)`", row[0])}
    parameters = {*signature(TrainingArguments).parameters, *signature(Trainer).parameters, *vars(Trainer)}
    assert len(theirs) > 8
    assert theirs <= parameters
    ours = {name for row in rows for name in re.findall(r"`([a-z_.]+)(?:=[^`]*)?`", row[1])}
    settings = flatten(bertjax.FineTuneConfig()).keys()
    assert ours - {"bertjax.register_task", "if_exists"} <= settings
