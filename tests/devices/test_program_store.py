"""The store of compiled programs: one for each key, made once, few enough, and let go of with their memory maps."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.devices.data_parallel import all_devices
from bertjax.devices.program_store import ProgramStore, mapped_program, replicated_program

pytestmark = pytest.mark.usefixtures("no_programs")


def memory_maps():
    with open("/proc/self/maps", "rb") as maps:
        return sum(1 for _ in maps)


def test_a_program_is_made_once_and_the_least_recently_used_one_is_let_go():
    store, made = ProgramStore(most=2), []

    def get(key):
        return store.get(key, lambda: made.append(key) or (lambda: key))

    assert [get(key)() for key in "abab"] == list("abab")
    assert made == ["a", "b"]
    get("a")
    get("c")  # in the place of b
    assert len(store) == 2
    get("a")
    get("b")
    assert made == ["a", "b", "c", "b"]
    store.clear()
    get("b")
    assert made[-2:] == ["b", "b"]


def test_threads_that_ask_at_once_share_one_program():
    store, made, together = ProgramStore(most=9), [], Barrier(8)

    def ask(_):
        together.wait()
        return store.get("key", lambda: made.append(1) or (lambda: None))

    with ThreadPoolExecutor(8) as threads:
        programs = set(threads.map(ask, range(8)))
    assert len(programs) == len(made) == 1


def test_what_failed_is_tried_again():
    store = ProgramStore(most=2)
    with pytest.raises(ZeroDivisionError):
        store.get("key", lambda: 1 / 0)
    assert store.get("key", lambda: lambda: 7)() == 7


def triple(values, rows):
    return 3 * values * rows.sum()


def add(values, more):
    return values + more


def test_all_that_a_program_depends_on_is_in_its_key():
    """Whatever differs is compiled; what is equal is not."""
    devices, made = all_devices(), []
    values, rows = jnp.ones(3), np.ones((4, 2), np.float32)

    def program(devices=devices, function=triple, values=values, rows=rows, summed=True, donate=False):
        arguments = devices.place(values), devices.deal(rows)
        mapped_program(devices, function, arguments, summed, donate, made=lambda: made.append(1))
        return len(made)

    assert program() == program(all_devices(), triple, jnp.zeros(3), 2 * rows) == 1
    assert program(function=lambda values, rows: values) == 2
    assert program(values=jnp.ones(5)) == 3
    assert program(values=jnp.ones(3, jnp.bfloat16), rows=rows.astype(jnp.bfloat16)) == 4
    assert program(rows=np.ones((8, 2), np.float32)) == 5
    assert program(devices=all_devices(devices=jax.devices()[:1])) == 6
    assert program(devices=all_devices("shard_map")) == 7
    assert program(values={"a": values}, function=lambda values, rows: values["a"]) == 8
    assert program(donate=True) == 9
    with jax.default_matmul_precision("bfloat16"):
        assert program() == 10
    with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable):
        assert program() == 11
    assert program() == 11


def test_programs_compute_what_their_functions_do():
    devices = all_devices()
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    for function in (add, lambda values, more: values - more):
        arguments = devices.place(jnp.ones(3)), devices.place(jnp.full(3, 2.0))
        expected = function(*map(np.asarray, arguments))
        np.testing.assert_array_equal(replicated_program(devices, function, arguments)(*arguments), expected)
    arguments = devices.place(jnp.ones(3)), devices.deal(rows)
    alone = [triple(np.ones(3), share) for share in np.split(rows, devices.count)]
    found = devices.collect(mapped_program(devices, triple, arguments, summed=False)(*arguments))
    np.testing.assert_array_equal(found.reshape(devices.count, 3), alone)


def test_programs_that_are_let_go_leave_no_memory_maps(monkeypatch):
    monkeypatch.setattr("bertjax.devices.program_store.PROGRAMS", ProgramStore(most=4))
    devices, after = all_devices(), []
    for turn in range(3):
        for number in range(20):
            function = partial(jnp.add, 20 * turn + number)
            arguments = devices.place(jnp.ones(3)), devices.place(jnp.ones(3))
            replicated_program(devices, lambda a, b, function=function: function(a) * b, arguments)(*arguments)
        after.append(memory_maps())
    assert after[2] - after[1] < 20
