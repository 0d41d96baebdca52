"""What Ray Serve costs and gives: a request's time, requests a second, a killed replica, a new model under load.

Three servers take turns on the same model: one process, Ray Serve with its own proxy, and with HAProxy. Each answers
one client and then many; a sentence is a request. Then, on Ray with its own proxy, a replica is killed, and another
model (the same weights) takes over, both under load, with every answer compared.

    python scripts/benchmark_serving_ray.py --model runs/projects/model
"""

import argparse
import http.client
import json
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil

ENGINES = {"local": [], "ray": ["--engine", "ray"], "ray, HAProxy": ["--engine", "ray", "--ha-proxy"]}
TEXTS = [f"what is the {number}th thing that people ask of it ?" for number in range(64)]
_HEADERS = {"Content-Type": "application/json"}


class Server(NamedTuple):
    """A server that is ready; `address` is that of its Ray cluster, and empty for one process."""

    process: "subprocess.Popen[str]"
    port: int
    address: str
    ready_seconds: float


@contextmanager
def serving(model: str, flags: Sequence[str]) -> Iterator[Server]:
    """`bertjax serve`, until the end of the block."""
    started = time.monotonic()
    command = [sys.executable, "-m", "bertjax", "serve", "--model", model, "--port", "0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield wait_until_ready(process, started, on_ray="ray" in flags)
        finally:
            process.send_signal(signal.SIGTERM)


def wait_until_ready(process: "subprocess.Popen[str]", started: float, on_ray: bool) -> Server:
    """Reads what a server says until it answers."""
    port, address, seconds = 0, "", 0.0
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.match(r"ready on http://.*:(\d+) ", line):
            port, seconds = int(found[1]), time.monotonic() - started
        if found := re.search(r"--address (\S+)", line):
            address = found[1]
        if port and (address or not on_ray):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return Server(process, port, address, seconds)
    raise RuntimeError("the server ended before it was ready")


class Client:
    """A connection that asks one text after the other."""

    def __init__(self, port: int):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, text: str) -> tuple[int, dict[str, float]]:
        """The status, and the probabilities where there are some."""
        try:
            self._connection.request("POST", "/predict", json.dumps({"text": text, "probabilities": True}), _HEADERS)
            reply = self._connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            time.sleep(0.05)
            return 0, {}
        return reply.status, json.loads(body)["predictions"][0]["probabilities"] if reply.status == 200 else {}


class Load(NamedTuple):
    """What clients met: (when it was asked, seconds, status) of each request, and how many answers were wrong."""

    requests: list[tuple[float, float, int]]
    wrong: int


def load(port: int, clients: int, until: Callable[[], bool]) -> Load:
    """Asks with several clients until it is enough; the first answer to a text is the right one."""
    requests: list[tuple[float, float, int]] = []
    truth = {text: Client(port).ask(text)[1] for text in TEXTS}
    wrong: list[str] = []

    def ask_on(first: int) -> None:
        client, number = Client(port), first
        while not until():
            text, asked = TEXTS[number % len(TEXTS)], time.monotonic()
            status, answer = client.ask(text)
            requests.append((asked, time.monotonic() - asked, status))
            if status == 200 and any(abs(answer[label] - truth[text][label]) > 1e-6 for label in truth[text]):
                wrong.append(text)
            number += 1

    threads = [threading.Thread(target=ask_on, args=(i * 7,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(requests, len(wrong))


def for_seconds(seconds: float) -> Callable[[], bool]:
    """A condition that becomes true after some seconds."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def speeds(server: Server, clients: int, seconds: float) -> dict[str, float]:
    """Times of a request in milliseconds, at one client and at many, and requests a second."""
    load(server.port, clients, for_seconds(2))
    one = [taken for _, taken, _ in load(server.port, 1, for_seconds(seconds)).requests]
    many = [taken for _, taken, _ in load(server.port, clients, for_seconds(seconds)).requests]
    return {
        "ready_seconds": server.ready_seconds,
        "one_client_ms": 1000 * statistics.median(one),
        "many_clients_p50_ms": 1000 * statistics.median(many),
        "many_clients_p99_ms": 1000 * statistics.quantiles(many, n=100)[98],
        "requests_per_second": len(many) / seconds,
    }


def killed(server: Server, clients: int) -> dict[str, Any]:
    """Kills the replica under load: how long until the next answer, and what clients met in between."""
    own = psutil.Process(server.process.pid).children(recursive=True)
    replica = next(process for process in own if "ServeReplica" in "".join(process.cmdline()))
    killed_at: list[float] = []

    def kill() -> None:
        time.sleep(2)
        killed_at.append(time.monotonic())
        replica.kill()

    threading.Thread(target=kill).start()
    met = load(server.port, clients, for_seconds(40))
    answered = [asked + taken for asked, taken, status in met.requests if status == 200]
    back = min(end for end in answered if end > killed_at[0] + 0.5)
    return {"back_seconds": back - killed_at[0], "wrong": met.wrong, "statuses": statuses(met)}


def updated(server: Server, model: str, clients: int) -> dict[str, Any]:
    """Another model takes over under load: the slowest request, and what clients met."""
    command = [sys.executable, "-m", "bertjax", "serve", "--engine", "ray", "--address", server.address]
    started = time.monotonic()
    with subprocess.Popen([*command, "--model", model], stderr=subprocess.DEVNULL) as update:
        met = load(server.port, clients, lambda: update.poll() is not None)
        seconds = time.monotonic() - started
    slowest = max(taken for _, taken, _ in met.requests)
    return {"seconds": seconds, "slowest_ms": 1000 * slowest, "wrong": met.wrong, "statuses": statuses(met)}


def statuses(met: Load) -> dict[str, int]:
    """How many requests ended with each status; 0 is a closed connection."""
    return {str(status): count for status, count in sorted(Counter(status for *_, status in met.requests).items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a classifier of single texts")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each server")
    parser.add_argument("--json", help="file for the result")
    arguments = parser.parse_args()
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in ENGINES}
    for turn in range(arguments.rounds):
        for name, flags in ENGINES.items():
            with serving(arguments.model, flags) as server:
                measured[name].append(speeds(server, arguments.clients, arguments.seconds))
            print(f"round {turn + 1}, {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in measured[name][-1].items()))
    with serving(arguments.model, ENGINES["ray"]) as server:
        result: dict[str, Any] = {"killed": killed(server, 8), "updated": updated(server, arguments.model, 8)}
    keys = list(measured["local"][0])
    result |= {
        name: {key: statistics.median(one[key] for one in turns) for key in keys} for name, turns in measured.items()
    }
    print(f"{'':>24}" + "".join(f"{name:>16}" for name in ENGINES))
    for key in keys:
        print(f"{key:>24}" + "".join(f"{result[name][key]:>16.4g}" for name in ENGINES))
    print(f"killed replica: {result['killed']}\nanother model: {result['updated']}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
