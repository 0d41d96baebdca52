"""PyTorch weight files whose pickles claim other sizes, offsets and functions than the file has."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from bertjax.errors import CheckpointError
from bertjax.pretrained.torch_files import read_torch_file

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


both_formats = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


STORAGES = {"0\n": np.arange(8, dtype="<f4").tobytes()}


def refusal(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


class Payload:
    """Pickled as a call of a function; unpickled, it is called."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


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


def forge(path, zipped, **claim):
    if zipped:
        return write_zip(path, forged_pickle(**claim), STORAGES)
    return write_legacy(path, forged_pickle(**{"view": (None,), **claim}), STORAGES)
