"""Launching: what the files for clusters say is what Ray, Slurm, the shell and bertjax's own command line take."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import yaml

from bertjax.cli import sweep
from bertjax.cli.finetune import RunFlags
from bertjax.cli.flags.job_flags import parse_job
from bertjax.cli.flags.parse_flags import parse
from tests.support.processes import free_port

LAUNCH = Path(__file__).parents[2] / "scripts" / "launch"
NEEDED = {
    "tpu.yaml": {"GCP_PROJECT": "a-project", "NFS_EXPORT": "10.0.0.2:/share"},
    "gpu.yaml": {"AWS_IMAGE": "ami-0", "NFS_EXPORT": "10.0.0.2:/"},
    "kuberay.yaml": {"IMAGE": "bertjax", "CLAIM": "runs"},
}


def filled(name: str) -> dict:
    """A file of the folder, as `fill.py` prints it."""
    environment = {"PATH": os.environ["PATH"]} | NEEDED[name]
    command = [sys.executable, "scripts/launch/fill.py", f"scripts/launch/{name}"]
    done = subprocess.run(command, env=environment, cwd=LAUNCH.parents[1], capture_output=True, text=True, check=True)
    assert "${" not in re.sub("^ *#.*", "", done.stdout, flags=re.MULTILINE)
    return yaml.safe_load(done.stdout)


@pytest.mark.parametrize("name", ["tpu.yaml", "gpu.yaml"])
def test_ray_takes_the_cluster_files(name):
    """Every key is one of Ray's schema, and nothing of a provider's defaults installs another Ray than the pinned."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = filled(name)
    prepared = prepare_config(config)
    validate_config(prepared)
    workers = next(kind for title, kind in prepared["available_node_types"].items() if title != "head")
    assert workers["min_workers"] == workers["max_workers"] == prepared["max_workers"]
    installed = prepared["head_setup_commands"] + prepared["worker_setup_commands"]
    assert all("scripts/launch/node.sh" in line or "--constraint constraints.txt" in line for line in installed)
    started = prepared["head_start_ray_commands"] + prepared["worker_start_ray_commands"]
    assert all("~/bertjax/.venv/bin/ray " in line for line in started)


def test_the_slice_is_what_the_flags_ask_for():
    """Ray places workers on a slice by its topology; a worker too many would wait for ever."""
    from ray._private.accelerators import tpu

    slice_ = filled("tpu.yaml")["available_node_types"]["slice"]
    kind = slice_["node_config"]["acceleratorType"]
    (words,) = (words for name, words in commands() if name == "tpu.yaml")
    workers = parse_job(RunFlags, words[1:], "bertjax finetune")[1].workers
    assert workers.use_tpu
    assert tpu.infer_tpu_pod_type_from_topology(workers.topology, workers.accelerator) == kind
    assert tpu.get_num_tpu_visible_chips_per_host(kind) == slice_["resources"]["TPU"]
    assert tpu.get_total_chips_from_accelerator_type(kind) == workers.num_workers * slice_["resources"]["TPU"]


