"""The command line's own behaviour."""

import subprocess
import sys
from pathlib import Path

import pytest

from bertjax.cli.main import COMMANDS, main, run


def test_help_imports_nothing_heavy():
    """Timings are no tests; the imports that would cost the time are."""
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


def test_finetune_has_the_flags_that_scripts_rely_on(capsys):
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    shown = capsys.readouterr().out
    for flag in (
        "model", "train", "validation", "test", "text-columns", "label-column", "task", "epochs", "batch-size",
        "learning-rate", "max-length", "seed", "out", "resume", "overwrite", "packing", "pooling",
    ):  # fmt: skip
        assert f"--{flag} " in shown, flag


def test_no_command_and_version(capsys):
    assert main([]) == 2
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.endswith("0.1.0\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line_and_other_errors_of_the_system_are_bugs(capsys, tmp_path):
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
    assert "minilm-l6    model  Apache-2.0" in shown
    assert shown.splitlines()[-1].endswith("trec")
