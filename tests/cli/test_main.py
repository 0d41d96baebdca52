"""The command `bertjax`: help, version, exit statuses, errors of the system."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bertjax
from bertjax.cli.main import COMMANDS, main, run


def test_help_imports_nothing_heavy():
    """A timing would be no test, but the imports that cost the time can be counted."""
    code = (
        "import sys; from bertjax.cli.main import main; main(['--help']);"
        "heavy = {'jax', 'numpy', 'pandas', 'transformers', 'mlflow', 'sklearn', 'torch', 'tyro'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"bertjax {command}" in capsys.readouterr().out


def help_of(capsys, monkeypatch, command, flag, columns=100):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as stop:
        main([command, flag])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("command", "lines"), [("finetune", 30), ("pretrain", 30), ("compare", 33)])
def test_common_flags_fit_on_a_screen_and_help_names_all_flags_in_three_groups(capsys, monkeypatch, command, lines):
    brief = help_of(capsys, monkeypatch, command, "--help")
    common, others = brief.split("data options:")
    data, advanced = others.split("advanced options:")
    assert len(common[common.index("common options") :].splitlines()) <= lines
    for flag, group in {"--model": common, "--out": common, "--contract": data, "--layer-decay": advanced}.items():
        assert flag in group.split(), flag
    assert f"bertjax {command} --help-all" in advanced

    full = help_of(capsys, monkeypatch, command, "--help-all")
    assert re.findall(r"(\w+) options ", full) == ["common", "data", "advanced"]
    named = set(re.findall(r"\s(--[a-z][\w-]*)", brief)) - {"--help", "--help-all"}
    assert named == set(re.findall(r"^. (--[\w-]+)", full, re.MULTILINE))


def test_finetune_has_the_flags_that_scripts_rely_on(capsys, monkeypatch):
    shown = help_of(capsys, monkeypatch, "finetune", "--help-all")
    for flag in (
        "model", "train", "validation", "test", "text-columns", "label-column", "task", "epochs", "batch-size",
        "learning-rate", "max-length", "seed", "out", "resume", "overwrite", "packing", "pooling",
    ):  # fmt: skip
        assert f"--{flag} " in shown, flag


def test_exit_status_of_no_command_and_version(capsys):
    assert main([]) == 2
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.endswith(f"{bertjax.__version__}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_is_one_line_and_other_os_errors_are_raised(capsys, tmp_path):
    assert run(lambda: Path("/dev/full").write_text("x")) == 2
    assert capsys.readouterr().err == (
        "bertjax: a file: No space left on device; free some space, or choose another folder\n"
    )
    with pytest.raises(FileNotFoundError):
        run((tmp_path / "none").read_bytes)


def test_fetch_lists_and_fetches(catalog_assets, capsys):
    assert main(["fetch"]) == 0
    assert main(["fetch", "trec"]) == 0
    shown = capsys.readouterr().out
    assert ["minilm-l6", "model", "Apache-2.0"] in [line.split() for line in shown.splitlines()]
    assert shown.splitlines()[-1].endswith("trec")


RECORDS = {
    "what Orbax does not find": ("absl", logging.WARNING, "Skipping merge of OCDBT checkpoints", False, True),
    "an error that it does not raise": ("absl", logging.ERROR, "a checkpoint was not deleted", False, True),
    "an error that it raises": ("absl", logging.ERROR, "raised an exception", True, False),
    "a lost file, which the damage of the checkpoint says": (
        "absl", logging.WARNING, "Metadata file does not exist: %s", False, False,
    ),
    "an event": ("absl", logging.INFO, "Finished saving", False, False),
    "another library's error": ("mlflow", logging.ERROR, "raised an exception", True, True),
}  # fmt: skip


@pytest.mark.parametrize(("name", "level", "text", "has_exception", "is_shown"), RECORDS.values(), ids=RECORDS)
def test_messages_of_libraries(capsys, name, level, text, has_exception, is_shown):
    """Orbax's are muted where bertjax says the same in one line, and nowhere else."""

    def job():
        logging.getLogger(name).log(level, text, exc_info=ValueError("no") if has_exception else None)
        return 0

    assert run(job) == 0
    assert bool(capsys.readouterr().err) == is_shown