def test_ray_reads_the_kubernetes_manifest():
    """Ray's own reader of a cluster on Kubernetes; the manifest's workers are what the entrypoint asks for."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    job = filled("kuberay.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    metadata = {"name": job["metadata"]["name"], "namespace": "default"}
    config = _derive_autoscaling_config_from_ray_cr({"metadata": metadata, "spec": cluster})
    gpu = config["available_node_types"]["gpu"]
    (words,) = (words for name, words in commands() if name == "kuberay.yaml")
    workers = parse_job(RunFlags, words[1:], "bertjax finetune")[1].workers
    assert workers.use_gpu
    assert gpu["min_workers"] * gpu["resources"]["GPU"] == workers.num_workers
    assert f"ray=={cluster['rayVersion']}" in (LAUNCH.parents[1] / "constraints.txt").read_text()
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def commands() -> list[tuple[str, list[str]]]:
    """Each command line of bertjax in these files, comments included: the file, and the words after `bertjax`."""
    found = []
    for path in sorted(LAUNCH.iterdir()):
        for line in re.findall(r"\bbertjax ((?:finetune|sweep) --[^'\"\n]*)", path.read_text()):
            found.append((path.name, shlex.split(line)))
    return found


def test_every_command_is_one_that_bertjax_takes():
    found = commands()
    assert {name for name, _ in found} == {"gpu.yaml", "kuberay.yaml", "slurm.sh", "tpu.yaml"}
    for name, (command, *flags) in found:
        address = ["--address", "HOST:6379"] if name == "slurm.sh" else []
        words = [*flags, *address]
        if command == "finetune":
            parsed = parse_job(RunFlags, words, "bertjax finetune")[1].workers
        else:
            parsed = parse(sweep.Arguments, words, "bertjax sweep")
        assert parsed.address in ("auto", "HOST:6379")


def test_what_is_not_set_is_named_in_one_line():
    command = [sys.executable, "scripts/launch/fill.py", "scripts/launch/gpu.yaml"]
    done = subprocess.run(command, env={}, cwd=LAUNCH.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "scripts/launch/gpu.yaml needs the environment variables AWS_IMAGE, NFS_EXPORT; its first lines say what they "
        "are"
    ]


# What a node of Slurm has; a step writes its flags down and runs its command here.
STUBS = {
    "scontrol": '[ "$*" = "show hostnames node[0-1]" ] && printf "%s\\n" localhost 127.0.0.1',
    "srun": 'echo "$@" >>"$STEPS"; while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "bertjax": f'exec {sys.executable} "$JOB" "$@"',
}
# In the place of a run: what it finds at its --address.
JOB = """
import sys, time
import ray
from bertjax import ray_cluster

assert ray_cluster.join(sys.argv[-1], log_to_driver=False)
while ray.cluster_resources().get("CPU", 0) < 2:
    time.sleep(0.1)
print("found:", *sys.argv[1:-1], len(ray.nodes()))
sys.exit(3)
"""


def slurm(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["bash", str(LAUNCH / "slurm.sh"), *arguments]
    everything = os.environ | environment
    return subprocess.run(command, env=everything, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.ray
def test_slurm_runs_a_command_on_all_its_nodes(tmp_path):
    """Two nodes of a core each are one cluster; they go when the command does, whose status is the script's."""
    for name, body in STUBS.items():
        stub = tmp_path / "venv" / "bin" / name
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(f"#!/usr/bin/env bash\n{body}\n")
        stub.chmod(0o755)
    (tmp_path / "job.py").write_text(JOB)
    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:  # sockets have short names
        job = {"SLURM_JOB_NODELIST": "node[0-1]", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_CPUS_ON_NODE": "1"}
        own = {"RAY_TMPDIR": scratch, "HOME": scratch, "RAY_PORT": str(free_port()), "SLURM_JOB_ID": "7"}
        stubs = {
            "BERTJAX_VENV": str(tmp_path / "venv"),
            "STEPS": str(tmp_path / "steps"),
            "JOB": str(tmp_path / "job.py"),
        }
        done = slurm("bertjax", "finetune", "--num-workers", "2", **job, **own, **stubs)
        assert "found: finetune --num-workers 2 --address 2" in done.stdout, done.stderr
        assert done.returncode == 3
        assert not [process for process in psutil.process_iter(["cmdline"]) if scratch in str(process.info)]
    nodes = [line.split()[3:] for line in (tmp_path / "steps").read_text().splitlines()]
    assert [step[0] for step in nodes] == ["--nodelist=localhost", "--nodelist=127.0.0.1"]
    assert slurm("bertjax", "sweep").stderr == "slurm.sh: this is a job for Slurm; submit it with sbatch\n"
    assert "give a command, such as: bertjax finetune" in slurm("finetune", **job).stderr


def test_the_scripts_are_bash():
    for script in LAUNCH.glob("*.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)
