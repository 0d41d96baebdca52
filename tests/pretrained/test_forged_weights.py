"""Sizes, offsets and strides in a pickle are believed only as far as there are bytes."""

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.pretrained.torch_files import read_torch_file
from tests.support.forged_weights import STORAGES, both_formats, forge, forged_pickle, refusal, write_legacy, write_zip


@both_formats
@pytest.mark.parametrize(
    "claim",
    [
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**62},
        {"offset": True, "shape": (7,)},
        {"strides": (2,)},
        {"strides": (-1,), "offset": 7},
        {"strides": (2**62,)},
        {"strides": (10**30,)},
        {"strides": (1, 1)},
        {"strides": (0.5,)},
        {"shape": (9,)},
        {"shape": (9,), "strides": (0,)},
        {"shape": (-1,)},
        {"shape": (2**40,), "strides": (0,)},
        {"shape": (0, 10**30), "strides": (1, 1)},
        {"shape": 8},
        {"numel": 9, "shape": (9,)},
        {"numel": 2**60, "shape": (2**60,)},
        {"numel": -1},
        {"numel": 8.0},
    ],
    ids=str,
)
def test_a_tensor_outside_its_storage(tmp_path, zipped, claim):
    assert "is truncated or no PyTorch file: " in refusal(forge(tmp_path / "model.bin", zipped, **claim))


@both_formats
@given(
    offset=st.integers(-1, 8),
    sizes=st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 5)), max_size=3),
)
def test_offsets_and_strides(tmp_path_factory, zipped, offset, sizes):
    """Against every index counted out: the very elements, or an error where one of them lies outside."""
    shape, strides = tuple(size for size, _ in sizes), tuple(stride for _, stride in sizes)
    path = forge(tmp_path_factory.mktemp("forged") / "model.bin", zipped, offset=offset, shape=shape, strides=strides)
    indices = [
        offset + sum(place * stride for place, stride in zip(places, strides, strict=True))
        for places in itertools.product(*map(range, shape))
    ]
    if min((offset, *shape, *strides)) < 0 or not all(0 <= index < 8 for index in indices) or len(indices) > 8:
        refusal(path)
    else:
        array = read_torch_file(path)["a"]
        assert array.shape == shape
        np.testing.assert_array_equal(array.ravel(), indices)


@pytest.mark.parametrize(("count", "numel"), [(7, 8), (9, 9), (2**40, 2**40), (-1, 8)])
def test_a_number_of_elements_that_the_legacy_file_does_not_have(tmp_path, count, numel):
    """Said before room is made for them."""
    path = write_legacy(tmp_path / "model.bin", forged_pickle(numel=numel, view=(None,)), STORAGES, count)
    assert "is cut off or has another size" in refusal(path)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_storage_that_is_not_there(tmp_path, write):
    view = (None,) if write is write_legacy else ()
    assert "no" in refusal(write(tmp_path / "model.bin", forged_pickle(view=view), {})).partition("file: ")[2]


def test_a_view_of_a_storage(tmp_path):
    """Files from before torch 0.4 name parts of storages: a key, an offset and a size."""
    path = forge(tmp_path / "model.bin", False, shape=(3,), view=(("part", 2, 3),))
    np.testing.assert_array_equal(read_torch_file(path)["a"], [2, 3, 4])


@pytest.mark.parametrize("view", [("part", 6, 3), ("part", -1, 4), ("part", 0, -1), ("part", 2, 2), ("part", 2)])
def test_a_view_outside_its_storage(tmp_path, view):
    refusal(forge(tmp_path / "model.bin", False, shape=(3,), view=(view,)))


def test_names_that_python_2_wrote(tmp_path):
    """As bytes, which torch reads as UTF-8."""
    pickled = forged_pickle(view=(None,))
    assert b"X\x01\x00\x00\x00a" in pickled
    path = write_legacy(tmp_path / "model.bin", pickled.replace(b"X\x01\x00\x00\x00a", b"U\x02\xc3\xa9"), STORAGES)
    assert list(read_torch_file(path)) == ["é"]


def test_a_forged_index_takes_no_memory(tmp_path):
    """The place 2**31 of the pickle's memo: a reader that keeps it as an array asks for 64 GB."""
    opcodes = b"\x80\x02}r" + struct.pack("<I", 2**31) + b"."
    assert read_torch_file(write_zip(tmp_path / "model.bin", opcodes, {})) == {}
