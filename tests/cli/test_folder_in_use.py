"""Two commands with one `--out`: the second is told in one line who has it, whatever it is, and touches nothing."""

from pathlib import Path

import pytest

from bertjax.cli.main import main
from tests.support.processes import complaint, holding

SWEEP = """
from bertjax import FineTuneConfig, Sweep, Table
from bertjax.sweeps.search_space import LogUniform

TABLE = Table({reviews!r}, text=("title", "body"), label="stars", validation_size=0.25)
CONFIG = Sweep(FineTuneConfig({model!r}, TABLE), {{"optimizer.learning_rate": LogUniform(1e-4, 1e-1)}}, samples=2)
"""
COMMANDS = {
    "finetune": ["finetune", "JOB", "--out", "x/run"],
    "finetune --resume": ["finetune", "JOB", "--out", "x/run", "--resume"],
    "finetune --overwrite": ["finetune", "JOB", "--out", "x/run", "--overwrite"],
    "pretrain": ["pretrain", "TEXT", "--out", "x/run"],
    "seeds": ["finetune", "JOB", "--seeds", "0", "1", "--out", "x/run"],
    "stacked seeds": ["finetune", "JOB", "--seeds", "0", "1", "--stack-seeds", "--out", "x/run"],
    "workers": ["finetune", "JOB", "--num-workers", "1", "--out", "x/run"],
    "compare": ["compare", "JOB", "--frameworks", "jax", "--out", "x/run"],
    "compare --overwrite": ["compare", "JOB", "--frameworks", "jax", "--out", "x/run", "--overwrite"],
    "sweep": ["sweep", "--config", "SWEEP", "--out", "x/run"],
    "sweep --resume": ["sweep", "--config", "SWEEP", "--resume", "x/run"],
    "sync": ["sync", "x/run"],
    "evaluate": ["evaluate", "ROWS", "MODEL", "--out", "x/run"],
    "evaluate --overwrite": ["evaluate", "ROWS", "MODEL", "--out", "x/run", "--overwrite"],
    "export": ["export", "MODEL", "--out", "x/run"],
}


@pytest.fixture
def words_of(tmp_path_factory, tiny_model, reviews):
    """The words of a command on the tiny model."""
    sweep = tmp_path_factory.mktemp("sweeps") / "sweep.py"
    sweep.write_text(SWEEP.format(reviews=str(reviews), model=str(tiny_model)))
    text = ["--model", str(tiny_model), "--train", str(reviews), "--text-columns", "title"]
    job = [*text, "body", "--label-column", "stars", "--validation-size", "0.2"]
    parts = {"JOB": job, "TEXT": text, "SWEEP": [str(sweep)]}
    parts |= {"MODEL": ["--model", str(tiny_model)], "ROWS": ["--data", str(reviews)]}
    return lambda command: [word for part in command for word in parts.get(part, [part])]


def state_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_second_command_is_told_who_has_the_folder(in_folder, words_of, capsys, command):
    (in_folder / "x" / "run").mkdir(parents=True)
    (in_folder / "x" / "run" / "config.json").write_text("{}")
    with holding(in_folder / "x" / "run") as process:
        before = state_of(in_folder)
        assert main(words_of(command)) == 2
        message = complaint(capsys.readouterr().err)
        assert f"x/run is in use by process {process.pid} on " in message
        assert state_of(in_folder) == before


@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_a_run_below_the_folder_is_in_use_too(in_folder, words_of, capsys, flag):
    seeds = in_folder / "x" / "run"
    (seeds / "seed-0").mkdir(parents=True)
    (seeds / "config.json").write_text("{}")
    with holding(seeds / "seed-0") as process:
        assert main(words_of([*COMMANDS["seeds"], flag])) == 2
        assert f"seed-0 is in use by process {process.pid} on " in complaint(capsys.readouterr().err)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_link_to_nothing_is_no_folder(in_folder, words_of, capsys, command):
    (in_folder / "x").mkdir()
    (in_folder / "x" / "run").symlink_to("gone")
    assert main(words_of(command)) == 2
    assert "x/run is a link to gone, which does not exist; make that folder" in complaint(capsys.readouterr().err)
    assert [path.name for path in (in_folder / "x").iterdir()] == ["run"]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_file_is_no_folder(in_folder, words_of, capsys, command):
    (in_folder / "x").mkdir()
    (in_folder / "x" / "run").write_text("mine")
    assert main(words_of(command)) == 2
    assert "x/run is a file; give a folder" in complaint(capsys.readouterr().err)
    assert (in_folder / "x" / "run").read_text() == "mine"
