"""The README's own commands, typed in an empty folder by somebody who has a csv and the README, and nothing else."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.support.documented_code import blocks, command_lines
from tests.support.processes import ROOT, free_port, user_environment

pytestmark = pytest.mark.usefixtures("catalog_assets")

SHELL = [block for block in blocks("README.md") if block.language == "bash"]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def line_of(start: str) -> str:
    """The README's one line that begins so, as it stands there."""
    (line,) = (line for block in SHELL for line in block.code.splitlines() if line.startswith(start))
    return line


@pytest.fixture
def typed(in_folder):
    """A line that bash runs in the empty folder -> what it printed, on both channels; it ends with status 0."""

    def typed(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            env=user_environment(PATH=PATH),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout

    return typed


def test_a_csv_becomes_a_model_that_is_judged_predicts_and_serves(typed, reviews):
    shutil.copy(reviews, "reviews.csv")
    rows = pd.read_csv("reviews.csv")
    rows[::6].to_csv("more.csv", index=False)
    rows[["title", "body"]][::10].to_csv("new.csv", index=False)

    code = "".join(block.code for block in SHELL)
    section = command_lines(code[code.index("python3 -m venv") :])
    to_a_model = [words[:2] for words in section].index(["bertjax", "finetune"]) + 1
    assert to_a_model <= 5  # installing included

    assert "run and model are in runs/a" in typed(line_of("bertjax finetune --train reviews.csv"))
    assert re.search(r"accuracy\W+[\d.]+", typed(line_of("bertjax evaluate")))
    typed(line_of("bertjax predict"))
    answers = pd.read_csv("answers.csv")
    assert list(answers.columns) == ["title", "body", "label", "probability"]
    assert set(answers["label"]) <= {"good", "bad"}
    assert len(answers) == 6

    port = str(free_port())  # 8000 may be taken
    command = f"exec {line_of('bertjax serve').partition('#')[0].strip()} --port {port}"
    with subprocess.Popen(
        ["bash", "-c", command], env=user_environment(PATH=PATH), stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            assert any(line.startswith("ready on") for line in iter(server.stderr.readline, ""))
            answer = json.loads(typed(line_of("curl").replace("curl localhost:8000", f"curl -s localhost:{port}")))
        finally:
            server.send_signal(signal.SIGTERM)
            server.stderr.read()
    assert {"label", "probability"} <= answer["predictions"][0].keys()


def test_quickstart_installs_once_and_trains(typed, tmp_path, tiny_model):
    """`scripts/quickstart.sh` in a copy of the checkout whose `.venv` is a stand-in: pip notes what it is asked."""
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/quickstart.sh", "scripts/environment.sh", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/asked"\n')
    (programs / "bertjax").write_text(f'#!/bin/sh\nexec "{Path(sys.executable).parent}/bertjax" "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    command = line_of("bash scripts/quickstart.sh").partition("#")[0].strip()
    small = f"--model {tiny_model} --max-length 48 --per-class 8 --epochs 1 --tracking none --out runs/a"
    assert "run and model are in runs/a" in typed(f"{command} {small}")
    assert "usage: bertjax finetune" in typed(f"{command} --help")
    (asked,) = (programs / "asked").read_text().splitlines()  # the second start installed nothing
    assert asked.endswith("--editable . --constraint constraints.txt")
