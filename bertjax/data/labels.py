"""The label vocabulary: which class has which index. Sorted, so it never depends on the order of rows."""

from collections.abc import Iterable, Sequence

import numpy as np

from bertjax.errors import DataError


def label_vocabulary(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels in order: numbers by value where all are integers, else by code point.

    Raises:
      DataError: fewer than two classes.

    >>> label_vocabulary(["neg", "pos", "neg"])
    ('neg', 'pos')
    >>> label_vocabulary(["10", "9", "2"])
    ('2', '9', '10')
    """
    distinct = set(labels)
    if len(distinct) < 2:
        found = f"only {next(iter(distinct))!r}" if distinct else "none"
        raise DataError(f"classification needs two classes or more, the training rows have {found}")
    return in_order(distinct)


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels by value where all are integers, else by code point."""
    labels = list(labels)
    try:
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def label_ids(labels: Sequence[str], vocabulary: Sequence[str], source: str) -> np.ndarray:
    """The index of each label.

    Args:
      labels: one a row.
      vocabulary: of the training rows.
      source: named in the error.

    Returns:
      [N] int32.

    Raises:
      DataError: a label that training never saw.
    """
    (ids,) = label_indices([labels], vocabulary, source)
    return np.array(ids, np.int32)


def label_indices(labels: Sequence[Sequence[str]], vocabulary: Sequence[str], source: str) -> list[list[int]]:
    """The index of each label, where each row has several.

    Args:
      labels: several a row.
      vocabulary: of the training rows.
      source: named in the error.

    Raises:
      DataError: a label that training never saw.
    """
    index = {label: i for i, label in enumerate(vocabulary)}
    unseen = sorted({label for of_row in labels for label in of_row} - set(index))
    if unseen:
        raise DataError(
            f"{source} has labels that training never saw: {', '.join(map(repr, unseen))}; "
            f"training has {', '.join(map(repr, vocabulary))}"
        )
    return [[index[label] for label in of_row] for of_row in labels]
