"""Hashes of texts and groups, where only their equality matters."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

_BYTES = 8  # among 5 million values, two different ones share a hash with a probability of 7e-7


def hash64(values: Iterable[Any]) -> np.ndarray:
    """A hash of each value's `repr`: [n] uint64, the same in every process."""
    return _hashes(values, _BYTES)


def hash128(values: Iterable[Any]) -> np.ndarray:
    """128-bit hashes, which two different values never share in practice: [n, 2] uint64."""
    return _hashes(values, 2 * _BYTES).reshape(-1, 2)


def _hashes(values: Iterable[Any], size: int) -> np.ndarray:
    digests = (hashlib.blake2b(repr(value).encode(), digest_size=size).digest() for value in values)
    return np.frombuffer(b"".join(digests), np.uint64)
