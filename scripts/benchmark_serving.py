"""`bertjax serve` against a FastAPI server around transformers' pipeline, which answers one request at a time.

Clients in this process send questions of TREC over connections that stay open, each the next one as soon as it has an
answer. The servers take turns, and medians are compared. The pipeline is called in FastAPI's threads, and in the event
loop; the better of the two counts. The same labels must come from all, and those that differ are counted.

    python scripts/benchmark_serving.py --model RUN/model --json serving.json
    python scripts/benchmark_serving.py --model RUN/model --rounds 1 --seconds 2 --memory-requests 2000  # a short one

It takes about rounds x 8 x seconds, and what --memory-requests take, at most --memory-seconds.
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from bertjax.cli.process.process_setup import keep_compiled_programs, prepare_process
from bertjax.data.read.catalog_tables import read_catalog

READY_SECONDS = 300
WAIT_MS = 2.0  # --batch-wait-ms
WARM_REQUESTS = 2000  # before memory is measured

PIPELINE_SERVER = """
import sys
import torch, uvicorn
from fastapi import FastAPI
from transformers import pipeline

classify = pipeline("text-classification", model=sys.argv[1], device="cpu")
app = FastAPI()


@app.post("/threads")
def in_threads(body: dict) -> dict:
    return {"predictions": classify([body["text"]])}


@app.post("/loop")
async def in_the_loop(body: dict) -> dict:
    return {"predictions": classify([body["text"]])}


uvicorn.run(app, port=int(sys.argv[2]), log_level="info", access_log=False)
"""


class Server(NamedTuple):
    """A server that answers.

    Attributes:
      port: on the loopback interface.
      process: its id.
      ready_seconds: from its start to its first answer.
    """

    port: int
    process: int
    ready_seconds: float


class Block(NamedTuple):
    """What some clients saw in some seconds; times in milliseconds."""

    rate: float
    p50: float
    p99: float
    labels: dict[str, str]  # of the texts


@contextmanager
def started(command: Sequence[str], ready: str) -> Iterator[Server]:
    """A server, from the line of its stderr that says its port to the end of the block."""
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines: list[str] = []
            for line in process.stderr:
                lines.append(line)
                if found := re.search(ready, line):
                    break
            else:
                sys.exit(f"{' '.join(command)} did not start:\n{''.join(lines)}")
            yield Server(int(found[1]), process.pid, time.perf_counter() - began)
        finally:
            process.terminate()


async def clients(port: int, path: str, texts: Sequence[str], count: int, seconds: float, requests: int) -> Block:
    """Asks with so many clients, until the seconds or the requests are over."""
    requested = [_request(path, text) for text in texts]
    numbers = itertools.islice(itertools.cycle(range(len(texts))), requests)
    deadline = time.perf_counter() + seconds
    latencies: list[float] = []
    labels: dict[str, str] = {}

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            sent = time.perf_counter()
            if sent >= deadline:
                break
            writer.write(requested[number])
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            assert length is not None, head
            body = await reader.readexactly(int(length[1]))
            latencies.append(1000 * (time.perf_counter() - sent))
            assert head.startswith(b"HTTP/1.1 200 "), body
            labels.setdefault(texts[number], json.loads(body)["predictions"][0]["label"])
        writer.close()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(client())
    spent = time.perf_counter() - began
    p50, p99 = np.percentile(latencies, [50, 99]).tolist()
    return Block(len(latencies) / spent, p50, p99, labels)


def _request(path: str, text: str) -> bytes:
    body = json.dumps({"text": text}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def ask(server: Server, path: str, texts: Sequence[str], count: int, seconds: float, requests: int = 10**9) -> Block:
    """`clients`, in an event loop of their own."""
    return asyncio.run(clients(server.port, path, texts, count, seconds, requests))


def compiles(server: Server) -> float:
    """Programs that a server has compiled so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as response:
        (found,) = re.findall(r"^bertjax_compiles_total (\S+)", response.read().decode(), re.MULTILINE)
    return float(found)


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """Everything that the table shows."""
    texts = read_catalog("trec")["text"].tolist()[:500]
    ours = [sys.executable, "-m", "bertjax", "serve", "--model", flags.model, "--port", "0"]
    with started(ours, r"ready on http://127.0.0.1:(\d+)"):
        pass  # now its programs are in the cache
    with ExitStack() as stack:
        server = stack.enter_context(started(ours, r"ready on http://127.0.0.1:(\d+)"))
        theirs = [sys.executable, "-c", PIPELINE_SERVER, flags.model, str(flags.pipeline_port)]
        pipeline = stack.enter_context(started(theirs, r"running on http://127.0.0.1:(\d+)"))
        compiled = compiles(server)
        contestants = {"bertjax": (server, "/predict"), "threads": (pipeline, "/threads"), "loop": (pipeline, "/loop")}
        blocks: dict[str, list[Block]] = {name: [] for name in ("bertjax", "threads", "loop", "bertjax, 1 client")}
        bare: list[float] = []
        predictor = _predictor(flags.model)
        for _ in range(flags.rounds):
            for name, (running, path) in contestants.items():
                blocks[name].append(ask(running, path, texts, flags.clients, flags.seconds))
            bare.append(_bare_ms(predictor, texts, flags.seconds / 2))
            blocks["bertjax, 1 client"].append(ask(server, "/predict", texts, 1, flags.seconds / 2))
        memory = _memory(server, texts, flags)
        return {
            "ready_seconds": server.ready_seconds,
            "servers": {name: _summary(of_name) for name, of_name in blocks.items()},
            "bare_ms": statistics.median(bare),
            "memory": memory,
            "compiles_after_ready": compiles(server) - compiled,
            "labels_differ": {name: _differences(blocks["bertjax"], blocks[name]) for name in ("threads", "loop")},
            "cpus": os.cpu_count(),
            "model": flags.model,
        }


