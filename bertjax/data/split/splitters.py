"""Splitters: from classes, groups or times of rows to the indices of training rows and held-out rows.

Every function puts each row on one of the two sides, the same side for the same values and seed. `classes` are sorted
by name, since a seeded split depends on their order. `test_size` is a count of rows (1 or more) or a share of them;
`source` and `side` ("test" or "validation") are named in errors.

scikit-learn takes a second to import, so it is imported where rows are dealt: a run with a table a side starts without.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bertjax.data.rows.label_vocabulary import RowLabels
from bertjax.errors import DataError


class TrainTest(NamedTuple):
    """Indices of the rows on either side; together they are every row once."""

    train: np.ndarray  # [N - M] rows to train on
    test: np.ndarray  # [M] rows held out


def stratified(classes: RowLabels, test_size: float, seed: int, source: str, side: str = "test") -> TrainTest:
    """Holds out rows so that each class has the same share on both sides.

    Raises:
      DataError: a class with one row, or a size that leaves a side without some class.
    """
    counts, labels = classes.counts(), classes.codes
    lonely = sorted(label for label, count in counts.items() if count < 2)
    if lonely and len(counts) > 1:
        raise DataError(
            f"{source}: {', '.join(map(repr, lonely))} {'has' if len(lonely) == 1 else 'have'} a single row, which "
            f"cannot be on both sides of a stratified split; add rows, drop the class, or give a --test table"
        )
    if len(counts) == 1:
        held_out = _count_between_sides(test_size, len(labels), source, side)
    else:
        held_out = rows_to_hold_out(test_size, len(labels))
    if not len(counts) <= held_out <= len(labels) - len(counts):
        raise DataError(
            f"{source}: holding out {held_out} of {len(labels)} rows leaves a side with fewer rows than the "
            f"{len(counts)} classes; choose another --{side}-size or give a --{side} table"
        )
    from sklearn.model_selection import StratifiedShuffleSplit

    dealer = StratifiedShuffleSplit(1, test_size=held_out, train_size=len(labels) - held_out, random_state=seed)
    return TrainTest(*next(dealer.split(labels, labels)))


def grouped(
    classes: RowLabels, groups: Sequence[Any] | np.ndarray, test_size: float, seed: int, source: str, side: str = "test"
) -> TrainTest:
    """Holds out whole groups, so that no value of `groups` (one a row, or a hash of it) is on both sides.

    The groups are dealt so that classes have about the same share on both sides. Then groups change sides until no
    single move or swap brings the number of held-out rows nearer to `test_size`.

    Raises:
      DataError: fewer than two groups, no class with two rows, or a size that leaves a side empty.
    """
    values, group_of_row = np.unique(np.asarray(groups), return_inverse=True)
    if len(values) < 2:
        raise DataError(f"{source}: a grouped split needs two groups or more, all rows are of one")
    labels, most_rows = classes.codes, max(classes.counts().values())
    if most_rows < 2:
        raise DataError(f"{source}: every class has a single row, which cannot be on both sides of a split; add rows")
    held_out = _count_between_sides(test_size, len(labels), source, side)
    parts = max(2, min(round(len(labels) / held_out), len(values), most_rows))
    from sklearn.model_selection import StratifiedGroupKFold

    with warnings.catch_warnings():
        # Classes with fewer rows than parts are in fewer parts; the split asks for no more.
        warnings.simplefilter("ignore", UserWarning)
        deal = StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(group_of_row, labels, group_of_row)
        candidates = [test for _, test in deal]
    nearest = min(candidates, key=lambda rows: abs(len(rows) - held_out))
    is_out = np.isin(np.arange(len(values)), group_of_row[nearest])
    _approach(is_out, np.bincount(group_of_row), held_out)
    is_out = is_out[group_of_row]
    return TrainTest(np.flatnonzero(~is_out), np.flatnonzero(is_out))


def by_time(times: Sequence[Any] | np.ndarray, test_size: float, source: str, side: str = "test") -> TrainTest:
    """Holds out the latest rows; rows of the same time stay together, so the order of rows does not matter.

    `times` are numbers or datetimes, one a row; the cut is between two of them, as near to `test_size` as possible.

    Returns:
      Both sides in the order of time; rows of the same time keep their order.

    Raises:
      DataError: one time only, or a size that leaves a side empty.
    """
    held_out = _count_between_sides(test_size, len(times), source, side)
    times = np.asarray(times)
    order = np.argsort(times, kind="stable")
    cuts = 1 + np.flatnonzero(times[order[1:]] != times[order[:-1]])
    if not cuts.size:
        raise DataError(f"{source}: a time split needs two times or more, all rows have {times[0]}")
    cut = cuts[np.abs(cuts - (len(times) - held_out)).argmin()]
    return TrainTest(order[:cut], order[cut:])


def kfold(classes: RowLabels, folds: int, fold: int, seed: int, source: str) -> TrainTest:
    """Deals the rows into `folds` parts, each class evenly, and holds out part `fold`, counted from 0.

    Raises:
      DataError: a class with fewer rows than folds.
    """
    label, rows = min(classes.counts().items(), key=lambda item: (item[1], item[0]))
    if folds > rows:
        what = repr(label) if label else "the table"
        raise DataError(
            f"{source}: {what} has {rows} {'row' if rows == 1 else 'rows'}, which cannot be in each of {folds} "
            f"folds; choose fewer --folds or drop the class"
        )
    from sklearn.model_selection import StratifiedKFold

    parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(classes.codes)), classes.codes)
    return TrainTest(*list(parts)[fold])


def at_most(classes: RowLabels, per_class: int, seed: int) -> np.ndarray:
    """The ascending indices of so many rows of each class, drawn at random, or of all where it has fewer. Of two draws
    with a seed, the larger one has the rows of the smaller.

    >>> at_most(RowLabels(("a", "b"), np.array([0, 1, 0, 0, 0])), 2, seed=0).tolist()
    [1, 2, 4]
    """
    codes = classes.sorted_by_name().codes
    order = np.random.default_rng(seed).permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    counts = np.bincount(codes)
    place = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[place < per_class])


def rows_to_hold_out(test_size: float, total: int) -> int:
    """A count of rows out of a count (1 or more) or a share."""
    return round(test_size * total) if test_size < 1 else round(test_size)


def _count_between_sides(test_size: float, total: int, source: str, side: str) -> int:
    held_out = rows_to_hold_out(test_size, total)
    if not 1 <= held_out <= total - 1:
        raise DataError(
            f"{source}: holding out {held_out} of {total} rows leaves a side empty; choose another --{side}-size or "
            f"give a --{side} table"
        )
    return held_out


def _approach(is_out: np.ndarray, rows_of_group: np.ndarray, target: int) -> None:
    """Moves or swaps single groups in `is_out` [G] as long as that brings the held-out rows nearer to `target`."""
    total = int(rows_of_group.sum())
    while True:
        now = int(rows_of_group[is_out].sum())
        # 0 stands for no group, so a move is a swap with nothing.
        leaving = np.unique(np.append(rows_of_group[is_out], 0))[:, None]
        entering = np.unique(np.append(rows_of_group[~is_out], 0))[None, :]
        after = now - leaving + entering
        # Of equally near results, the one that moves the fewest rows disturbs the shares of the classes least.
        price = np.abs(after - target) + (leaving + entering) / (2 * total + 1)
        price[(after == 0) | (after == total)] = np.inf
        i, j = np.unravel_index(price.argmin(), price.shape)
        if 0 < now < total and abs(after[i, j] - target) >= abs(now - target):
            return
        leaver = np.flatnonzero(is_out & (rows_of_group == leaving[i, 0]))[:1]
        enterer = np.flatnonzero(~is_out & (rows_of_group == entering[0, j]))[:1]
        is_out[leaver], is_out[enterer] = False, True
