"""Reads PyTorch's weight files without PyTorch, and without executing the pickles in them.

`torch.save` writes pickles, which can call anything when they are loaded. Here they can only build inert records, by
which NumPy reads the tensors from the raw bytes. Both formats of `torch.save` are read:

- the zip of torch 1.6 and later: `<root>/data.pkl`, one uncompressed `<root>/data/<key>` per storage;
- the one before: pickles of a magic number, a version, the machine, the object and the storages' keys, then, for each
  storage in this order, its number of elements as int64 and its bytes, little-endian whatever the machine.

Source: `torch/serialization.py` and `torch/_utils.py` of PyTorch.
"""

import io
import logging
import math
import os
import pickle
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from bertjax.errors import CheckpointError
from bertjax.storage.file_faults import file_fault

logger = logging.getLogger(__name__)

_ZIP_START = b"PK\x03\x04"
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_VERSION = 1001
# Where the checkpoints of training loops have the weights, beside the optimizer's state: Lightning, plain PyTorch.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_DTYPES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "CharStorage": np.dtype(np.int8),
    "ShortStorage": np.dtype(np.int16),
    "IntStorage": np.dtype(np.int32),
    "LongStorage": np.dtype(np.int64),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict that `torch.save` wrote, as contiguous arrays that share no memory.

    Raises:
      CheckpointError: a file that is missing, truncated, big-endian or no PyTorch file; a pickle that asks for more
        than tensors need; an object that is no flat dict of tensors.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_ZIP_START)) == _ZIP_START
            file.seek(0)
            state, storages = _open_zip(file) if zipped else _open_legacy(file)
            return _cut(_records(state), storages)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error}") from None
    except Exception as error:  # Broken bytes make pickle and zipfile raise nearly anything.
        message = " ".join(str(error).split()) or type(error).__name__
        reason = file_fault(path) or f"is truncated or no PyTorch file: {message}"
        raise CheckpointError(f"{path} {reason}") from error


class _Storage(NamedTuple):
    """A run of elements: `size` of them from `start` on, in a block of `numel` that the file has under `key`."""

    key: str
    dtype: np.dtype
    numel: int
    start: int
    size: int


class _Tensor(NamedTuple):
    """The arguments of `_rebuild_tensor_v2`; those of `_rebuild_tensor` are the first four."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool = False
    hooks: object = None
    metadata: object = None

    def __setstate__(self, state: object) -> None:
        """Ignores the state. Without this method pickle sets attributes, and those of the class if a file names it."""


class _Parameter(NamedTuple):
    """The arguments of `_rebuild_parameter`."""

    data: _Tensor
    requires_grad: bool
    hooks: object

    def __setstate__(self, state: object) -> None:
        """Ignores the state; see `_Tensor`."""


class _Dict(dict):
    """The replacement of `OrderedDict`: a dict that ignores a pickled state."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """A state dict carries the version of each module as `_metadata`, which says nothing of the weights."""


# The only names that a pickle may use. Storage types stay strings, which can be neither called nor changed.
_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
    **{("torch", name): name for name in _DTYPES},
}


# The unpickler in Python has a dict for its memo; the one in C makes room for up to 64 GB when an index is forged.
class _Unpickler(pickle._Unpickler):
    """Builds dicts, records and plain values, and collects the storages that they refer to."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")  # of the strings that Python 2 wrote
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            refused = f"{module}.{name}"
            raise CheckpointError(f"was refused: it asks for {refused!r}; save the model as safetensors")
        return _GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _, numel, *view = pid
        if kind != "storage" or not isinstance(key, str) or not _counts(numel):
            raise ValueError("a reference to a storage is malformed")
        start, size = 0, numel
        if view and view[0] is not None:
            _, start, size = view[0]
            if not _counts(start, size):
                raise ValueError("a view of a storage is malformed")
        storage = _Storage(key, _DTYPES[storage_type], numel, start, size)
        self.storages.setdefault(key, storage)
        return storage


