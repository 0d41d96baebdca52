"""`made_once`: the same object for equal settings."""

from dataclasses import dataclass

from bertjax.devices.made_once import made_once


@dataclass(frozen=True)
class Settings:
    rate: float


@made_once
def make(settings, *others):
    return lambda: (settings, others)


def test_equal_settings_have_the_same_function():
    assert make(Settings(0.5), "a") is make(Settings(0.5), "a")
    assert make(Settings(0.5), "a") is not make(Settings(0.25), "a")
    assert make(Settings(0.5), "a") is not make(Settings(0.5), "b")
    assert make(1) is not make(True) is not make(1.0)


def test_what_has_no_value_is_told_apart_by_its_identity():
    assert make(len) is make(len)
    assert make(lambda: 1) is not make(lambda: 1)


def test_what_cannot_be_hashed_is_made_each_time():
    assert make([1]) is not make([1])
    assert make([1])() == ([1], ())
