"""`bertjax doctor`: what this machine has for bertjax, and what to mend."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bertjax.catalog import cache_folder
from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain
from bertjax.cli.process.process_setup import memory_tunables

if TYPE_CHECKING:
    from bertjax.doctor.check import Check


@dataclass(frozen=True)
class Arguments:
    """Look at this machine: packages, devices and their speed, memory, cache and disk, MLflow, Ray.

    Ends with status 1 where something is bad, which is what makes commands fail, and says how to mend it.
    """

    address: str | None = None
    """Of a Ray cluster to ask, HOST:PORT, or `auto` on one of its nodes; default: RAY_ADDRESS, or none."""

    constraints: Path | None = None
    """A file of tested versions, such as the checkout's constraints.txt, to compare the installed ones with."""

    json: bool = False
    """Print the checks as JSON."""


def main(arguments: Sequence[str]) -> int:
    """Prints a line a check."""
    parsed = parse(Arguments, arguments, "bertjax doctor")
    checks = list(_checks(parsed))
    if parsed.json:
        print(json.dumps([check._asdict() for check in checks], indent=2))
    else:
        _show(checks)
    bad = [check for check in checks if check.state == "bad"]
    if bad:
        complain(f"{len(bad)} of {len(checks)} checks are bad: {', '.join(check.name for check in bad)}")
    return ExitCode.FAILED if bad else ExitCode.OK


def _checks(parsed: Arguments) -> Iterator["Check"]:
    from bertjax.doctor.check import Check

    for room in (_packages, _devices, _machine, _services):
        try:
            yield from room(parsed)
        except ImportError as error:  # a package is missing, or does not fit another one
            found = f"{error.name or 'a package'} cannot be imported: {error}"
            yield Check(room.__name__.strip("_"), "bad", found, "pip install --upgrade bertjax")


def _packages(parsed: Arguments) -> Iterator["Check"]:
    from bertjax.doctor.packages import check_constraints, check_packages

    yield from check_packages()
    if parsed.constraints is not None:
        yield check_constraints(parsed.constraints)


def _devices(parsed: Arguments) -> Iterator["Check"]:
    from bertjax.doctor.devices import check_devices

    yield from check_devices(os.environ)


def _machine(parsed: Arguments) -> Iterator["Check"]:
    from bertjax.doctor.machine import check_machine

    yield from check_machine(cache_folder(), memory_tunables())


def _services(parsed: Arguments) -> Iterator["Check"]:
    from bertjax.doctor.services import check_mlflow, check_ray

    yield check_mlflow()
    yield check_ray(parsed.address)


def _show(checks: Sequence["Check"]) -> None:
    from bertjax.report_pages.text_table import TextTable, print_table

    table = TextTable("check", "state", "found, and how to mend it", title="bertjax doctor")
    for check in checks:
        table.add_row(check.name, check.state, check.found)
        if check.mend:
            table.add_row("", "", f"-> {check.mend}")
    print_table(table, width_of_a_log=120)
