"""Training on a GPU beside PyTorch: one command, each part in a process of its own and bounded in time.

    python scripts/benchmark_gpu.py --json gpu.json                      # everything, about half an hour
    python scripts/benchmark_gpu.py --json gpu.json --parts rows texts   # some parts; the others in the file stay

It needs jax, torch, transformers, optax, orbax-checkpoint and dm-haiku, and neither MLflow nor Ray. Sides take turns in
one process; ratios are medians of the turns. What is measured is written after each row, so a call that is cut keeps
what it has. Without a GPU nothing is measured: `--smoke` then runs every part in tiny sizes, to see that it works, and
writes no figure.
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertjax.storage.atomic_write import write_json

NOT_MEASURED = "not measured"
SMALLEST_SECONDS = 15  # that a part is worth starting for


def main() -> int:
    names = ("rows", "texts", "start", "busy", "memory", "seeds", "attention", "update", "deterministic")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=names, default=list(names), help="what to measure, in this order")
    parser.add_argument("--seconds", type=int, default=3600, help="end after so many; parts that are left say so")
    parser.add_argument("--json", type=Path, help="file for the results; parts in it that are not measured now stay")
    parser.add_argument("--smoke", action="store_true", help="run every part in tiny sizes, in this process")
    parser.add_argument("--only", choices=names, help=argparse.SUPPRESS)
    args = parser.parse_args()
    # Both frameworks take what memory they need, when they need it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if args.only:
        for row in measured(args.only, smoke=False):
            print(json.dumps(row), flush=True)
        return 0
    from measuring.fresh_process import fresh
    from measuring.gpu_jobs import machine

    facts = machine() if args.smoke else fresh({}, machine)
    has_gpu = facts["card"] is not None
    if not has_gpu and not args.smoke:
        print("not measured: no GPU (--smoke runs every part in tiny sizes)")
        return 0
    ends = time.monotonic() + args.seconds
    results: dict[str, Any] = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}
    failed = False
    for name in args.parts:
        print(f"== {name}", flush=True)
        part: dict[str, Any] = {**facts, "date": datetime.date.today().isoformat(), "rows": [], "status": "cut"}
        results[name] = part
        began = time.monotonic()
        source = measured(name, smoke=True) if args.smoke else in_own_process(name, ends - began, part)
        for row in source:
            if args.smoke:
                row["sides"] = {side: dict.fromkeys(of, NOT_MEASURED) for side, of in row["sides"].items()}
            part["rows"].append(row)
            print(lines_of(row), flush=True)
            save(args.json, results)
        if part["status"] == "cut":
            part["status"] = "smoke" if args.smoke else "done"
        part["seconds"] = round(time.monotonic() - began, 1)
        failed |= part["status"].startswith("failed")
        print(f"   {part['status']}, {part['seconds']} s", flush=True)
        save(args.json, results)
    return int(failed)


def measured(name: str, smoke: bool) -> Iterator[dict[str, Any]]:
    """The rows of a part, measured in this process."""
    from measuring.gpu_parts import PARTS
    from measuring.gpu_sizes import FULL, SMOKE

    for row in PARTS[name].measure(SMOKE if smoke else FULL):
        yield row._asdict()


def in_own_process(name: str, seconds_left: float, part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a part, measured in a process that is ended when its time is up; says in `part` how it ended."""
    from measuring.gpu_parts import PARTS

    limit = min(seconds_left, PARTS[name].seconds)
    if limit < SMALLEST_SECONDS:
        part["status"] = f"{NOT_MEASURED}: no time was left"
        return
    command = [sys.executable, str(Path(__file__).resolve()), "--only", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        out_of_time = []

        def end(*_: Any) -> None:
            out_of_time.append(limit)
            os.killpg(process.pid, signal.SIGKILL)

        signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if process.poll() is None and not out_of_time:
                process.wait(timeout=30)
    if out_of_time:
        part["status"] = f"stopped after {limit:.0f} s"
    elif process.returncode:
        part["status"] = f"failed with status {process.returncode}; its messages are above"


def lines_of(row: dict[str, Any]) -> str:
    """A row for people, a line a side; the single turns are in the file."""

    def shown(name: str, value: Any) -> str:
        return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"

    sides = (
        f"      {side}: " + ", ".join(shown(*item) for item in figures.items() if not isinstance(item[1], list))
        for side, figures in row["sides"].items()
    )
    return "\n".join([row["about"], *sides])


def save(path: Path | None, results: dict[str, Any]) -> None:
    """Writes the results so far."""
    if path is not None:
        write_json(path, results)


if __name__ == "__main__":
    sys.exit(main())
