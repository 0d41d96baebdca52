"""Containers: the image installs what scripts/quickstart.sh does, and every command in the files is one that parses.

There is no Docker daemon here: hadolint reads the Dockerfile, PyYAML compose.yaml, and our and MLflow's own command
line the commands.
"""

import configparser
import fnmatch
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from tests.support.documented_code import parses

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_FILE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_FILE)["services"]
INSTALL = "source scripts/environment.sh && install"


def instructions(name: str) -> list[str]:
    """The arguments of an instruction of the Dockerfile, each time that it stands there."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [line.removeprefix(f"{name} ") for line in joined.splitlines() if line.startswith(f"{name} ")]


def by_default(text: str) -> str:
    """What compose makes of a value where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def commands_in_comments(text: str) -> list[list[str]]:
    """The words after the image's name in each `docker run` of a file's comments."""
    runs = [shlex.split(line.removeprefix("#")) for line in text.splitlines() if re.match(r"#\s+docker run ", line)]
    return [words[words.index("bertjax", words.index("-v") + 2) + 1 :] for words in runs]


BERTJAX_COMMANDS = {
    "image": [*instructions("CMD")[0].strip("[]").replace('"', "").split(", ")],
    **{f"docker run {words[0]}": words for words in commands_in_comments(DOCKERFILE)},
    **{
        name: [by_default(word) for word in service["command"]]
        for name, service in SERVICES.items()
        if "entrypoint" not in service
    },
}


@pytest.mark.parametrize("name", BERTJAX_COMMANDS)
def test_every_command_parses(monkeypatch, name):
    parses(monkeypatch, BERTJAX_COMMANDS[name])


def test_there_is_a_run_that_trains_and_one_that_serves():
    assert {"docker run finetune", "docker run serve", "train", "serve", "image"} == BERTJAX_COMMANDS.keys()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("", "", None),
        ("FROM python:3.11-slim", "FROM python", "DL3006"),
        ("USER 1000\n", "USER root\n", "DL3002"),
        ("CMD [", "CMD bertjax [", "DL3025"),
    ],
    ids=["as it is", "any Python", "root", "a shell"],
)
def test_hadolint_finds_nothing(tmp_path, old, new, complaint):
    """At its strictest, where it does find what is changed."""
    path = tmp_path / "Dockerfile"
    path.write_text(DOCKERFILE.replace(old, new, 1))
    command = [str(Path(sys.executable).with_name("hadolint")), "--no-color", "--failure-threshold", "style", str(path)]
    found = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    assert complaint in found if complaint else found == ""


def test_the_image_installs_as_quickstart_does():
    quickstart = (ROOT / "scripts" / "quickstart.sh").read_text()
    assert " && ".join(re.findall(r"^(?:source scripts/environment.sh|install)$", quickstart, re.MULTILINE)) == INSTALL
    (install,) = [line for line in instructions("RUN") if INSTALL in line]
    assert f'{INSTALL} "$EXTRA"' in install
    assert "pip" not in install.replace("export PIP_CACHE_DIR=/var/cache/pip", "").replace("/var/cache/pip", "")
    command = re.search(r'^exec \.venv/bin/(\w+) (\w+) "\$@"$', quickstart, re.MULTILINE)
    assert command is not None
    assert instructions("ENTRYPOINT") == [f'["{command[1]}"]']
    assert instructions("CMD") == [f'["{command[2]}"]']

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert instructions("ARG") == ["EXTRA=serve"]
    assert "serve" in setup["options.extras_require"]
    for extra in re.findall(r"EXTRA=([\w,]+)", DOCKERFILE):
        assert set(extra.split(",")) <= set(setup["options.extras_require"])
    (image,) = instructions("FROM")
    python = image.removeprefix("python:").removesuffix("-slim")
    assert f"Programming Language :: Python :: {python}" in setup["metadata"]["classifiers"].splitlines()
    assert instructions("ENV")[0].startswith(f"PATH={instructions('WORKDIR')[0]}/.venv/bin:")


