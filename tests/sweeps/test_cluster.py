"""A sweep on an existing cluster: its trials have the environment of the driver, not that of the cluster."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from bertjax.sweeps.driver import _environment
from bertjax.sweeps.ledger import Ledger
from bertjax.sweeps.search_space import Grid
from bertjax.sweeps.sweep_config import Sweep
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support.processes import free_port, hub_snapshot

SWEEP_FILE = """
from bertjax import FineTuneConfig, Sweep, Table
from bertjax.sweeps.search_space import Grid

TABLE = Table({reviews!r}, text=("title", "body"), label="stars", validation_size=0.25)
CONFIG = Sweep(
    base=FineTuneConfig(model="acme/bert-tiny", data=TABLE, epochs=1, max_length=48, batch_size=8),
    space={{"optimizer.learning_rate": Grid((1e-3,))}},
    searcher="grid",
    gpus=0.5,
)
"""


@contextmanager
def cluster_without(prefix, **settings):
    """The address of a Ray cluster with an unused GPU, whose environment has no variables with this prefix."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:  # sockets have short names
        variables = {name: value for name, value in os.environ.items() if not name.startswith(prefix)}
        variables |= settings
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--include-dashboard=false"]
        sizes = [f"--port={port}", "--num-cpus=2", "--num-gpus=1", f"--object-store-memory={100 * 2**20}"]
        node = subprocess.Popen(
            [*ray, *sizes, "--node-ip-address=127.0.0.1", f"--temp-dir={scratch}"],
            env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while not answers(port):
                assert time.monotonic() < deadline, "no cluster"
                time.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            node.terminate()
            node.wait()


def answers(port):
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.ray
def test_trials_on_a_cluster_have_the_drivers_variables(tiny_model, reviews, in_store):
    """The model is in a hub cache that only the driver's environment names."""
    shutil.copytree(tiny_model, hub_snapshot(in_store / "hub", "acme/bert-tiny"), dirs_exist_ok=True)
    (in_store / "sweep.py").write_text(SWEEP_FILE.format(reviews=str(reviews)))
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with cluster_without("HF_", **token) as address:
        command = [sys.executable, "-m", "bertjax", "sweep", "--config", "sweep.py", "--out", "s", "--address", address]
        variables = os.environ | {"HF_HUB_CACHE": str(in_store / "hub"), "HF_HUB_OFFLINE": "1"} | token
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert [trial.status for trial in Ledger(in_store / "s").trials()] == ["finished"]


def test_trials_that_share_a_gpu_share_its_memory(monkeypatch):
    space = {"optimizer.learning_rate": Grid((1e-3,))}
    base = FineTuneConfig(model="m")
    sweep = Sweep(replace(base, data=replace(base.data, validation_size=0.2)), space, searcher="grid", gpus=0.25)
    share = "XLA_PYTHON_CLIENT_MEM_FRACTION"
    monkeypatch.delenv(share, raising=False)
    assert _environment(sweep)[share] == "0.225"  # a quarter of the nine tenths that JAX may take
    assert share not in _environment(replace(sweep, gpus=1))
    monkeypatch.setenv(share, "0.1")
    assert _environment(sweep)[share] == "0.1"
