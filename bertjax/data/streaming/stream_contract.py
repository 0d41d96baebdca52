"""`StreamContract`: checks a table against its contract part by part."""

import numpy as np

from bertjax.data.table import Table
from bertjax.data.validate.contract import (
    EXAMPLES,
    Broken,
    CheckedRows,
    Contract,
    Finding,
    findings_of,
    unique_expectation,
)


class StreamContract:
    """A contract and the check of the parts so far: a few rows that break it, and the unique keys of all rows."""

    def __init__(self, contract: Contract):
        self._contract = contract
        self._num_rows = 0
        self._broken: dict[str, Broken] = {}
        self._keys: list[list[np.ndarray]] = [[] for _ in contract.unique]

    def add(self, part: CheckedRows) -> None:
        """Adds the check of the next part."""
        for expectation, (rows, first) in part.broken.items():
            before = self._broken.get(expectation, Broken(0, ()))
            here = tuple((row + self._num_rows, cells) for row, cells in first)
            self._broken[expectation] = Broken(before.rows + rows, (*before.first, *here)[:EXAMPLES])
        for keys, of_part in zip(self._keys, part.keys, strict=True):
            keys.append(of_part)
        self._num_rows += part.num_rows

    def findings(self, table: Table, columns: list[str]) -> tuple[Finding, ...]:
        """One finding an expectation.

        Args:
          table: settings that name the text and label columns.
          columns: columns of all parts.
        """
        broken = dict(self._broken)
        for key, keys in zip(self._contract.unique, self._keys, strict=True):
            repeated = _repeated(np.concatenate(keys)) if keys else Broken(0, ())
            if repeated.rows:
                broken[unique_expectation(key)] = repeated
        return findings_of(self._contract, table, columns, self._num_rows, broken)


def _repeated(keys: np.ndarray) -> Broken:
    """The rows whose key an earlier row has, with the number of that row for the first few.

    Args:
      keys: [n, 2] hashes.
    """
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: of equal keys, the earlier row is first
    is_new = np.ones(len(order), bool)
    is_new[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    firsts = order[is_new][np.cumsum(is_new) - 1]
    rows, original = order[~is_new], firsts[~is_new]
    shown = np.argsort(rows)[:EXAMPLES]
    return Broken(len(rows), tuple((int(rows[i]) + 1, f"as in row {original[i] + 1}") for i in shown))
