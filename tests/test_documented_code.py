"""Every piece of code in the README and on the pages is run, or at least read by the real command line.

What takes a training, a server or a cluster is read alone; `tests/e2e/test_readme.py` types the README's own commands.
"""

import argparse
import json
import re
import runpy
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from transformers import AutoTokenizer

import bertjax
from bertjax.cli.experiment import ExperimentFlags
from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.main import COMMANDS, main
from bertjax.cli.process import process_setup
from scripts.check_extras import MODULES
from tests.support.documented_code import (
    PAGES,
    Block,
    Parsed,
    blocks,
    command_lines,
    outside_of_blocks,
    parses,
    spans,
    text_of,
)
from tests.support.models import TINY, of_a_member_with
from tests.support.processes import ROOT

PROJECTS = ("computer-vision", "mlops", "natural-language-processing", "other")
# Needs a registry, a cluster, or a job that was stopped.
ELSEWHERE = re.compile(r"best|models:/.*|--engine|--address|--resume")
IN_A_SENTENCE = re.compile(r"bertjax \S|python (scripts/|experiments/|-c)|pip install ")
RUN = ("eda", "evaluate", "explain", "fetch", "label", "predict")  # the others are read
NEEDED = {"evaluate": ("--model", "--data"), "predict": ("--model", "--data", "--out"), "serve": ("--model",)}
# Page -> how many of its blocks the page itself says no test runs.
NOT_RUN = {
    "README.md": 3,
    "docs/clusters.md": 1,
    "docs/coming_from.md": 2,
    "docs/inference.md": 1,
    "docs/tracking.md": 1,
}


def _network(folder: Path, tokenizer: Path, task: str, labels: tuple[str, ...], **settings: Any) -> None:
    """A model of a task whose head has learned nothing."""
    model, params = bertjax.from_pretrained(tokenizer, task=task, labels=labels, new_head=True)
    bertjax.save_pretrained(folder, model, params, AutoTokenizer.from_pretrained(tokenizer), **settings)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory, database, tiny_model, reviews, finished_run) -> Path:
    """A folder with small models and tables under the names that the pages use."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copy(database, folder / "mlflow.db")
    (folder / "experiments").symlink_to(ROOT / "experiments")
    for run in ("run", "runs/a", "runs/b", "runs/trec", "runs/reviews"):
        shutil.copytree(finished_run.model_dir, folder / run / "model")
    (folder / "my-bert").symlink_to(tiny_model)
    # The name of the catalog's encoder, which says of itself neither pooling nor length.
    wide = bertjax.make_model(replace(TINY, vocab_size=3000, max_position_embeddings=512), "encoder")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    bertjax.save_pretrained(folder / "minilm-l6", wide, wide.init(jax.random.key(0)), tokenizer)
    discriminator = bertjax.make_model(of_a_member_with("replaced_tokens"), "replaced_tokens")
    bertjax.save_pretrained(folder / "my-electra", discriminator, discriminator.init(jax.random.key(0)), tokenizer)
    stored = json.loads((folder / "minilm-l6/config.json").read_text())
    (folder / "minilm-l6/config.json").write_text(json.dumps({key: stored[key] for key in stored if key != "bertjax"}))
    reading = {"data.text": ["title", "description"], "data.label": "tag"}
    _network(folder / "runs/projects/seed-0/model", tiny_model, "classification", PROJECTS, reading=reading)
    _network(folder / "runs/other/model", tiny_model, "classification", ("cv", "nlp"))
    _network(folder / "run-ner/model", tiny_model, "token_classification", ("O", "B-LOC", "I-LOC"))

    rows = pd.read_csv(reviews)
    joined = rows["title"] + " " + rows["body"]
    asked = rows[["title", "body"]].assign(description=rows["body"], text=joined, year="2020")
    months = [f"2020-{1 + i % 12:02}-01" for i in range(len(rows))]
    topics = [PROJECTS[i % len(PROJECTS)] for i in range(len(rows))]
    labelled = asked.assign(stars=rows["stars"], label=rows["stars"], tag=topics, created_on=months, source="web")
    for name in ("reviews", "train"):
        labelled.to_csv(folder / f"{name}.csv", index=False)
    for name in ("test", "holdout", "validation", "other", "more"):
        labelled[::5].to_csv(folder / f"{name}.csv", index=False)
    for name in ("projects", "texts", "new", "new/1", "reviews/1"):
        (folder / name).parent.mkdir(exist_ok=True)
        asked[::4].to_csv(folder / f"{name}.csv", index=False)
    (folder / "tools.txt").write_text("song\n")
    for block in (block for page in PAGES for block in blocks(page) if block.file):
        (folder / block.file).write_text(block.code, encoding="utf-8")
    return folder


@pytest.fixture
def in_stand_ins(stand_ins, tmp_path, monkeypatch) -> Path:
    """A copy of the stand-ins as the current folder."""
    shutil.copytree(stand_ins, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "here"


def _check_other_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command that is not bertjax's asks for is there: an extra, a script and its flags, an experiment."""
    match words:
        case ["pip", "install", requirement, *_]:
            assert Requirement(requirement).extras <= MODULES.keys(), words
        case ["python", script, *flags] if script.startswith("experiments/"):
            assert (ROOT / script).is_file(), words
            parse(ExperimentFlags, flags, script)
        case ["python", script, *flags] if script.startswith("scripts/"):
            reads = argparse.ArgumentParser.parse_args

            def stop(parser: argparse.ArgumentParser, *_: Any) -> None:
                raise Parsed(reads(parser, flags))

            with monkeypatch.context() as patches:
                patches.syspath_prepend(str(ROOT / "scripts"))  # as a script has it
                patches.setattr(process_setup, "prepare_process", lambda: None)
                patches.setattr(argparse.ArgumentParser, "parse_args", stop)
                with pytest.raises(Parsed):
                    runpy.run_path(str(ROOT / script), run_name="__main__")
        case ["curl", address, *_]:
            assert f"POST /{address.partition('/')[2]}`" in text_of("docs/serving.md"), words
            json.loads(words[words.index("-d") + 1])
        case ["export", assignment, *_]:
            assert re.match(r"BERTJAX_[A-Z_]+=", assignment), words
        case ["bash", script, *_]:
            subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
        case _:
            pytest.fail(f"no test knows {shlex.join(words)}")


