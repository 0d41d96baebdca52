"""Applies labelling functions to texts. A function that raises, or returns no label, abstains on that text."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bertjax.data.rows.cells import is_missing, label_text, shown
from bertjax.data.rows.label_vocabulary import sorted_labels
from bertjax.errors import UserError
from bertjax.labeling.labeling_functions import LabelingFunction
from bertjax.labeling.load_functions import LabelingFile
from bertjax.user_files import told

logger = logging.getLogger(__name__)

ABSTAINS = -1
_LISTED = 3
_ROUNDING = 1e-3  # of a sum of probabilities in float32
_KINDS_OF_LABELS = "return a label, probabilities of labels, or None"


class TextRows(NamedTuple):
    """The rows that functions read.

    Attributes:
      texts: of each.
      rows: their cells by column.
      places: how messages name each row.
      source: the table.
    """

    texts: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    places: Sequence[str]
    source: str


class Votes(NamedTuple):
    """What functions say of rows.

    Attributes:
      functions: their names.
      labels: all classes, in the order of `sorted_labels`.
      hard: [N, F] int32, the class that each function holds for the most probable; -1 where it abstains.
      soft: function -> [N, L] float32 probabilities, 0 where it abstains; of those that gave some.
      faults: of each function, the rows where it raised or returned no label.
    """

    functions: tuple[str, ...]
    labels: tuple[str, ...]
    hard: np.ndarray
    soft: Mapping[int, np.ndarray]
    faults: tuple[int, ...]

    @property
    def counts(self) -> np.ndarray:
        """[N] functions that vote."""
        return (self.hard != ABSTAINS).sum(axis=1)

    def shares(self, function: int) -> np.ndarray:
        """[N, L] float32: the vote of a function as probabilities, 0 where it abstains."""
        if function in self.soft:
            return self.soft[function]
        return (self.hard[:, function, None] == np.arange(len(self.labels))).astype(np.float32)

    def of(self, functions: Sequence[int]) -> "Votes":
        """The votes of some functions."""
        return self._replace(
            functions=tuple(self.functions[i] for i in functions),
            hard=self.hard[:, list(functions)],
            soft={place: self.soft[i] for place, i in enumerate(functions) if i in self.soft},
            faults=tuple(self.faults[i] for i in functions),
        )


class _NoVote(ValueError):
    """What a function returned cannot be a vote."""


def apply_functions(file: LabelingFile, rows: TextRows, labels: Sequence[str] | None = None) -> Votes:
    """The votes of all functions of a file; faults are logged, the first ones of each function with their rows.

    Args:
      file: the functions.
      rows: at least one.
      labels: all classes; default: those of the file, else those that the functions know and return.

    Raises:
      UserError: a function asks a model that there is not, or that does not fit.
    """
    known = tuple(labels) if labels is not None else file.labels
    votes, faults = [], []
    for function in file.functions:
        of_function, failed = _votes_of(function, rows, known, file.path)
        votes.append(of_function)
        faults.append(len(failed))
        _log_faults(function.name, failed, rows)
    if known is None:
        declared = (label for function in file.functions for label in function.labels or ())
        known = sorted_labels({*declared, *(label for column in votes for vote in column for label in vote)})
    return _encoded(file.functions, sorted_labels(known), votes, faults)


def _votes_of(
    function: LabelingFunction, rows: TextRows, known: Sequence[str] | None, path: str
) -> tuple[list[dict[str, float]], list[tuple[int, str]]]:
    """The vote of a function for each row, as shares of labels, none where it abstains; and the faults, by row."""
    returned = _returned_at_once(function, rows, path) if function.at_once else _returned(function, rows, path)
    votes: list[dict[str, float]] = []
    faults = []
    for row, value in enumerate(returned):
        try:
            if isinstance(value, _NoVote):
                raise value
            votes.append(_vote(value, known))
        except _NoVote as fault:
            votes.append({})
            faults.append((row, str(fault)))
    return votes, faults


def _returned(function: LabelingFunction, rows: TextRows, path: str) -> Iterator[Any]:
    for index, text in enumerate(rows.texts):
        try:
            yield function.function(text, dict(rows.rows[index])) if function.takes_row else function.function(text)
        except (Exception, SystemExit) as error:
            yield _NoVote(f"raised {told(path, error)}")


def _returned_at_once(function: LabelingFunction, rows: TextRows, path: str) -> Iterable[Any]:
    try:
        return list(function.function(list(rows.texts)))
    except UserError:
        raise
    except Exception as error:
        return [_NoVote(f"raised {told(path, error)}")] * len(rows.texts)


def _vote(value: Any, known: Sequence[str] | None) -> dict[str, float]:
    """A vote as shares of labels of sum 1; none where it abstains.

    Raises:
      _NoVote: it is something else, or names a label that is not known.
    """
    if not isinstance(value, Mapping):
        return {} if is_missing(value) else {_known_label(value, known): 1.0}
    shares: dict[str, float] = {}
    for label, share in value.items():
        name = _known_label(label, known)
        is_number = isinstance(share, int | float | np.floating) and not isinstance(share, bool)
        if not (is_number and 0 <= share <= 1 + _ROUNDING):
            raise _NoVote(f"returned {shown(share)} for {name!r}, which is no probability; {_KINDS_OF_LABELS}")
        shares[name] = shares.get(name, 0.0) + float(share)
    total = sum(shares.values())
    if total > 1 + _ROUNDING:
        raise _NoVote(f"returned probabilities of sum {total:.4g}; their sum must be at most 1")
    return {label: share / total for label, share in shares.items()} if total else {}


def _known_label(value: Any, known: Sequence[str] | None) -> str:
    label = None if isinstance(value, bool) else label_text(value, merge=True)
    if not label:
        raise _NoVote(f"returned {shown(value)}, which is no label; {_KINDS_OF_LABELS}")
    if known is not None and label not in known:
        raise _NoVote(f"returned the unknown label {label!r}; there are {', '.join(known)}")
    return label


def _log_faults(name: str, faults: Sequence[tuple[int, str]], rows: TextRows) -> None:
    for row, reason in faults[:_LISTED]:
        logger.warning("%s: %s: labelling function %r %s", rows.source, rows.places[row], name, reason)
    if len(faults) > _LISTED:
        logger.warning(
            "%s: labelling function %r raised or returned no label for %d rows, of which %d are shown",
            rows.source, name, len(faults), _LISTED,
        )  # fmt: skip


def _encoded(
    functions: Sequence[LabelingFunction],
    labels: tuple[str, ...],
    votes: Sequence[Sequence[Mapping[str, float]]],
    faults: Sequence[int],
) -> Votes:
    index = {label: i for i, label in enumerate(labels)}
    hard = np.full((len(votes[0]), len(functions)), ABSTAINS, np.int32)
    soft = {}
    for place, column in enumerate(votes):
        voting = [row for row, vote in enumerate(column) if vote]
        hard[voting, place] = [index[max(column[row], key=lambda label: column[row][label])] for row in voting]
        if any(len(column[row]) > 1 for row in voting):
            shares = np.zeros((len(column), len(labels)), np.float32)
            for row in voting:
                for label, share in column[row].items():
                    shares[row, index[label]] = share
            soft[place] = shares
    return Votes(tuple(function.name for function in functions), labels, hard, soft, tuple(faults))
