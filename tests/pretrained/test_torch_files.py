"""PyTorch's own files: read as PyTorch reads them, never run, never past their ends."""

import builtins
import io
import itertools
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertjax.errors import CheckpointError
from bertjax.pretrained import torch_files
from bertjax.pretrained.torch_files import read_torch_file

DTYPES = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C

both_formats = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(state, path, zipped):
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_same(arrays, state):
    """The same names in the same order, and the same bits."""
    assert list(arrays) == list(state)
    for name, tensor in state.items():
        array = arrays[name]
        assert array.shape == tuple(tensor.shape)
        assert array.dtype == DTYPES[tensor.dtype]
        assert array.flags.c_contiguous
        assert array.flags.owndata
        assert array.tobytes() == tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


# What PyTorch writes is read bit by bit.


@both_formats
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_bit_by_bit(tmp_path, dtype, zipped):
    """Every pattern of bits that the type has, those of NaNs too."""
    size = torch.empty((), dtype=dtype).element_size()
    data = np.random.default_rng(0).integers(0, 2 if dtype == torch.bool else 256, 60 * size, np.uint8)
    state = {"matrix": torch.from_numpy(data).view(dtype).reshape(4, 3, 5), "none": torch.empty(0, 3, dtype=dtype)}
    state["scalar"] = state["matrix"][0, 0, 0].clone()
    assert_same(read_torch_file(save(state, tmp_path / "model.bin", zipped)), state)


@both_formats
def test_views_of_one_storage(tmp_path, zipped):
    block = torch.randn(6, 8)
    state = {
        "b.whole": block, "a.transposed": block.T, "rows": block[2:4], "every_second": block[:, 1::2],
        "tied": block, "alone": torch.arange(3),
    }  # fmt: skip
    arrays = read_torch_file(save(state, tmp_path / "model.bin", zipped))
    assert_same(arrays, state)
    assert not np.shares_memory(arrays["b.whole"], arrays["tied"])


@both_formats
def test_a_shared_storage_is_read_once(tmp_path, zipped, monkeypatch):
    block = torch.randn(40, 50)
    path = save({str(row): block[row] for row in range(40)}, tmp_path / "model.bin", zipped)
    lengths = []
    frombuffer = np.frombuffer
    monkeypatch.setattr(
        np, "frombuffer", lambda raw, *args, **kw: lengths.append(id(raw)) or frombuffer(raw, *args, **kw)
    )
    read_torch_file(path)
    assert len(lengths) == 40
    assert len(set(lengths)) == 1


@both_formats
def test_the_state_dict_of_a_network(tmp_path, zipped):
    """Such a dict carries `_metadata`, which the pickle sets as an attribute."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    state = network.state_dict()
    assert state._metadata
    assert_same(read_torch_file(save(state, tmp_path / "model.bin", zipped)), state)


@both_formats
def test_parameters(tmp_path, zipped):
    state = {name: torch.nn.Parameter(torch.randn(2, 3)) for name in "ab"}
    assert_same(read_torch_file(save(state, tmp_path / "model.bin", zipped)), state)


@both_formats
def test_an_empty_state_dict(tmp_path, zipped):
    assert read_torch_file(save({}, tmp_path / "model.bin", zipped)) == {}


@both_formats
def test_other_protocols_of_pickle(tmp_path, zipped):
    state = OrderedDict(a=torch.randn(2))
    for protocol in (2, 3, 4, 5):
        path = tmp_path / f"{protocol}.bin"
        torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        assert_same(read_torch_file(path), state)


# What is no state dict, or no whole file, is said in one line.


def refusal(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@both_formats
@pytest.mark.parametrize(
    "state",
    [
        {"network": {"a": torch.zeros(2)}},
        {"a": torch.zeros(2), "epoch": 3},
        {1: torch.zeros(2)},
        [torch.zeros(2)],
        torch.zeros(2),
        {"a": None},
    ],
    ids=["nested", "number", "name", "list", "tensor", "nothing"],
)
def test_no_state_dict(tmp_path, state, zipped):
    assert "is not a state dict of tensors" in refusal(save(state, tmp_path / "model.bin", zipped))


@both_formats
def test_a_file_that_is_cut_off_anywhere(tmp_path, zipped):
    whole = save({"a": torch.randn(20), "b": torch.arange(9)}, tmp_path / "whole.bin", zipped).read_bytes()
    path = tmp_path / "cut.bin"
    for length in [*range(0, len(whole), 5), len(whole) - 1]:
        path.write_bytes(whole[:length])
        message = refusal(path)
        # Cut inside a name that the legacy pickle asks for, half of the name is refused.
        told = "is truncated or no PyTorch file: " in message or (not zipped and "it asks for '" in message)
        assert told or (length == 0 and "is empty" in message)


@pytest.fixture(scope="module")
def saved_bytes(tmp_path_factory):
    """A file in each format, by `zipped`; saved once, for the legacy one names storages by addresses, of any length."""
    folder, state = tmp_path_factory.mktemp("whole"), {"a": torch.zeros(2, 3), "b": torch.arange(3)}
    return {zipped: save(state, folder / f"{zipped}.bin", zipped).read_bytes() for zipped in (True, False)}


@both_formats
@given(data=st.data())
def test_wrong_bytes_anywhere(tmp_path_factory, saved_bytes, zipped, data):
    """Other weights or an error in one line, and nothing else."""
    path = tmp_path_factory.mktemp("corrupt") / "model.bin"
    raw = bytearray(saved_bytes[zipped])
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    message = ""
    try:
        read_torch_file(path)
    except CheckpointError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"version 2\n", b"\x80\x02."])
def test_other_files(tmp_path, content):
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    assert "is truncated or no PyTorch file: " in refusal(path)


def test_a_file_that_is_missing(tmp_path):
    assert refusal(tmp_path / "none.bin").endswith("is missing")


def test_big_endian_weights(tmp_path):
    path = write_zip(tmp_path / "model.bin", pickle.dumps({}), {}, byteorder="big")
    assert "big-endian" in refusal(path)


def test_a_compressed_storage(tmp_path):
    """A compressed member can be far larger than its file."""
    path = tmp_path / "model.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    assert "compressed" in refusal(path)


def test_a_negated_tensor(tmp_path):
    """PyTorch notes in the metadata that the bytes have the other sign."""
    assert "conjugated or negated" in refusal(forge(tmp_path / "model.bin", True, metadata={"neg": True}))


# Nothing in a pickle is run.


class Payload:
    """Pickled as a call of a function; unpickled, it is called."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@both_formats