def test_what_is_copied_is_what_is_installed():
    """By the rules of .dockerignore: a later pattern wins, and `!` lets a path in again."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    copied = {path for path in tracked.split() if is_copied(path, rules)}
    assert {path.partition("/")[0] for path in copied} == {
        "bertjax", "scripts", "constraints.txt", "pyproject.toml", "setup.cfg", "LICENSE", "README.md",
    }  # fmt: skip
    assert {path for path in copied if path.startswith("scripts/")} == {"scripts/environment.sh"}
    assert {path for path in tracked.split() if path.startswith("bertjax/")} <= copied
    for secret in (".git/config", ".venv/bin/python", "runs/a/config.json", "bertjax/__pycache__/a.pyc", "mlflow.db"):
        assert not is_copied(secret, rules)


def is_copied(path: str, rules: list[str]) -> bool:
    parents = [path, *map(str, Path(path).parents)][:-1] if "/" in path else [path]
    copied = True
    for rule in rules:
        pattern = rule.removeprefix("!").replace("**/", "*")
        if any(fnmatch.fnmatchcase(part, pattern) for part in parents):
            copied = rule.startswith("!")
    return copied


def test_one_image_and_one_mlflow():
    """Server and clients are of one version, that of constraints.txt, since all are the image's own."""
    assert {service["image"] for service in SERVICES.values()} == {"bertjax"}
    assert {service["build"] for service in SERVICES.values()} == {"."}
    assert f"mlflow=={mlflow.__version__}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_mlflow_takes_its_command_and_its_clients_names():
    service = SERVICES["mlflow"]
    assert service["entrypoint"] == ["mlflow"]
    name, *flags = service["command"]
    with warnings.catch_warnings(action="ignore"):  # MLflow's, of its own type hints
        from mlflow.cli import cli as mlflow_cli
    params = mlflow_cli.commands[name].make_context(name, flags).params  # type: ignore[attr-defined]
    assert (params["host"], int(params["port"])) == ("0.0.0.0", 5000)
    addresses = {tracked["environment"]["MLFLOW_TRACKING_URI"] for tracked in (SERVICES["train"], SERVICES["serve"])}
    assert addresses == {"http://mlflow:5000"}
    # Of the clients in other containers, of a browser, and of the health check.
    for host in ("mlflow:5000", "127.0.0.1:5000", "localhost:5000"):
        assert host in params["allowed_hosts"].split(",")
    for stored in (params["backend_store_uri"].removeprefix("sqlite:///"), params["artifacts_destination"]):
        assert stored.startswith(f"{service['volumes'][0].split(':')[1]}/")


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_closed_to_other_machines(name):
    service = SERVICES[name]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "user"} & service.keys()
    assert instructions("USER") == ["1000"]


def test_health_checks_and_their_order():
    """The check's address is one that the service listens on; a service waits for the MLflow that it needs."""
    for name, port in (("mlflow", 5000), ("serve", 8000)):
        command, *words, code = SERVICES[name]["healthcheck"]["test"]
        assert (command, words) == ("CMD", ["python", "-c"])
        compile(code, name, "exec")
        assert f"http://127.0.0.1:{port}/" in code
        assert SERVICES[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert f"--port={port}" in SERVICES[name]["command"]
    for name in ("train", "serve"):
        assert SERVICES[name]["depends_on"] == {"mlflow": {"condition": "service_healthy"}}
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["train"]


def test_what_train_registers_is_what_serve_takes():
    registered = next(word for word in SERVICES["train"]["command"] if word.startswith("--register="))
    model = by_default(next(word for word in SERVICES["serve"]["command"] if word.startswith("--model=")))
    assert model == f"--model=models:/{registered.partition('=')[2]}@champion"
    volumes = {volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert volumes == yaml.safe_load(COMPOSE_FILE)["volumes"].keys()
    assert os.path.commonpath([service["volumes"][0].split(":")[1] for service in SERVICES.values()]) == "/data"
    assert instructions("WORKDIR")[-1] == "/data"
