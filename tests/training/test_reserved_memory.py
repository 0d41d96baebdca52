"""Temporaries of a training step stay in the heap, whatever else is allocated, and go back to the system after it."""

import os
import platform
import subprocess
import sys
from contextlib import contextmanager

import jax
import pytest

from bertjax.cli.process.process_setup import memory_tunables
from bertjax.devices.data_parallel import AXIS, all_devices
from bertjax.losses import cross_entropy
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.settings.options import Optimizer
from bertjax.training.step import compiled_step, reserved_memory
from bertjax.training.step.compiled_step import CompiledTrainStep
from bertjax.training.step.reserved_memory import ReservedMemory
from bertjax.training.step.train_step import make_train_step
from tests.support.batches import batches_of, make_examples
from tests.support.models import network

SIZE, STEPS = 48 << 20, 40  # bytes of temporaries, which glibc maps

on_glibc = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="of glibc's allocator on Linux"
)

# Allocates as XLA does, between other allocations that live on; prints how often the buffer was mapped.
PROCESS = """
import ctypes, os, sys
from bertjax.training.step import reserved_memory
from bertjax.training.step.freed_memory import trim_heap
from bertjax.training.step.reserved_memory import ReservedMemory

size, steps, reserves = map(int, sys.argv[1:])
libc = ctypes.CDLL(None)
libc.posix_memalign.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def is_mapped():
    before, address = reserved_memory._address_space(), ctypes.c_void_p()
    with reserved.watched():
        assert libc.posix_memalign(ctypes.byref(address), 64, size) == 0
    found = reserved_memory._address_space() >= before + size
    ctypes.memset(address, 1, size)
    libc.free(address)
    return found

def resident():
    return int(reserved_memory._STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

old_holes = [libc.malloc(each << 20) for each in (16, 20, 24, 28, 30)]
walls = [libc.malloc(1 << 20) for _ in old_holes]
for hole in old_holes:
    libc.free(hole)
reserved, mapped, kept = ReservedMemory(), 0, []
for step in range(steps):
    if reserves and (step == 0 or reserved.lost):
        reserved.reserve(size)
    mapped += is_mapped()
    kept += [libc.malloc(each) for each in (1 << 10, 1 << 16, 1 << 19)]
assert bool(reserved) == bool(reserves)
before = resident()
reserved.release()
trim_heap()
print(mapped, before - resident())
"""


def times_mapped(reserves):
    """Of all steps in a process with the allocator of the command line, and the bytes that are returned after them."""
    command = [sys.executable, "-c", PROCESS, str(SIZE), str(STEPS), str(int(reserves))]
    environment = os.environ | {"GLIBC_TUNABLES": memory_tunables()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return map(int, done.stdout.split())


@contextmanager
def losing(reserved):
    """As where the temporaries are mapped after all."""
    yield
    reserved.lost = True


@pytest.fixture
def with_settings(monkeypatch):
    """As if the process had been started with the command line's settings of the allocator."""

    def set_to(tunables):
        monkeypatch.setenv("GLIBC_TUNABLES", tunables)
        monkeypatch.setattr(reserved_memory, "_calls", reserved_memory._calls.__wrapped__)

    return set_to


@on_glibc
def test_buffers_of_the_steps_lie_in_the_heap_and_their_memory_is_returned_after_them():
    without, _ = times_mapped(reserves=False)
    assert without > STEPS * 3 // 4
    times, returned = times_mapped(reserves=True)
    assert times <= STEPS // 4  # where glibc gave a piece of the hole away, it is made anew
    assert returned > SIZE * 3 // 4


@on_glibc
@pytest.mark.parametrize("size", [1 << 20, 1 << 60], ids=["the heap takes it anyway", "there is no memory"])
def test_nothing_is_reserved_for_a_size(size, with_settings):
    with_settings(memory_tunables())
    reserved = ReservedMemory()
    reserved.reserve(size)
    assert not reserved


@on_glibc
@pytest.mark.parametrize("more", [":glibc.malloc.mmap_max=9", None], ids=["mapping is limited", "several heaps"])
def test_nothing_is_reserved_with_other_settings_of_the_allocator(more, with_settings):
    with_settings("" if more is None else memory_tunables() + more)
    reserved = ReservedMemory()
    reserved.reserve(SIZE)
    assert not reserved


@on_glibc
def test_a_hole_that_does_not_last_is_given_up(with_settings, monkeypatch):
    with_settings(memory_tunables())
    reserved, space = ReservedMemory(), iter(range(0, 1 << 40, SIZE))
    monkeypatch.setattr(reserved_memory, "_address_space", lambda: next(space))
    made = 0
    for _ in range(100):
        reserved.reserve(SIZE)
        made += bool(reserved)
        with reserved.watched():
            assert not reserved.lost
        assert reserved.lost == bool(reserved)
    assert made == reserved_memory._MOST_LOSSES
    assert not reserved


def test_a_step_reserves_its_temporaries_on_all_devices_and_releases_them_at_its_end(monkeypatch):
    sizes, trims = [], []
    monkeypatch.setattr(ReservedMemory, "reserve", lambda _, size: sizes.append(size))
    monkeypatch.setattr(compiled_step, "trim_heap", lambda: trims.append(len(sizes)))
    devices, (model, params) = all_devices("pmap"), network()
    plan, batches = batches_of(make_examples(), packed=True, devices=devices.count, batch_size=8, epochs=2)
    step = make_train_step(model, make_optimizer(Optimizer(), len(batches), model), cross_entropy, AXIS)
    state = devices.place(step.init(params, jax.random.PRNGKey(0)))
    compiled = CompiledTrainStep(devices, model, step, state, plan.empty_batches)
    compiled.wait()
    state, _ = compiled(state, batches[0])
    state, _ = compiled(state, batches[1])
    programs = [future.result() for future in compiled._programs.values()]
    assert sizes == [devices.count * max(program.memory_analysis().temp_size_in_bytes for program in programs)]
    assert sizes[0] > 0
    compiled._reserved.lost = True  # as after a gradient whose temporaries were mapped
    state, _ = compiled(state, batches[2])
    assert len(sizes) == 2
    monkeypatch.setattr(ReservedMemory, "watched", losing)
    state, _ = compiled(state, batches[3])
    assert trims == [2], "the hole is not held beside the temporaries"
    trims.clear()
    spent = jax.tree.leaves(compiled._spent)
    assert trims == []
    compiled.close()
    compiled.close()  # a run closes it when its steps are done, and again at its end
    assert trims == [2]
    assert all(leaf.is_deleted() for leaf in spent)