def _run_block(block: Block, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a block of a page in the current folder; names are those that the page's Python has so far."""
    where = f"{block.page}:{block.line}"
    match block.language:
        case "python":
            code = compile(block.code, where, "exec")
            if block.reason is None:
                exec(code, names)
        case "bash":
            for words in command_lines(block.code):
                if words[0] != "bertjax":
                    assert block.reason or _check_other_command(words, monkeypatch) is None
                elif block.reason or words[1] not in RUN or any(map(ELSEWHERE.fullmatch, words)):
                    parses(monkeypatch, words[1:])
                else:
                    status = main(words[1:])
                    # A gate that a network of random numbers does not pass.
                    assert status == int("--min-pass-rate" in words), f"{where}: {shlex.join(words)}"
        case "json":
            json.loads(block.code)
        case "yaml":
            yaml.safe_load(block.code)
        case language:
            assert language == "text", where
            assert not re.search(r"^(\$|bertjax|pip|python|bash|curl) ", block.code, re.MULTILINE), where


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set:UserWarning")  # of torch, under Trainer
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page, in_stand_ins, monkeypatch):
    names: dict[str, Any] = {"__name__": "a_page"}
    for block in blocks(page):
        _run_block(block, names, monkeypatch)


def test_what_no_test_runs_is_counted():
    found = {page: sum(block.reason is not None for block in blocks(page)) for page in PAGES}
    assert {page: count for page, count in found.items() if count} == NOT_RUN


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_code_without_a_fence(page):
    assert not re.search(r"\n\n    \S", outside_of_blocks(page))
    assert "```" not in outside_of_blocks(page)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_in_the_sentences_of_a_page_parse(page, monkeypatch):
    for words in map(shlex.split, filter(IN_A_SENTENCE.match, spans(page))):
        if words[:2] == ["python", "-c"]:
            compile(words[2], page, "exec")
        elif words[0] != "bertjax":
            _check_other_command(words, monkeypatch)
        elif len(words) == 2 or words[2:] in (["--help"], ["--help-all"]):
            assert words[1] in COMMANDS or words[1] == "--help", words
        else:
            # A sentence leaves out what it is not about.
            unsaid = [flag for flag in NEEDED.get(words[1], ()) if flag not in words]
            parses(monkeypatch, [*words[1:], *(word for flag in unsaid for word in (flag, "x.csv"))])
