"""Compiling behind the training: nobody waits for what they do not need, and nothing that goes wrong is lost."""

import threading

import jax
import optax
import pytest

from bertjax.batch import empty_batch
from bertjax.devices.data_parallel import AXIS, all_devices
from bertjax.tasks import make_model
from bertjax.training.step.aot_compile import Compilations
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.train_step import make_train_step, seed_key
from tests.support.models import TINY


class Program:
    """Stands for a program to compile; compiles once it is allowed to."""

    def __init__(self, name, allowed=None, error=None):
        self.name, self.allowed, self.error = name, allowed, error
        self.begun = threading.Event()

    def __call__(self):
        self.begun.set()
        if self.allowed is not None:
            assert self.allowed.wait(10)
        if self.error is not None:
            raise self.error
        return lambda: self.name


@pytest.fixture
def compilations():
    made = Compilations()
    yield made
    made.close()


def test_the_first_program_is_ready_while_another_compiles(compilations):
    allowed = threading.Event()
    first = compilations.submit(Program("first"))
    second = compilations.submit(Program("second", allowed), after=(first,))
    assert first.result()() == "first"
    assert not second.done()
    allowed.set()
    assert second.result()() == "second"
    compilations.wait()
    assert compilations.seconds > 0


def test_what_is_needed_later_takes_no_time_from_what_is_needed_first(compilations):
    allowed = threading.Event()
    update = compilations.submit(Program("update"))
    first = compilations.submit(Program("first", allowed))
    later = Program("later")
    second = compilations.submit(later, after=(first, update))
    assert update.result()() == "update"
    assert not later.begun.wait(0.2)
    allowed.set()
    assert second.result()() == "later"


def test_what_goes_wrong_behind_the_training_is_raised_at_the_next_step(compilations):
    allowed = threading.Event()
    future = compilations.submit(Program("second", allowed, MemoryError("too large a program")))
    compilations.check()
    allowed.set()
    with pytest.raises(MemoryError):
        future.result()
    with pytest.raises(MemoryError, match="too large a program"):
        compilations.check()


def test_closing_gives_up_what_has_not_begun(compilations):
    allowed = threading.Event()
    running = [Program(name, allowed) for name in "ab"]
    for program in running:
        compilations.submit(program)
        assert program.begun.wait(10)
    waiting = compilations.submit(Program("c"))
    compilations.close()
    assert waiting.cancelled()
    compilations.check()
    allowed.set()


def test_a_step_that_cannot_be_traced_says_so():
    """Nobody waits for ever for its program."""

    def loss(output, batch):
        raise MemoryError("no such loss")

    devices, model = all_devices(), make_model(TINY, "classification", ("a", "b"))
    step = make_train_step(model, optax.sgd(0.1), loss, AXIS)
    state = devices.place(step.init(model.init(jax.random.key(0)), seed_key(0)))
    train_step = CompiledTrainStep(devices, model, step, state, [empty_batch(2, 8, 1)])
    with pytest.raises(MemoryError, match="no such loss"):
        train_step.wait()
    train_step.close()
