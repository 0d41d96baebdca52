"""`bertjax serve --engine ray`: the same answers, a new model without a dropped request, a killed replica, an end."""

import ipaddress
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import ray
from safetensors.numpy import load_file, save_file

from bertjax.cli.main import main
from bertjax.inference.predictor import Predictor
from bertjax.training.run.training_session import FineTuneResult
from tests.support.processes import complaint, user_environment
from tests.support.servers import Server, serving

pytestmark = [
    pytest.mark.ray,
    # The pipe of the server's process, closed when it is collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ROWS = [{"title": "a very film", "body": body} for body in ("good and great .", "bad and dull .", "so", "🎉 <b>")]
BACK_SECONDS = 60  # of a busy machine; scripts/benchmark_serving_ray.py measures it


Truth = dict[str, dict[str, float]]  # text -> the probabilities of its labels


def truth_of(model: Path) -> Truth:
    answers = Predictor.load(model)(ROWS)
    return {row["body"]: answer["probabilities"] for row, answer in zip(ROWS, answers, strict=True)}


@pytest.fixture(scope="module")
def truth(finished_run: FineTuneResult) -> Truth:
    return truth_of(finished_run.model_dir)


@pytest.fixture(scope="module")
def contrary(finished_run: FineTuneResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says the opposite."""
    folder = shutil.copytree(finished_run.model_dir, tmp_path_factory.mktemp("models") / "contrary")
    weights = load_file(folder / "model.safetensors")
    turned = {name: weights[name][::-1].copy() for name in ("classifier.weight", "classifier.bias")}
    save_file(weights | turned, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def server(finished_run: FineTuneResult) -> Iterator[Server]:
    """Replicas on a cluster of their own, although the environment names another one; started as a shell script starts
    a command in the background, deaf to SIGINT."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    flags = ("--engine", "ray", "--model", str(finished_run.model_dir))
    with serving(*flags, env={"RAY_ADDRESS": "127.0.0.1:1"}) as running:
        signal.signal(signal.SIGINT, before)
        yield running


def processes(server: Server) -> list[psutil.Process]:
    """The server's process and all that it started."""
    own = psutil.Process(server.process.pid)
    return [own, *own.children(recursive=True)]


def replicas(server: Server) -> list[psutil.Process]:
    found = []
    for process in processes(server):
        try:
            found += [process] if "ServeReplica" in process.cmdline()[0] else []
        except (psutil.Error, IndexError):
            continue
    return found


class Clients:
    """Clients that ask all the time, and check every answer."""

    def __init__(self, server: Server, number: int = 2, **truths: Truth):
        self.outcomes: Counter[str | int] = Counter()
        self._server, self._truths = server, truths
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(number)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, outcome: str, number: int) -> bool:
        """Waits until an outcome was seen more often."""
        deadline = time.monotonic() + BACK_SECONDS
        while self.outcomes[outcome] <= number and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.outcomes[outcome] > number

    def _ask_on(self) -> None:
        while not self._is_over.is_set():
            for row in ROWS:
                self.outcomes[self._outcome(row)] += 1

    def _outcome(self, row: dict[str, str]) -> str | int:
        """Whose answer came, or the status of none."""
        try:
            reply = self._server.post("/predict", {"rows": [row], "probabilities": True})
        except (OSError, HTTPException):
            return "no answer"
        if reply.status != 200:
            return reply.status
        (prediction,) = reply.json["predictions"]
        right = [name for name, truth in self._truths.items() if is_close(prediction, truth[row["body"]])]
        return right[0] if right else "wrong"


def is_close(prediction: Any, probabilities: dict[str, float]) -> bool:
    return bool(prediction["probabilities"] == pytest.approx(probabilities, abs=1e-6))


def test_answers_are_the_predictors(server: Server, truth: Truth) -> None:
    reply = server.post("/predict", {"rows": ROWS, "probabilities": True})
    assert reply.status == 200
    for row, answer in zip(ROWS, reply.json["predictions"], strict=True):
        assert answer["probabilities"] == pytest.approx(truth[row["body"]], abs=1e-6)
    assert (server.get("/ready").status, server.get("/health").status) == (200, 200)
    assert b"<h1>" in server.get("/").body
    assert "/predict" in server.get("/openapi.json").json["paths"]


BAD_REQUESTS = {
    "no JSON": (b"{", 400),
    "half a character": (b'{"text": "\\ud800"}', 422),
    "an unknown key": ({"test": "a"}, 422),
    "a long body": (b" " * 5_000_000, 413),
    "too many texts": ({"texts": ["a"] * 1001}, 413),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_requests_are_answered_as_by_the_local_server(server: Server, case: str) -> None:
    body, status = BAD_REQUESTS[case]
    reply = server.post("/predict", body)
    assert (reply.status, list(reply.json)) == (status, ["detail"])


def test_the_model_changes_by_an_update_only(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.post("/model", {"model": "default"}).status == 403
    assert main(["serve", "--model", "m", "--engine", "ray", "--models", "other=m"]) == 2
    assert "--models" in complaint(capsys.readouterr().err)


def test_ray_listens_to_this_machine_only(server: Server) -> None:
    """But for a port of each replica, on which Ray asks for its token."""
    open_to_all = []
    for process in processes(server):
        for connection in process.net_connections():
            if connection.status == psutil.CONN_LISTEN:
                address = ipaddress.ip_address(connection.laddr.ip)
                if not (getattr(address, "ipv4_mapped", None) or address).is_loopback:
                    open_to_all.append((process, connection.laddr.port))
    assert [process for process, _ in open_to_all] == replicas(server)
    with grpc.insecure_channel(f"127.0.0.1:{open_to_all[0][1]}") as channel, pytest.raises(grpc.RpcError) as refusal:
        channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=10)
    assert refusal.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_replica_has_the_machines_processors(server: Server) -> None:
    (replica,) = replicas(server)
    assert int(replica.environ()["OMP_NUM_THREADS"]) == psutil.cpu_count()


def test_another_model_takes_over_without_a_dropped_request(server: Server, truth: Truth, contrary: Path) -> None:
    (address,) = [line.split("--address ")[1].split()[0] for line in server.log if "--address" in line]
    with Clients(server, old=truth, new=truth_of(contrary)) as clients:
        command = [sys.executable, "-m", "bertjax", "serve", "--engine", "ray", "--address", address]
        done = subprocess.run(
            [*command, "--model", contrary], capture_output=True, text=True, check=False, env=user_environment()
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert "the running Ray Serve" in done.stderr
        answered = clients.wait_for("new", 0)
    assert set(clients.outcomes) == {"old", "new"}
    assert answered


def test_a_killed_replica_gives_no_wrong_answer_and_comes_back(server: Server, contrary: Path) -> None:
    (replica,) = replicas(server)
    with Clients(server, new=truth_of(contrary)) as clients:
        assert clients.wait_for("new", 10)
        replica.kill()
        replica.wait()
        assert clients.wait_for("new", clients.outcomes["new"] + 10)
    assert set(clients.outcomes) <= {"new", 500, 503, "no answer"}


@pytest.mark.filterwarnings("default")
def test_it_answers_what_has_come_and_leaves_nothing_behind(server: Server) -> None:
    """The last test that asks the server."""
    started = processes(server)
    with ThreadPoolExecutor(4) as clients:
        body = {"texts": ["a good film"] * 1000}
        replies = [clients.submit(server.post, "/predict", body) for _ in range(4)]
        while "bertjax_texts 4000.0" not in server.get("/metrics").body.decode():
            assert not any(reply.done() for reply in replies)
        assert server.stop(signal.SIGTERM) == 143
        assert [reply.result().status for reply in replies] == [200] * 4
    assert complaint("\n".join(server.log)) == "bertjax: terminated"
    _, left = psutil.wait_procs(started, timeout=10)
    assert left == []


class TestRefusals:
    """What is wrong is said before Ray starts."""

    def refused(self, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
        before = ray.is_initialized()  # by other tests
        assert main(["serve", "--engine", "ray", *flags]) == 2
        assert ray.is_initialized() == before
        return complaint(capsys.readouterr().err)

    def test_a_port_that_is_taken(self, finished_run: FineTuneResult, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            flags = ("--model", str(finished_run.model_dir), "--port", str(taken.getsockname()[1]))
            assert "Address already in use" in self.refused(capsys, *flags)

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (("--model", "/nowhere/at/all"), "/nowhere/at/all"),
            (("--model", "m", "--min-replicas", "3", "--max-replicas", "2"), "--max-replicas 2 is below"),
            (("--model", "m", "--ha-proxy", "--address", "127.0.0.1:1"), "RAY_SERVE_ENABLE_HA_PROXY=1"),
            (("--model", "m", "--address", "127.0.0.1:1"), "there is no Ray cluster on 127.0.0.1:1"),
            (("--model", "m", "--min-replicas", "0"), "min_replicas must be 1 or more"),
        ],
    )
    def test_flags(self, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: str) -> None:
        assert words in self.refused(capsys, *flags)

    def test_a_flag_of_the_other_engine(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["serve", "--model", "m", "--max-replicas", "2"]) == 2
        assert "--engine ray" in complaint(capsys.readouterr().err)