def _open_zip(file: IO[bytes]) -> tuple[object, Iterable[tuple[str, bytes]]]:
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise ValueError("the archive has no data.pkl, or several")
    root = roots[0]

    def read(name: str) -> bytes:
        # An uncompressed entry cannot be larger than the file.
        if archive.getinfo(root + name).compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed")
        return archive.read(root + name)

    if root + "byteorder" in names and read("byteorder") != b"little":
        raise CheckpointError("has big-endian weights; save the model as safetensors")
    unpickler = _Unpickler(io.BytesIO(read("data.pkl")))
    state = unpickler.load()
    return state, ((key, read(f"data/{key}")) for key in unpickler.storages)


def _open_legacy(file: IO[bytes]) -> tuple[object, Iterable[tuple[str, bytes]]]:
    if (_Unpickler(file).load(), _Unpickler(file).load()) != (_MAGIC_NUMBER, _VERSION):
        raise ValueError("the magic number is another one")
    _Unpickler(file).load()  # the machine that wrote it
    unpickler = _Unpickler(file)
    state = unpickler.load()
    keys = _Unpickler(file).load()
    end = os.fstat(file.fileno()).st_size

    def storages() -> Iterator[tuple[str, bytes]]:
        for key in keys:
            storage = unpickler.storages[key]
            count = int.from_bytes(file.read(8), "little")
            length = count * storage.dtype.itemsize
            if count != storage.numel or length > end - file.tell():
                raise ValueError(f"storage {key} is cut off or has another size")
            yield key, file.read(length)

    return state, storages()


def _records(state: object) -> dict[str, _Tensor]:
    """The tensors of an unpickled state dict by name; parameters are replaced by their data."""
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            logger.info("the weights are the %r of a training checkpoint; the rest of it is left out", wrapper)
            state = state[wrapper]
            break
    if not isinstance(state, dict):
        raise CheckpointError("is not a state dict of tensors; save the weights as safetensors")
    records: dict[str, _Tensor] = {}
    for name, value in state.items():
        tensor = value.data if isinstance(value, _Parameter) else value
        if not isinstance(name, str) or not isinstance(tensor, _Tensor) or not isinstance(tensor.storage, _Storage):
            entry = str(name)[:80]
            raise CheckpointError(f"is not a state dict of tensors (see {entry!r}); save the weights as safetensors")
        if tensor.metadata:
            raise CheckpointError(f"has {name!r} conjugated or negated; save the model as safetensors")
        records[name] = tensor
    return records


def _cut(records: dict[str, _Tensor], storages: Iterable[tuple[str, bytes]]) -> dict[str, np.ndarray]:
    """Each tensor as a separate array; storages are read in order, each once."""
    names_of: defaultdict[str, list[str]] = defaultdict(list)
    for name, tensor in records.items():
        names_of[tensor.storage.key].append(name)
    arrays: dict[str, np.ndarray] = {}
    for key, raw in storages:
        for name in names_of.pop(key, ()):
            arrays[name] = _array(raw, records[name])
    if names_of:
        raise ValueError(f"the storage of {next(iter(names_of.values()))[0]} is not there")
    return {name: arrays[name] for name in records}


def _array(raw: bytes, tensor: _Tensor) -> np.ndarray:
    storage, offset, shape, strides = tensor[:4]
    if len(shape) != len(strides) or not _counts(offset, *shape, *strides):
        raise ValueError("a tensor's shape is malformed")
    flat = np.frombuffer(raw, storage.dtype, count=storage.numel)[storage.start : storage.start + storage.size]
    if 0 in shape:
        return np.empty(shape, storage.dtype)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    # A stride of 0 would let a few bytes claim any amount of memory.
    if last >= flat.size or math.prod(shape) > flat.size:
        raise ValueError("a tensor reaches outside its storage")
    byte_strides = [stride * storage.dtype.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, byte_strides).copy()


def _counts(*numbers: object) -> bool:
    """Whether all are integers from 0 on; booleans are not."""
    return all(type(number) is int and number >= 0 for number in numbers)
