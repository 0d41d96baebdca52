"""PyTorch's own files: read as PyTorch reads them, never run, never past their ends."""

import builtins
import io
import os
import pickle
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
from tests.support.forged_weights import (
    Payload,
    both_formats,
    forge,
    refusal,
    write_legacy,
    write_zip,
)

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
