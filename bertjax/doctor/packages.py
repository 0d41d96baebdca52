"""The installed packages: against what bertjax requires, and against a file of constraints."""

import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from bertjax.doctor.check import Check
from bertjax.errors import ConfigError

_CORE = ("jax", "dm-haiku", "optax", "transformers", "ray", "mlflow")  # named in the report
_HARDWARE = ("cuda", "tpu")  # extras that say nothing of a machine without it
_COLLECTIONS = ("all", "dev")


def check_packages() -> list[Check]:
    """Python, the requirements of bertjax, and those of each of its extras."""
    try:
        requirements = [Requirement(line) for line in metadata.requires("bertjax") or []]
    except metadata.PackageNotFoundError:
        return [Check("packages", "bad", "bertjax is not installed, only found on the path", "pip install bertjax")]
    core = [item for item in requirements if item.marker is None or item.marker.evaluate({"extra": ""})]
    problems = list(_problems(core))
    versions = ", ".join(f"{name} {_version(name)}" for name in _CORE)
    found = f"Python {sys.version.split()[0]}, {versions}"
    checks = [
        Check("packages", "bad", "; ".join(problems), "pip install --upgrade bertjax")
        if problems
        else Check("packages", "ok", found)
    ]
    extras = metadata.metadata("bertjax").get_all("Provides-Extra") or []
    return checks + [
        _check_extra(extra, [item for item in requirements if _is_of_extra(item, extra)])
        for extra in extras
        if extra not in (*_HARDWARE, *_COLLECTIONS)
    ]


def check_constraints(path: Path) -> Check:
    """Compares the installed packages with a file of constraints, a tested set of versions.

    Args:
      path: lines `NAME==VERSION`; packages that are not installed are no problem.

    Raises:
      ConfigError: the file is not there, or a line is no requirement.
    """
    if not path.is_file():
        raise ConfigError(f"--constraints {path} is no file; give the constraints.txt of the checkout")
    pins = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if text := line.partition("#")[0].strip():
            try:
                pins.append(Requirement(text))
            except InvalidRequirement as error:
                raise ConfigError(f"{path}, line {number} is no requirement: {str(error).splitlines()[0]}") from None
    problems = [problem for problem in _problems(pins) if "is missing" not in problem]
    if not problems:
        return Check("constraints", "ok", f"every installed package is as in {path}")
    shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
    return Check("constraints", "warn", shown, f"pip install bertjax -c {path} installs the tested set")


def _check_extra(extra: str, requirements: Sequence[Requirement]) -> Check:
    problems = list(_problems(requirements))
    if not problems:
        return Check(f"extra {extra}", "ok", "installed")
    install = f"pip install 'bertjax[{extra}]'"
    wrong = [problem for problem in problems if "is missing" not in problem]
    if wrong:
        return Check(f"extra {extra}", "bad", "; ".join(wrong), install)
    missing = ", ".join(problem.partition(" is missing")[0] for problem in problems)
    return Check(f"extra {extra}", "ok", f"not installed ({missing}); {install} brings it")


def _problems(requirements: Sequence[Requirement]) -> Iterator[str]:
    for item in requirements:
        version = _version(item.name)
        if version is None:
            yield f"{item.name} is missing"
        elif not item.specifier.contains(version, prereleases=True):
            yield f"{item.name} is {version}, and should be {item.specifier}"


def _is_of_extra(item: Requirement, extra: str) -> bool:
    """Whether an extra brings a requirement that the package itself does not."""
    return (
        item.marker is not None and item.marker.evaluate({"extra": extra}) and not item.marker.evaluate({"extra": ""})
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(re.sub(r"[-_.]+", "-", name))
    except metadata.PackageNotFoundError:
        return None
