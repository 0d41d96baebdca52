"""`bertjax completion`: what a shell completes, asked of the shell itself."""

import shutil
import subprocess

import pytest

from bertjax.cli.main import COMMANDS, main


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Shell -> the file with its script."""
    import contextlib

    folder, files = tmp_path_factory.mktemp("completion"), {}
    for shell in ("bash", "zsh", "fish"):
        files[shell] = folder / shell
        with files[shell].open("w") as file, contextlib.redirect_stdout(file):
            assert main(["completion", shell]) == 0
    return files


COMPLETED = {
    "a command": (["bertjax", "swe"], {"sweep"}),
    "every command": (["bertjax", ""], set(COMMANDS)),
    "a flag": (["bertjax", "finetune", "--text-c"], {"--text-columns"}),
    "a flag of another command": (["bertjax", "doctor", "--text-c"], set()),
    "no flag: the shell offers files": (["bertjax", "finetune", "rev"], set()),
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("case", COMPLETED)
def test_bash_completes(case, scripts):
    words, expected = COMPLETED[case]
    code = f'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD={len(words) - 1}; _bertjax; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", code, "bash", str(scripts["bash"]), *words], capture_output=True, text=True, check=True
    )
    assert (set(done.stdout.split()), done.stderr) == (expected, "")


def test_zsh_and_fish_have_the_same_words(scripts):
    assert scripts["zsh"].read_text().endswith(scripts["bash"].read_text())
    lines = scripts["fish"].read_text().splitlines()
    assert 'complete -c bertjax -n "__fish_seen_subcommand_from finetune" -l text-columns' in lines
    assert sum("__fish_use_subcommand" in line for line in lines) == len(COMMANDS)
