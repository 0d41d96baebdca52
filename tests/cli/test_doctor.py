"""`bertjax doctor`: a healthy machine ends with 0; whatever is broken is named with what mends it, and ends with 1."""

import json
from importlib import metadata

import pytest

from bertjax.cli.main import main
from bertjax.doctor import devices, machine, packages
from bertjax.doctor.check import Check
from bertjax.doctor.devices import check_devices, check_gpu_flags
from bertjax.doctor.machine import check_allocator
from tests.support.processes import complaint, free_port, user_environment

TUNABLES = "glibc.malloc.hugetlb=1"


@pytest.fixture
def unmeasured(monkeypatch):
    """Without the process that measures the devices."""
    monkeypatch.setattr(devices, "check_devices", lambda environment: [Check("devices", "ok", "1 x cpu (cpu)")])


def test_a_healthy_machine_ends_with_0_and_says_how_fast_its_devices_are(in_folder, monkeypatch, capsys):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["doctor", "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert "bad" not in {check["state"] for check in checks.values()}
    assert f"jax {metadata.version('jax')}" in checks["packages"]["found"]
    assert checks["extra serve"]["found"] == "installed"
    assert "(cpu)" in checks["devices"]["found"]
    assert float(checks["matmul peak"]["found"].split()[0]) > 0
    assert float(checks["memory bandwidth"]["found"].split()[0]) > 0
    assert checks["MLflow"]["found"].endswith("mlflow.db")
    assert not (in_folder / "mlflow.db").exists()  # a doctor changes nothing


BROKEN = {
    "MLflow": ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:{port}"}, "does not answer", "start it"),
    "Ray": ({"RAY_ADDRESS": "127.0.0.1:{port}"}, "no Ray cluster answers", "give the --address of one"),
    "cache": ({"BERTJAX_CACHE": "/proc/bertjax"}, "cannot be written", "let BERTJAX_CACHE name a folder"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_with_what_mends_it(name, unmeasured, in_folder, monkeypatch, capsys):
    variables, found, mend = BROKEN[name]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.format(port=free_port()))
    assert main(["doctor"]) == 1
    printed = capsys.readouterr()
    assert name in complaint(printed.err).rpartition(": ")[2].split(", ")
    shown = " ".join(printed.out.replace("│", " ").split())
    assert found in shown
    assert f"-> {mend}" in shown


@pytest.mark.parametrize(
    ("variables", "found", "mend"),
    [
        (
            {"XLA_FLAGS": "--xla_nonsense=1"},
            "Unknown flag in XLA_FLAGS: --xla_nonsense=1",
            "unset or correct XLA_FLAGS",
        ),
        ({"JAX_PLATFORMS": "cuda"}, "no device of JAX_PLATFORMS=cuda", "unset JAX_PLATFORMS"),
    ],
    ids=["a flag that ends the process", "a platform that is not there"],
)
def test_devices_that_do_not_start_end_no_doctor(variables, found, mend):
    (check,) = check_devices(user_environment(**variables))
    assert check.state == "bad"
    assert found in check.found
    assert check.mend.startswith(mend)


def test_a_device_that_does_not_answer(monkeypatch):
    (check,) = check_devices(user_environment(), seconds=0.05)
    assert (check.state, check.found) == ("bad", "JAX did not answer within 0 s")


VERSIONS = {
    "a package that is too old": ({"jax": "0.4.0"}, "packages", "bad", "jax is 0.4.0, and should be >=0.8"),
    "a package that is missing": ({"ray": None}, "packages", "bad", "ray is missing"),
    "an extra's package that is too old": ({"fastapi": "0.1"}, "extra serve", "bad", "fastapi is 0.1"),
    "an extra that is not installed": ({"snorkel": None}, "extra labeling", "ok", "pip install 'bertjax[labeling]'"),
}


@pytest.mark.parametrize("case", VERSIONS)
def test_installed_versions_are_held_against_the_requirements(case, monkeypatch):
    installed, name, state, found = VERSIONS[case]
    real = packages._version
    monkeypatch.setattr(packages, "_version", lambda package: installed.get(package, real(package)))
    (check,) = [check for check in packages.check_packages() if check.name == name]
    assert check.state == state
    assert found in check.found


def test_constraints_are_a_tested_set_of_versions(tmp_path, unmeasured, in_folder, capsys):
    file = tmp_path / "constraints.txt"
    file.write_text(f"# tested\njax=={metadata.version('jax')}\nno-such-package==1\n")
    assert packages.check_constraints(file).state == "ok"
    file.write_text("jax==0.1  # old\n")
    assert packages.check_constraints(file).found == f"jax is {metadata.version('jax')}, and should be ==0.1"
    file.write_text("jax==\n")
    assert main(["doctor", "--constraints", str(file)]) == 2
    assert "line 1 is no requirement" in complaint(capsys.readouterr().err)


ALLOCATORS = {
    "as the command sets it": ({}, "madvise", "ok", "start themselves with huge pages"),
    "the user's own": ({"GLIBC_TUNABLES": "glibc.malloc.check=0"}, "madvise", "warn", "GLIBC_TUNABLES is yours"),
    "no huge pages": ({}, "never", "warn", "the kernel gives no huge pages"),
    "another allocator": ({"LD_PRELOAD": "libjemalloc.so"}, "madvise", "warn", "in the place of glibc's malloc"),
}


@pytest.mark.parametrize("case", ALLOCATORS)
def test_settings_of_the_allocator(case, tmp_path, monkeypatch):
    variables, chosen, state, found = ALLOCATORS[case]
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("glibc", "2.36"))
    pages = tmp_path / "enabled"
    pages.write_text(" ".join(f"[{mode}]" if mode == chosen else mode for mode in ("always", "madvise", "never")))
    check = check_allocator(TUNABLES, variables, pages)
    assert check.state == state
    assert found in check.found


@pytest.mark.parametrize(
    ("variables", "state"),
    [
        ({}, "ok"),
        ({"XLA_FLAGS": "--xla_gpu_autotune_level=0"}, "warn"),
        ({"XLA_PYTHON_CLIENT_ALLOCATOR": "platform"}, "warn"),
    ],
)
def test_flags_that_slow_a_gpu(variables, state):
    assert check_gpu_flags(variables).state == state


def test_a_package_that_cannot_be_imported_is_a_bad_check(unmeasured, in_folder, monkeypatch, capsys):
    def broken(*arguments):
        raise ImportError("libmagic.so is missing", name="mlflow")

    monkeypatch.setattr("bertjax.doctor.services.check_mlflow", broken)
    assert main(["doctor"]) == 1
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "mlflow cannot be imported: libmagic.so is missing" in shown
