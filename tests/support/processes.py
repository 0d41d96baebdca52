"""The command and other programs in processes of their own, and what they print."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def user_environment(**variables: str) -> dict[str, str]:
    """This process's environment without the devices and the warnings that only the tests ask for."""
    kept = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "PYTHONWARNINGS")}
    return kept | variables


def run_python(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Python to its end with arguments such as `-c CODE`; the status is the caller's to check."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def printed(code: str, env: Mapping[str, str] | None = None) -> str:
    """What a program prints that ends with status 0."""
    done = run_python("-c", code, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def holding(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes a folder, as far as its lock tells; it is killed at the end."""
    code = (
        "import sys, time; from pathlib import Path; from bertjax.storage.folder_lock import locked_folder\n"
        "with locked_folder(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def complaint(stderr: str) -> str:
    """The one line in which the command says what a user got wrong; there is no traceback."""
    lines = [line for line in stderr.splitlines() if line.startswith("bertjax: ")]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    return lines[0]


def free_port() -> int:
    """A port of the loopback interface on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def hub_snapshot(cache: Path, name: str, kind: str = "model", revision: str = "main") -> Path:
    """An empty folder for a model or a dataset, where a hub client leaves one in its cache; offline, it reads nothing
    else."""
    repository = cache / f"{kind}s--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (repository / "refs" / revision).parent.mkdir(parents=True)
    (repository / "refs" / revision).write_text(snapshot.name)
    return snapshot