@pytest.mark.parametrize("named", ["system", "eval"])
def test_a_pickle_is_not_run(tmp_path, zipped, named):
    marker = tmp_path / "marker"
    payload = {
        "system": Payload(os.system, f"touch {marker}"),
        "eval": Payload(builtins.eval, f"open({str(marker)!r}, 'w').close()"),
    }[named]
    path = save({"a": torch.zeros(2), "b": payload}, tmp_path / "model.bin", zipped)
    message = refusal(path)
    assert f".{named}'; save the model as safetensors" in message
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the payload is harmless, so the test shows nothing"


@both_formats
@pytest.mark.parametrize(
    "function",
    [getattr, pickle.loads, torch.load, torch.storage._load_from_bytes, torch._utils._rebuild_tensor_v3, np.dtype],
    ids=lambda function: function.__name__,
)
def test_other_functions(tmp_path, zipped, function):
    stream = io.BytesIO()
    pickle.Pickler(stream, protocol=2).dump({"a": Payload(function)})
    path = (write_zip if zipped else write_legacy)(tmp_path / "model.bin", stream.getvalue(), {})
    assert f"{function.__name__}'; save the model as safetensors" in refusal(path)


@pytest.mark.parametrize("named", [b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n"])
@both_formats
def test_a_pickle_does_not_change_the_reader(tmp_path, named, zipped):
    """A pickle may set attributes of all that it names, and so change the next file's fate."""
    opcodes = b"\x80\x02" + named + b"N}X\x05\x00\x00\x00itemsK\x01s\x86b."
    path = (write_zip if zipped else write_legacy)(tmp_path / "model.bin", opcodes, {})
    before = vars(torch_files._Dict).copy(), vars(torch_files._Tensor).copy()
    assert "__setstate__" in refusal(path)
    assert (vars(torch_files._Dict), vars(torch_files._Tensor)) == before


def test_torch_is_not_imported(tmp_path):
    save({"a": torch.zeros(2)}, tmp_path / "pytorch_model.bin", True)
    program = (
        "import sys; from pathlib import Path; from bertjax.pretrained.files import read_tensors;"
        "assert list(read_tensors(Path(sys.argv[1]))) == ['a']; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


# Sizes, offsets and strides are believed only as far as there are bytes.


class Reference:
    """A storage of eight float32 numbers, of which a pickle may claim more."""

    def __init__(self, numel, view):
        self.numel, self.view = numel, view


class ForgingPickler(pickle.Pickler):
    def persistent_id(self, obj):
        if not isinstance(obj, Reference):
            return None
        return "storage", torch.FloatStorage, "0\n", "cpu", obj.numel, *obj.view


def write_zip(path, pickled, storages, byteorder="little"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", byteorder)
        for key, raw in storages.items():
            archive.writestr(f"archive/data/{key}", raw)
    return path


def write_legacy(path, pickled, storages, count=None):
    header = b"".join(pickle.dumps(value, 2) for value in (MAGIC_NUMBER, 1001, {"little_endian": True}))
    counted = b"".join(struct.pack("<q", count or len(raw) // 4) + raw for raw in storages.values())
    path.write_bytes(header + pickled + pickle.dumps(list(storages), 2) + counted)
    return path


def forged_pickle(offset=0, shape=(8,), strides=(1,), numel=8, view=(), metadata=None):
    """One tensor called `a` over eight numbers, with whatever the pickle claims of it."""
    arguments = (Reference(numel, view), offset, shape, strides, False, OrderedDict())
    stream = io.BytesIO()
    forged = Payload(torch._utils._rebuild_tensor_v2, *arguments, *([metadata] if metadata else []))
    ForgingPickler(stream, protocol=2).dump({"a": forged})
    return stream.getvalue()


STORAGES = {"0\n": np.arange(8, dtype="<f4").tobytes()}


def forge(path, zipped, **claim):
    if zipped:
        return write_zip(path, forged_pickle(**claim), STORAGES)
    return write_legacy(path, forged_pickle(**{"view": (None,), **claim}), STORAGES)


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
