"""Weak labels of a table: reads its texts, applies labelling functions, and combines their votes to probabilities."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from bertjax.data.read.bad_rows import PLACE
from bertjax.data.read.content import Reading
from bertjax.data.read.sources import read_table
from bertjax.data.rows.label_vocabulary import sorted_labels
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.spellings import plain_spelling
from bertjax.data.rows.table_cells import table_cells
from bertjax.data.split.labelled_table import count_of, parse_table
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat
from bertjax.data.task_formats.masked_lm_format import MASKED_LM
from bertjax.data.task_formats.sequence_formats import CLASSIFICATION
from bertjax.errors import DataError
from bertjax.labeling.apply_functions import TextRows, Votes, apply_functions
from bertjax.labeling.estimated_balance import class_balance
from bertjax.labeling.label_models import FEWEST_FUNCTIONS, fit_label_model, majority_vote, voting
from bertjax.labeling.load_functions import LabelingFile, as_labeling_file
from bertjax.labeling.vote_table import FunctionStatistics, function_statistics
from bertjax.metrics.classification_report import classification_report

logger = logging.getLogger(__name__)

LABEL, VOTES, PROBABILITY = "weak_label", "weak_votes", "weak_p_"
Method = Literal["label_model", "majority"]


class ModelScores(NamedTuple):
    """How right a way to combine votes is on a labelled set, whose uncovered rows get the most frequent class.

    Attributes:
      accuracy, f1_weighted, f1_macro: of all rows.
      covered: share of the rows where a function votes.
      f1_weighted_covered: of these rows alone; None where there are none.
    """

    accuracy: float
    f1_weighted: float
    f1_macro: float
    covered: float
    f1_weighted_covered: float | None


class WeakLabels(NamedTuple):
    """The outcome.

    Attributes:
      table: the rows that are kept, with the columns of their table, `weak_label`, `weak_votes` and one `weak_p_CLASS`
        for each class.
      labels: the classes.
      balance: [L] the share of each that the label model takes as known.
      method: what the probabilities are from.
      num_rows: rows with text.
      uncovered: of these, rows that no function votes for.
      functions: of each function.
      scores: method -> on the labelled set; empty without one.
    """

    table: pd.DataFrame
    labels: tuple[str, ...]
    balance: np.ndarray
    method: Method
    num_rows: int
    uncovered: int
    functions: list[FunctionStatistics]
    scores: dict[str, ModelScores]

    def summary(self) -> dict[str, Any]:
        """What there is to know beside the table, as JSON values."""
        return {
            "labels": list(self.labels),
            "balance": dict(zip(self.labels, self.balance.tolist(), strict=True)),
            "method": self.method,
            "rows": self.num_rows,
            "uncovered": self.uncovered,
            "written": len(self.table),
            "functions": [of_function._asdict() for of_function in self.functions],
            "scores": {method: scores._asdict() for method, scores in self.scores.items()},
        }


def weak_labels(
    functions: LabelingFile | str | Path | Sequence[Callable[..., Any]],
    table: Table,
    labelled: Table | None = None,
    *,
    balance: Sequence[str] = ("estimated",),
    method: Method = "label_model",
    uncovered: Literal["drop", "keep"] = "drop",
    seed: int = 0,
) -> WeakLabels:
    """Labels the rows of `table.train` by labelling functions.

    Args:
      functions: a Python file with them, see docs/labeling.md, or a list of them.
      table: the rows; of its settings, those of text and files are used, and no label.
      labelled: rows with labels, on which functions and both ways to combine them are judged; they teach nothing.
      balance: see `class_balance`.
      method: `label_model` needs three functions that vote; with fewer, majority vote is taken, and said so.
      uncovered: whether rows that no function votes for are left out, or kept with the class balance as probabilities.
      seed: of the label model.

    Raises:
      UserError: a table or a function's model that cannot be used, a balance that does not fit, functions that know one
        class alone or vote for no row.
    """
    file = as_labeling_file(functions)
    frame, rows = _read(table)
    known = None if labelled is None else _read_labelled(labelled)
    votes = apply_functions(file, rows)
    _check(votes, file, table.train)
    shares, active = class_balance(balance, votes), voting(votes)
    models: dict[str, Callable[[Votes], np.ndarray]] = {"majority": lambda votes: majority_vote(votes, shares)}
    if method == "label_model" and len(active) < FEWEST_FUNCTIONS:
        logger.warning(
            "the label model needs %d functions that vote, and %s; the labels are those of the majority vote",
            FEWEST_FUNCTIONS, "1 does" if len(active) == 1 else f"{len(active)} do",
        )  # fmt: skip
        method = "majority"
    if method == "label_model":
        models[method] = fit_label_model(votes.of(active), shares, seed).probabilities
    covered = votes.counts > 0
    kept = np.flatnonzero(covered) if uncovered == "drop" else np.arange(len(covered))
    logger.info(
        "%s: functions vote for %d of %s; %s",
        table.train, covered.sum(), count_of(len(covered), "row"), _of_uncovered(int((~covered).sum()), uncovered),
    )  # fmt: skip
    of_labelled, truth, scores = None, list[str](), dict[str, ModelScores]()
    if known is not None:
        labelled_rows, truth = known
        if unknown := sorted_labels(set(truth) - set(votes.labels)):
            logger.warning("%s: no function votes for %s", labelled_rows.source, ", ".join(map(repr, unknown)))
        of_labelled = apply_functions(file, labelled_rows, votes.labels)
        scores = {name: _scores(model(of_labelled), of_labelled, truth, shares) for name, model in models.items()}
    return WeakLabels(
        table=_with_labels(frame.iloc[kept], models[method](votes)[kept], votes, kept, shares),
        labels=votes.labels,
        balance=shares,
        method=method,
        num_rows=len(covered),
        uncovered=int((~covered).sum()),
        functions=function_statistics(votes, of_labelled, truth),
        scores=scores,
    )


def _of_uncovered(count: int, uncovered: str) -> str:
    if not count:
        return "none is left out"
    done = "left out" if uncovered == "drop" else "kept, with the class balance as probabilities"
    return f"{'the other one is' if count == 1 else f'the other {count} are'} {done}"


def _read(table: Table) -> tuple[pd.DataFrame, TextRows]:
    """The rows that have text, without the places of rows, and what functions read of them."""
    frame, parsed = _parsed(table, MASKED_LM)
    rows = _text_rows(frame, parsed, table.train)
    frame = frame.iloc[parsed.positions].drop(columns=PLACE, errors="ignore").reset_index(drop=True)
    taken = [str(name) for name in frame.columns if str(name) in (LABEL, VOTES) or str(name).startswith(PROBABILITY)]
    if taken:
        raise DataError(f"{table.train} has a column {taken[0]!r} already, where weak labels would stand; rename it")
    return frame, rows


def _parsed(table: Table, task_format: TaskFormat) -> tuple[pd.DataFrame, Rows]:
    frame = read_table(table.train, Reading.of(table, class_names=task_format.indexed), table.on_bad_row).frame
    return frame, parse_table(frame, table, task_format, table.train).rows


def _text_rows(frame: pd.DataFrame, rows: Rows, source: str) -> TextRows:
    cells = table_cells(frame, rows.positions)
    return TextRows(rows.texts, cells.rows(), cells.places, source)


def _check(votes: Votes, file: LabelingFile, source: str) -> None:
    """Checks that there is something to learn, and names the functions that vote for no row.

    Raises:
      DataError: no function votes, or all know one class alone.
    """
    active = voting(votes)
    silent = [repr(name) for i, name in enumerate(votes.functions) if i not in active]
    if not active:
        raise DataError(f"no function of {file.path} votes for a row of {source}, so there is nothing to label")
    if silent:
        logger.warning("%s: no row is covered by %s", source, ", ".join(silent))
    if len(votes.labels) < 2:
        raise DataError(
            f"the functions of {file.path} know one class alone, {votes.labels[0]!r}; write one for another class, or "
            f"name all classes in LABELS"
        )


def _read_labelled(labelled: Table) -> tuple[TextRows, list[str]]:
    """What functions read of a labelled set, and its labels as functions spell theirs."""
    frame, rows = _parsed(labelled, CLASSIFICATION)
    return _text_rows(frame, rows, labelled.train), [plain_spelling(label) for label in rows.labels]


def _scores(probabilities: np.ndarray, votes: Votes, truth: Sequence[str], balance: np.ndarray) -> ModelScores:
    names = sorted_labels({*votes.labels, *truth})
    index = {name: i for i, name in enumerate(names)}
    true = np.array([index[label] for label in truth])
    predicted = np.array([index[votes.labels[i]] for i in _most_probable(probabilities, balance)])
    covered = votes.counts > 0
    metrics = classification_report(true, predicted, names).metrics
    of_covered = classification_report(true[covered], predicted[covered], names).metrics if covered.any() else None
    return ModelScores(
        metrics["accuracy"],
        metrics["f1_weighted"],
        metrics["f1_macro"],
        float(covered.mean()),
        None if of_covered is None else of_covered["f1_weighted"],
    )


def _most_probable(probabilities: np.ndarray, balance: np.ndarray) -> list[int]:
    """The class of each row; of classes that are equally probable, the more frequent one."""
    by_balance = np.argsort(-balance, kind="stable")
    # Rounded: equal votes that were added up in another order are equal.
    return by_balance[probabilities[:, by_balance].round(9).argmax(axis=1)].tolist()


def _with_labels(
    frame: pd.DataFrame, probabilities: np.ndarray, votes: Votes, rows: np.ndarray, balance: np.ndarray
) -> pd.DataFrame:
    counts = votes.counts[rows]
    labels = [votes.labels[i] for i in _most_probable(probabilities, balance)]
    columns: dict[str, Any] = {
        LABEL: [label if count else None for label, count in zip(labels, counts.tolist(), strict=True)],
        VOTES: counts,
    }
    columns |= {f"{PROBABILITY}{label}": probabilities[:, i] for i, label in enumerate(votes.labels)}
    return pd.concat([frame.reset_index(drop=True), pd.DataFrame(columns)], axis=1)
