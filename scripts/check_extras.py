"""Whether every extra can be had by itself: a new virtual environment for each, filled from the package index.

For each extra this builds an environment with `pip install 'bertjax[EXTRA]'` of a wheel of this checkout, imports what
the extra is for, and asks `pip check` whether what is installed fits together. A line an extra says what came of it;
the status is 1 where one failed. The environments are removed again. All of them bring some ten gigabytes over
the network.

    python scripts/check_extras.py
    python scripts/check_extras.py serve search --newest     # without constraints.txt: what a user gets
"""

import argparse
import configparser
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Extra -> modules of or behind it, which fail to import without it.
MODULES = {
    "cuda": ["jax_cuda12_plugin"],
    "tpu": ["libtpu"],
    "torch": ["bertjax.baselines.torch.torch_model"],
    "onnx": ["onnxruntime", "onnxscript"],
    "cluster": ["ray.dashboard.dashboard"],
    "search": ["ray.tune.search.optuna", "ray.tune.search.hyperopt"],
    "serve": ["bertjax.serving.local_server", "ray.serve"],
    "labeling": ["snorkel.labeling.model"],
    "analysis": ["cleanlab", "lime.lime_text"],
    "notebook": ["ipykernel", "nbclient"],
    "all": ["torch", "onnxruntime", "optuna", "uvicorn", "snorkel", "cleanlab", "nbclient"],
    "docs": ["zensical", "mkdocstrings"],
    "dev": ["pytest", "mypy", "hypothesis", "torch"],
}


def declared() -> set[str]:
    """The extras of `setup.cfg`."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    return set(settings["options.extras_require"])


def run(*command: str | Path) -> str:
    """Runs a command in a neutral folder; its output, and a RuntimeError with the end of it where it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=tempfile.gettempdir(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout.strip()[-2000:])
    return done.stdout.strip()


def check(extra: str, wheel: Path, constraints: list[str]) -> str:
    """Installs an extra in a new environment, imports its modules and runs `pip check`.

    Returns:
      How many distributions there are, and what `pip check` said.

    Raises:
      RuntimeError: one of the commands failed.
    """
    with tempfile.TemporaryDirectory(prefix=f"bertjax-{extra}-") as folder:
        venv.create(folder, with_pip=False)
        python = Path(folder) / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
        run(*pip, "install", "--quiet", *constraints, f"bertjax[{extra}] @ {wheel.as_uri()}")
        run(python, "-W", "ignore", "-c", f"import bertjax, {', '.join(MODULES[extra])}")
        count = len(run(*pip, "list", "--format", "freeze").splitlines())
        return f"{count} distributions; {run(*pip, 'check')}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", choices=[*MODULES, []], help="default: all")
    parser.add_argument("--newest", action="store_true", help="the newest releases, not those of constraints.txt")
    flags = parser.parse_args()
    constraints = [] if flags.newest else ["--constraint", str(ROOT / "constraints.txt")]
    failed = False
    with tempfile.TemporaryDirectory(prefix="bertjax-wheel-") as folder:
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
        (wheel,) = Path(folder).glob("*.whl")
        for extra in flags.extras or MODULES:
            started = time.monotonic()
            try:
                said = check(extra, wheel, constraints)
            except RuntimeError as error:
                failed, said = True, f"FAILED: {error}"
            print(f"bertjax[{extra}]  {time.monotonic() - started:.0f} s  {said}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
