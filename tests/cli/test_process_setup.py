"""Process-wide settings of the command line, and those of the user, which it keeps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertjax.cli.process.process_setup import deterministic_flags, keep_compiled_programs, make_deterministic

# Compiles a step in its two halves as a run does, and prints how many programs came out of the cache and how many not.
COMPILE = """
from bertjax.cli.process.process_setup import keep_compiled_programs
keep_compiled_programs()
import jax
from bertjax.batch import empty_batch
from bertjax.devices.data_parallel import AXIS, all_devices
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import TrainStep
from bertjax.training.train_state import TrainState
found = {"/jax/compilation_cache/cache_hits": 0, "/jax/compilation_cache/cache_misses": 0}
def count(event, **_):
    if event in found:
        found[event] += 1
def gradient(state, batch):
    metrics = {"loss": state.params.sum(), "squares": jax.numpy.ones(1)}
    return jax.lax.psum(state.params * batch.example_weights.sum(), AXIS), metrics
def update(state, grads, loss, squares=None):
    return state._replace(params=state.params - grads), {}
devices = all_devices()
step = TrainStep(None, lambda params: params, gradient, update)
state = devices.place(TrainState(jax.numpy.ones(3), None, 0, jax.random.PRNGKey(0)))
jax.monitoring.register_event_listener(count)
CompiledTrainStep(devices, None, step, state, [empty_batch(2, 8, 1)]).wait()
print(*found.values())
"""


@pytest.fixture
def environment(tmp_path):
    """Environment variables without any of JAX's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "PYTHONWARNINGS"))}
    root = str(Path(__file__).parents[2])
    return {**kept, "PYTHONPATH": root, "BERTJAX_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}


def test_second_start_finds_the_compiled_step_in_the_cache(environment, tmp_path):
    """Both halves, compiled ahead of time for all devices; for once the tiny ones are kept too."""
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    first, second = (
        subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert (first.stdout, second.stdout) == ("0 2\n", "2 0\n")
    assert any((tmp_path / "cache" / "compiled").iterdir())


def settings_after(environment):
    code = (
        "import os; from bertjax.cli.process.process_setup import keep_compiled_programs; keep_compiled_programs();"
        "print({name: value for name, value in os.environ.items() if name.startswith('JAX_')})"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return eval(done.stdout)


def test_compiled_programs_have_a_folder_and_a_bound(environment, tmp_path):
    environment.pop("JAX_PLATFORMS")
    assert settings_after(environment) == {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache" / "compiled"),
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(2 * 2**30),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }


def test_users_compilation_cache_is_kept(environment, tmp_path):
    own = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "mine")}
    assert settings_after({**environment, **own}) == own
    assert not (tmp_path / "cache").exists()


def test_unwritable_cache_folder_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "file"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    keep_compiled_programs()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_command_restarts_itself_with_huge_pages(environment):
    """Only where the user has not set the variable, and never in a loop."""
    code = (
        "import os; from bertjax.cli.process.process_setup import restart_with_huge_pages; restart_with_huge_pages();"
        "print(os.environ['GLIBC_TUNABLES'])"
    )
    variables = {key: value for key, value in environment.items() if key != "GLIBC_TUNABLES"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert "glibc.malloc.hugetlb=1" in done.stdout
    own = {**variables, "GLIBC_TUNABLES": "glibc.malloc.check=0"}
    done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "glibc.malloc.check=0"


def test_imports_are_not_searched_for_garbage(environment):
    """Each collection goes through what was imported since the last one, or before."""
    code = (
        "import gc; from bertjax.cli.process.process_setup import prepare_process; prepare_process();"
        "collections = lambda: sum(generation['collections'] for generation in gc.get_stats()); before = collections();"
        "import bertjax.training.run.finetuning, mlflow, sklearn.model_selection; print(collections() - before)"
    )
    variables = {**environment, "GLIBC_TUNABLES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_garbage_of_a_server_is_searched_for_more_often(environment):
    """It stays for days, and what it throws away for each request should not fill its memory."""
    code = (
        "import gc; from unittest.mock import patch; from bertjax.cli import serve;"
        "from bertjax.cli.process import process_setup; process_setup.prepare_process(); rare = gc.get_threshold()[0];"
        "served = lambda *_: exit(gc.get_threshold()[0] >= rare);"
        "patch('bertjax.serving.local_server.serve_local', served).start(); serve.main(['--model', 'm'])"
    )
    variables = {**environment, "GLIBC_TUNABLES": ""}
    subprocess.run([sys.executable, "-c", code], env=variables, check=True)


def test_a_folder_that_jax_would_take_for_a_pattern_is_not_used(monkeypatch, tmp_path, capsys):
    """JAX finds nothing to remove from such a folder, which would grow without a bound."""
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache [1]"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    keep_compiled_programs()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bertjax: compiled programs are not kept: JAX would take ")
    assert line.endswith("cache [1]/compiled for a pattern; BERTJAX_CACHE names another")


KEPT = {"JAX_COMPILATION_CACHE_DIR": "/kept"}
OPS, ALL_OPS = "--xla_gpu_exclude_nondeterministic_ops=true", "--xla_gpu_deterministic_ops=true"
UNTUNED = f"{OPS} {ALL_OPS} --xla_gpu_autotune_level=0"


@pytest.mark.parametrize(
    ("variables", "flags"),
    [
        pytest.param(KEPT, OPS, id="kernel choices are kept"),
        pytest.param({}, UNTUNED, id="nothing is kept"),
        pytest.param({**KEPT, "JAX_ENABLE_COMPILATION_CACHE": "False"}, UNTUNED, id="the cache is off"),
        pytest.param({**KEPT, "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none"}, UNTUNED, id="choices are not kept"),
        pytest.param({**KEPT, "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "all"}, OPS, id="everything is kept"),
        pytest.param({**KEPT, "XLA_FLAGS": "--xla_a=1"}, f"--xla_a=1 {OPS}", id="beside flags of the user"),
        pytest.param(
            {"XLA_FLAGS": "--xla_gpu_autotune_level=2"},
            f"--xla_gpu_autotune_level=2 {OPS} {ALL_OPS}",
            id="a flag of the user wins",
        ),
    ],
)
def test_deterministic_flags(variables, flags, monkeypatch):
    """A GPU that times its kernels at each start computes other bits each time; one that never does is slow."""
    for name in [*KEPT, "JAX_ENABLE_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "XLA_FLAGS"]:
        monkeypatch.setenv(name, "")  # so that what the function sets is taken back
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    make_deterministic()
    assert os.environ["XLA_FLAGS"] == flags


def test_xla_knows_the_deterministic_flags():
    """XLA ends a process that has a flag which it does not know."""
    flags = " ".join(deterministic_flags(keeps_choices=False))
    choices = "--xla_gpu_per_fusion_autotune_cache_dir=/tmp"  # where JAX keeps what was chosen
    variables = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{flags} {choices}"}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
