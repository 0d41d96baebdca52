"""Keys: hashes that stand for texts and groups where only which of them are equal matters."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

_KEY_BYTES = 8  # among 5 million values, two different ones share a key with a probability of 7e-7


def keys_of(values: Iterable[Any]) -> np.ndarray:
    """A hash of each value by how it is written: [n] uint64, the same in every process."""
    return _hashes(values, _KEY_BYTES)


def exact_keys_of(values: Iterable[Any]) -> np.ndarray:
    """Hashes of 128 bits, which no two different values will ever share: [n, 2] uint64."""
    return _hashes(values, 2 * _KEY_BYTES).reshape(-1, 2)


def _hashes(values: Iterable[Any], size: int) -> np.ndarray:
    digests = (hashlib.blake2b(repr(value).encode(), digest_size=size).digest() for value in values)
    return np.frombuffer(b"".join(digests), np.uint64)
