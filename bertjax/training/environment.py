"""Where a run happens: versions, machine, devices and the commit of the user's own code, as plain values."""

import platform
import subprocess

import jax

import bertjax

_GIT_SECONDS = 5


def describe_environment() -> dict[str, str]:
    """Facts about this process, by name; the commit is that of the current folder, where it is in a git repository."""
    devices = jax.devices()
    return {
        "bertjax": bertjax.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "host": platform.node(),
        "platform": platform.platform(),
        "device_kind": devices[0].device_kind,
        "device_count": str(len(devices)),
        "process_count": str(jax.process_count()),
        **_commit(),
    }


def _commit() -> dict[str, str]:
    try:
        commit = _git("rev-parse", "HEAD")
        return {"git_commit": commit, "git_dirty": str(_git("status", "--porcelain") != "").lower()}
    except (OSError, subprocess.SubprocessError):
        return {}  # no git, no repository, or no commit in it


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=_GIT_SECONDS)
    return done.stdout.strip()