def _predictor(model: str) -> Any:
    from bertjax import Predictor  # JAX starts here, after the servers

    return Predictor.load(model)


def _bare_ms(predictor: Any, texts: Sequence[str], seconds: float) -> float:
    """The median time of a call without HTTP."""
    deadline, spent = time.perf_counter() + seconds, []
    for text in itertools.cycle(texts):
        began = time.perf_counter()
        predictor([text])
        spent.append(1000 * (time.perf_counter() - began))
        if time.perf_counter() > deadline:
            return statistics.median(spent)
    raise AssertionError("texts are cycled")


def _memory(server: Server, texts: Sequence[str], flags: argparse.Namespace) -> dict[str, float]:
    """Resident megabytes before and after many requests."""
    process = psutil.Process(server.process)
    ask(server, "/predict", texts, flags.clients, flags.memory_seconds, WARM_REQUESTS)
    before = process.memory_info().rss / 2**20
    began = time.perf_counter()
    block = ask(server, "/predict", texts, flags.clients, flags.memory_seconds, flags.memory_requests)
    requests = block.rate * (time.perf_counter() - began)
    return {"before_mib": before, "after_mib": process.memory_info().rss / 2**20, "requests": round(requests)}


def _summary(blocks: Sequence[Block]) -> dict[str, float]:
    return {name: statistics.median(getattr(block, name) for block in blocks) for name in ("rate", "p50", "p99")}


def _differences(ours: Sequence[Block], theirs: Sequence[Block]) -> int:
    """Texts to which two servers gave other labels."""
    one, other = (
        {text: label for block in blocks for text, label in block.labels.items()} for blocks in (ours, theirs)
    )
    return sum(one[text] != other[text] for text in one.keys() & other.keys())


def goals(found: dict[str, Any]) -> list[tuple[str, float, str, bool]]:
    """(what, number, goal, whether it is reached)."""
    servers, memory = found["servers"], found["memory"]
    ratio = servers["bertjax"]["rate"] / max(servers["threads"]["rate"], servers["loop"]["rate"])
    tail = servers["bertjax"]["p99"] / servers["bertjax"]["p50"]
    overhead = servers["bertjax, 1 client"]["p50"] - found["bare_ms"] - WAIT_MS
    growth = memory["after_mib"] / memory["before_mib"] - 1
    return [
        ("requests/s against the pipeline", ratio, ">= 2.5", ratio >= 2.5),
        ("p99 / p50 of all clients", tail, "<= 3", tail <= 3),
        (
            "HTTP and queue over the bare call at 1 client, without the wait for others, ms",
            overhead,
            "<= 2",
            overhead <= 2,
        ),
        ("ready, with a warm cache, s", found["ready_seconds"], "<= 8", found["ready_seconds"] <= 8),
        (f"memory after {memory['requests']} requests", growth, "within 0.05", abs(growth) <= 0.05),
        ("compiles after it was ready", found["compiles_after_ready"], "0", found["compiles_after_ready"] == 0),
    ]


def show(found: dict[str, Any], count: int) -> None:
    """Prints both tables."""
    console = Console()
    table = Table("server", "requests/s", "p50 ms", "p99 ms", title=f"{count} clients, but for the last row")
    names = {"bertjax": "bertjax serve", "threads": "pipeline in threads", "loop": "pipeline in the event loop"}
    for name, row in found["servers"].items():
        table.add_row(names.get(name, name), f"{row['rate']:.0f}", f"{row['p50']:.1f}", f"{row['p99']:.1f}")
    console.print(table)
    table = Table("what", "found", "goal", "reached")
    for what, number, goal, reached in goals(found):
        table.add_row(what, f"{number:.2f}", goal, "yes" if reached else "NO")
    console.print(table)
    console.print(f"other labels than the pipeline's: {found['labels_differ']}; bare call: {found['bare_ms']:.1f} ms")


def main() -> None:
    """Reads the flags, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder of a classifier")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8, help="of each turn")
    parser.add_argument("--memory-requests", type=int, default=50_000)
    parser.add_argument("--memory-seconds", type=float, default=600)
    parser.add_argument("--pipeline-port", type=int, default=8765)
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    keep_compiled_programs()
    found = measure(flags)
    show(found, flags.clients)
    if flags.json is not None:
        numbers = {what: number for what, number, _, _ in goals(found)}
        flags.json.write_text(json.dumps({**found, "goals": numbers}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    prepare_process()
    main()
