"""SIGTERM ends a job in order, in one line and with its own status, also where Ray has put a handler of its own."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from bertjax.cli.finetune import StopSignal
from bertjax.cli.main import run
from bertjax.cli.process.stop_signals import sigterm_as_ctrl_c
from bertjax.ray_cluster import keeping_sigterm


@pytest.fixture(autouse=True)
def handler_of_pytest():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a process in which no job has run yet
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_is_one_line_and_143(capsys):
    def job():
        with sigterm_as_ctrl_c():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        raise AssertionError("the signal comes first")

    assert run(job) == 143
    assert capsys.readouterr().err == "bertjax: terminated\n"


def test_sigterm_reaches_a_job_that_a_script_started_in_the_background(capsys):
    """There the shell has SIGINT ignored."""

    def job():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with sigterm_as_ctrl_c():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(2)
        raise AssertionError("the signal comes first")

    assert run(job) == 143
    assert capsys.readouterr().err == "bertjax: terminated\n"


def test_ctrl_c_is_one_line_and_130(capsys):
    def job():
        raise KeyboardInterrupt

    assert run(job) == 130
    assert capsys.readouterr().err == "bertjax: interrupted\n"


def test_a_job_that_stops_after_its_step_leaves_the_handlers_of_its_program():
    """Or a program that has called the command once could not be stopped any more."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop(), stop.number) == (True, signal.SIGTERM)
    assert [signal.getsignal(number) for number in numbers] == before


BEHIND_PYTHON = """
import ctypes, os, signal
from bertjax.ray_cluster import keeping_sigterm

received = []
signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
with keeping_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray's Python does
    ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.c_void_p(0))  # as its C++ does, of which Python learns nothing
os.kill(os.getpid(), signal.SIGTERM)
print(received)
"""


def test_a_handler_that_was_replaced_comes_back():
    result = subprocess.run([sys.executable, "-c", BEHIND_PYTHON], capture_output=True, text=True, check=True)
    assert result.stdout == "[15]\n"


def test_another_thread_than_the_main_one_may_start_ray():
    entered = []

    def start():
        with keeping_sigterm():
            entered.append(True)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert entered == [True]
