"""Small files that a command reads back: one that is damaged is named in one line, and nothing is touched."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bertjax.cli.finetune import RunFlags
from bertjax.cli.flags.job_flags import parse_job
from bertjax.cli.main import main
from bertjax.data.table import Table
from bertjax.settings import flatten
from bertjax.sweeps.search_space import LogUniform
from bertjax.sweeps.sweep_config import Sweep, to_json
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support.processes import complaint

Damage = Callable[[Path], object]


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("")


def _link_to_itself(path: Path) -> None:
    """Not to be opened, by root either, for whom a file without permissions is."""
    path.symlink_to(path.name)


# In the place of a JSON object, of its numbers, of lines of them, of text, of arrays; each with a part of the message.
ANY: dict[str, tuple[Damage, str]] = {
    "binary": (lambda path: path.write_bytes(b"\xff\xfe\x00\x80\n"), ""),
    "a folder": (_folder, "folder|directory"),
    "unreadable": (_link_to_itself, "cannot be read: Too many levels of symbolic links"),
}
OBJECT = ANY | {
    "empty": (lambda path: path.write_text(""), "is empty"),
    "truncated": (lambda path: path.write_text('{"a": 1, "b'), "is not valid JSON"),
    "wrong type": (lambda path: path.write_text("[1]"), "must hold a JSON object, got list"),
}
NUMBERS = OBJECT | {
    "no number": (lambda path: path.write_text('{"train/seconds": "x"}'), "train/seconds must be a number, got 'x'"),
}
LINES = ANY | {
    "no JSON": (lambda path: path.write_text('{"number": \n'), "line 1: is not valid JSON"),
    "wrong type": (lambda path: path.write_text("[1]\n"), "line 1: must be a JSON object"),
}
EVENTS = LINES | {
    "no event": (lambda path: path.write_text('{"metrics": 3, "step": 1}\n'), "a line that is no event of a run"),
}
TRIALS = LINES | {
    "no event": (lambda path: path.write_text('{"numer": 0}\n'), "a line that is no event of a trial"),
}
STARTS = OBJECT | {
    "no list": (lambda path: path.write_text('{"starts": 1}'), "must hold a list of starts"),
    "none": (lambda path: path.write_text("{}"), "must hold a list of starts"),
}
CASES = [
    *((command, "run/config.json", OBJECT) for command in ("finetune", "workers")),
    *((command, "run/environment.json", STARTS) for command in ("finetune", "workers")),
    *((command, "run/metrics.json", NUMBERS) for command in ("finetune", "workers")),
    *((command, "run/tracking.jsonl", EVENTS) for command in ("finetune", "workers", "sync")),
    ("seeds", "seeds/config.json", OBJECT),
    ("seeds", "seeds/environment.json", STARTS),
    ("seeds", "seeds/tracking.jsonl", EVENTS),
    ("seeds", "seeds/seed-0/metrics.json", NUMBERS),
    ("seeds", "seeds/seed-1/diverged.txt", ANY),
    ("compare", "compared/config.json", OBJECT),
    ("compare", "compared/tracking.jsonl", EVENTS),
    ("compare", "compared/jax-0/result.json", OBJECT),
    ("sweep", "sweep/sweep.json", OBJECT),
    ("sweep", "sweep/tracking.jsonl", EVENTS),
    *(("show", "sweep/" + name, kind) for name, kind in {
        "sweep.json": OBJECT,
        "trials.jsonl": TRIALS,
        "trials/000/metrics.json": NUMBERS,
        "trials/000/tracking.jsonl": LINES,
    }.items()),
    ("evaluate", "finished/model/config.json", OBJECT),
    ("export", "finished/model/config.json", OBJECT),
    ("export", "finished/metrics.json", NUMBERS),
    ("resumed with a damaged model", "finished/model/config.json", OBJECT),
]  # fmt: skip


@pytest.fixture
def commands(in_folder, tiny_model, reviews) -> dict[str, list[str]]:
    """The words of each command, and the folders that they read: `run`, `seeds`, `compared`, `sweep`, `finished`."""
    job = ["--model", str(tiny_model), "--train", str(reviews), "--text-columns", "title", "body",
           "--label-column", "stars", "--validation-size", "0.2", "--max-length", "48"]  # fmt: skip
    settings = flatten(parse_job(RunFlags, job, "bertjax finetune")[0].resolved())
    without_seed = {path: value for path, value in settings.items() if path != "seed"}
    table = Table(str(reviews), text=("title", "body"), label="stars", validation_size=0.2)
    sweep = Sweep(FineTuneConfig(str(tiny_model), table), {"optimizer.learning_rate": LogUniform(1e-4, 1e-1)})
    trial = {"number": 0, "drawn": {}, "values": {}, "status": "finished"}
    for name, values in {
        "run/config.json": settings,
        "seeds/config.json": without_seed | {"seeds": [0, 1]},
        "seeds/seed-0/config.json": settings,
        "seeds/seed-1/config.json": settings | {"seed": 1},
        "compared/config.json": settings,
        "sweep/sweep.json": to_json(sweep),
        "sweep/trials.jsonl": trial,
        "sweep/trials/000/config.json": settings,
    }.items():
        (in_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (in_folder / name).write_text(json.dumps(values) + "\n")
    (in_folder / "compared" / "jax-0").mkdir()
    shutil.copytree(tiny_model, in_folder / "finished" / "model")
    on_rows = ["--data", str(reviews), "--out", "evaluated"]
    return {
        "finetune": ["finetune", *job, "--out", "run", "--resume"],
        "workers": ["finetune", *job, "--out", "run", "--resume", "--num-workers", "1"],
        "seeds": ["finetune", *job, "--out", "seeds", "--seeds", "0", "1", "--resume"],
        "compare": ["compare", *job, "--out", "compared", "--frameworks", "jax", "--seeds", "0", "--resume"],
        "sweep": ["sweep", "--resume", "sweep"],
        "show": ["sweep", "--show", "sweep"],
        "sync": ["sync", "run"],
        "evaluate": ["evaluate", "--model", "finished/model", *on_rows],
        "export": ["export", "--model", "finished/model", "--out", "exported"],
        "resumed with a damaged model": ["finetune", *job, "--model", "finished/model", "--out", "new"],
    }


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("command", "name", "damage", "message"),
    [
        pytest.param(command, name, *case, id=f"{command}: {name} {kind}")
        for command, name, kinds in CASES
        for kind, case in kinds.items()
    ],
)
def test_a_damaged_file_is_one_line(commands, in_folder, capsys, command, name, damage, message):
    path = in_folder / name
    path.unlink(missing_ok=True)
    damage(path)
    before = names_in(in_folder)
    assert main(commands[command]) == 2
    said = complaint(capsys.readouterr().err)
    assert path.name in said
    assert any(part in said for part in message.split("|"))
    assert names_in(in_folder) == before


SETTINGS = {
    "bertjax": ({"bertjax": [1]}, "bertjax must hold an object, got [1]"),
    "task": ({"bertjax": {"task": ["a"]}}, "is unknown; there are encoder, classification"),
    "pooling": (
        {"bertjax": {"task": "encoder", "pooling": "maen"}},
        "pooling 'maen' is unknown; there are pooler",
    ),
    "max_length": ({"bertjax": {"max_length": "abc"}}, "bertjax.max_length must be a number of tokens, got 'abc'"),
    "negative max_length": ({"bertjax": {"max_length": -3}}, "bertjax.max_length must be a number of tokens, got -3"),
    "reading": ({"bertjax": {"reading": [1]}}, "bertjax.reading must hold an object, got [1]"),
    "num_labels": ({"bertjax": {"task": "classification"}, "num_labels": "2"}, "num_labels must be a whole number"),
    "heads": ({"num_attention_heads": 0}, "num_attention_heads must be 1 or more, got 0"),
    "width": ({"hidden_size": 0}, "hidden_size must be 1 or more, got 0"),
    "positions": ({"max_position_embeddings": -1}, "max_position_embeddings must be 1 or more, got -1"),
}


@pytest.mark.parametrize(("changes", "message"), SETTINGS.values(), ids=SETTINGS)
def test_a_model_with_settings_of_the_wrong_kind(commands, in_folder, capsys, changes, message):
    path = in_folder / "finished" / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert main(commands["export"]) == 2
    assert message in complaint(capsys.readouterr().err)
    assert not (in_folder / "exported").exists()


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", [_folder, _link_to_itself, lambda path: path.symlink_to("blobs/gone")])
def test_a_file_of_the_tokenizer_that_cannot_be_read_is_not_left_out(commands, in_folder, capsys, name, damage):
    path = in_folder / "finished" / "model" / name
    path.unlink()
    damage(path)
    assert main(commands["export"]) == 2
    said = complaint(capsys.readouterr().err)
    assert f"{name} cannot be read: " in said or (name == "tokenizer.json" and "has no tokenizer that bertjax" in said)
