"""Everything that is found out about a table: `explore` calls the functions of `facts`, and joins what they find."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bertjax.data.read.bad_rows import BadRow
from bertjax.data.rows.label_vocabulary import RowLabels, row_labels
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.split.labelled_table import check_columns
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat
from bertjax.eda.exploration import Exploration
from bertjax.eda.facts.column_cells import column_facts
from bertjax.eda.facts.drift import find_drift
from bertjax.eda.facts.label_balance import NumberFacts, label_balance, number_facts
from bertjax.eda.facts.near_duplicates import NearDuplicates, find_near_duplicates
from bertjax.eda.facts.repeated_texts import Repeats, find_repeats
from bertjax.eda.facts.task_labels import AnswerFacts, EntityFacts, answer_facts, entity_facts
from bertjax.eda.facts.token_lengths import ModelLimits, token_lengths
from bertjax.eda.facts.typical_words import typical_words
from bertjax.eda.facts.words import words_of
from bertjax.eda.facts.writing_systems import scripts_of
from bertjax.eda.findings import Findings, RepeatFacts, ShownRow
from bertjax.eda.observed_rows import Fault, ObservedRows, observe
from bertjax.eda.sampled_table import ALL_ROWS, SampledTable, read_sampled
from bertjax.errors import DataError
from bertjax.stage_progress import UNSHOWN, StageProgress

if TYPE_CHECKING:
    from bertjax.report_pages.text_table import TextTable

logger = logging.getLogger(__name__)

_LISTED = 20
_LONGEST = 160  # characters of a text that is shown


class Explored(NamedTuple):
    """A table that was looked at, with what cleaning needs of it."""

    label_columns: tuple[str, ...]
    sample: SampledTable
    observed: ObservedRows
    repeats: Repeats
    near: NearDuplicates
    findings: Findings

    def table(self) -> "TextTable":
        """The most important findings, for a terminal or a notebook."""
        from bertjax.eda.table_page import console_table

        return console_table(self.findings)

    def html(self, settings: Mapping[str, Any] = {}) -> str:
        """All findings as one page that needs no other file, with the settings that led to them."""
        from bertjax.eda.table_page import render

        return render(self.findings, settings)

    def metrics(self) -> dict[str, float]:
        """The most important numbers, for a tracker."""
        repeats, lengths = self.findings.repeats, self.findings.lengths
        return {
            "data/rows": self.findings.rows,
            "data/without_text": self.findings.without_text,
            "data/duplicates": repeats.duplicates,
            "data/near_duplicates": repeats.near_rows,
            "data/contradictions": repeats.contradictions,
            "data/leaks": sum(repeats.leaks.values()),
            "data/cut_share": lengths.longer / lengths.inputs,
            "data/unknown_share": lengths.unknown,
            "data/packed_share": lengths.packed.packed_share,
        }


def explore(
    table: Table,
    task_format: TaskFormat,
    model: ModelLimits,
    settings: Exploration,
    all_rows: bool = False,
    progress: StageProgress = UNSHOWN,
) -> Explored:
    """Looks at the rows of `table.train`, and compares them with those of its other tables.

    Args:
      table: settings.
      task_format: how rows are read.
      model: whose word pieces are counted.
      settings: of what is looked for.
      all_rows: whether to look at all rows, however many.
      progress: shows the parts that take long.

    Raises:
      DataError: a source, column or text that cannot be used.
      ConfigError: settings that contradict each other or the task.
    """
    source = table.train
    sample = read_sampled(table, source, task_format, ALL_ROWS if all_rows else settings.sample_rows, settings.seed)
    if sample.is_sample:
        logger.info("%s has %d rows; looking at %d of them, chosen at random (--sample-rows)",
                    source, sample.num_rows, len(sample.frame))  # fmt: skip
    observed = observe(sample, table, task_format, source)
    if not observed.rows.texts:
        raise DataError(f"{source} has no row with text; the first: row {observed.without_text[0].row} "
                        f"{observed.without_text[0].reason}")  # fmt: skip
    if settings.date_column is not None:
        check_columns(sample.frame.columns, [settings.date_column], source)
    sides: dict[str, Rows] = {
        side: _other_rows(observed.table, name, task_format, settings) for side, name in table.evaluated.items()
    }
    rows, labelled = observed.rows, observed.labelled()
    repeats = find_repeats(rows, labelled, task_format, sides)
    words = words_of(observed.strings())
    distinct, parts = np.flatnonzero(~repeats.is_duplicate), list(map(words_of, observed.parts()))
    near = find_near_duplicates(words, distinct, settings.near_duplicates, settings.seed, parts, progress)
    labels = row_labels(task_format.names(rows.labels[i]) for i in labelled.tolist()) if len(labelled) else None
    if labels is not None and not labels.names:
        labels = None
    drift = None
    if settings.date_column is not None:
        column = sample.frame[settings.date_column].iloc[rows.positions].reset_index(drop=True)
        drift = find_drift(column, labels, labelled, words, source)
    by_class = {} if labels is None or task_format.positions else _members(labels, labelled)
    findings = Findings(
        source=source,
        task=task_format.task,
        rows=sample.num_rows,
        examined=len(sample.frame),
        broken=tuple(map(str, sample.skipped[:_LISTED])),
        num_broken=len(sample.skipped),
        with_text=len(rows.texts),
        without_text=len(observed.without_text),
        without_label=len(observed.without_label) if observed.is_labelled else None,
        faults=tuple(_faults(source, (*observed.without_text, *observed.without_label))),
        columns=column_facts(sample.frame, _roles(observed.table, task_format, settings.date_column)),
        balance=None if labels is None else label_balance(labels),
        numbers=_numbers(task_format, rows, labelled, observed.table),
        lengths=token_lengths(rows, task_format.task, model, progress),
        repeats=_repeat_facts(observed, repeats, near, settings.near_duplicates),
        words=typical_words(words, by_class, labelled),
        drift=drift,
        scripts=scripts_of(observed.strings()),
        entities=_entities(task_format, rows, labelled, observed.table),
        answers=_answers(task_format, rows, labelled),
    )
    return Explored(task_format.label_columns(observed.table), sample, observed, repeats, near, findings)


def _other_rows(table: Table, source: str, task_format: TaskFormat, settings: Exploration) -> Rows:
    """The rows with text of a validation or test table; all of them, of which no more than hashes are kept long."""
    sample = read_sampled(table, source, task_format, ALL_ROWS, settings.seed)
    return observe(sample, table, task_format, source).rows


def _members(labels: RowLabels, labelled: np.ndarray) -> dict[str, np.ndarray]:
    """Class -> its rows, the largest class first."""
    rows = labelled[labels.row_of]
    found = {name: rows[labels.codes == code] for code, name in enumerate(labels.names)} if len(labels.names) else {}
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _numbers(task_format: TaskFormat, rows: Rows, labelled: np.ndarray, table: Table) -> tuple[NumberFacts, ...] | None:
    labels = [rows.labels[i] for i in labelled.tolist()]
    values = [label if isinstance(label, tuple) else (label,) for label in labels]
    if not values or not values[0] or not all(isinstance(value, float) for value in values[0]):
        return None
    return number_facts(task_format.label_columns(table), np.array(values, np.float64))


def _entities(task_format: TaskFormat, rows: Rows, labelled: np.ndarray, table: Table) -> EntityFacts | None:
    if task_format.task != "token_classification" or not len(labelled):
        return None
    chosen = labelled.tolist()
    return entity_facts([rows.texts[i] for i in chosen], [rows.labels[i] for i in chosen], table.tag_scheme)


def _answers(task_format: TaskFormat, rows: Rows, labelled: np.ndarray) -> AnswerFacts | None:
    if task_format.task != "question_answering" or not len(labelled) or rows.pairs is None:
        return None
    chosen = labelled.tolist()
    return answer_facts([rows.labels[i] for i in chosen], [rows.pairs[i] for i in chosen])


def _roles(table: Table, task_format: TaskFormat, date_column: str | None) -> dict[str, str]:
    texts = task_format.text_columns(table)
    roles = {name: "second text" if name in table.text_pair else "text" for name in texts}
    roles |= {name: "candidates" for name in table.candidates if name in texts}
    roles |= dict.fromkeys(task_format.label_columns(table), "label")
    return {date_column: "date"} | roles if date_column is not None else roles


def _faults(source: str, faults: Sequence[Fault]) -> list[str]:
    first = sorted(faults)[:_LISTED]
    return [str(BadRow(source, fault.row, fault.reason, "row")) for fault in first]


def _repeat_facts(observed: ObservedRows, repeats: Repeats, near: NearDuplicates, threshold: float) -> RepeatFacts:
    strings = observed.strings()

    def shown(row: int) -> ShownRow:
        text, label = " ".join(strings[row][: 4 * _LONGEST].split()), observed.rows.labels[row]
        text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
        return ShownRow(int(observed.numbers[row]) + 1, text, _label_text(label))

    counts = np.bincount(repeats.first, minlength=len(repeats.first))
    most = [int(row) for row in np.argsort(-counts, kind="stable")[:_LISTED] if counts[row] > 1]
    leaking = np.flatnonzero(np.any(list(repeats.leaks.values()), axis=0)) if repeats.leaks else np.arange(0)
    return RepeatFacts(
        duplicates=int(repeats.is_duplicate.sum()),
        repeated_texts=int((counts > 1).sum()),
        most_repeated=tuple((shown(row), int(counts[row])) for row in most),
        contradictions=len(repeats.contradictions),
        contradicting_rows=int(repeats.contradicts.sum()),
        contradicting=tuple((shown(a), shown(b)) for a, b in repeats.contradictions[:_LISTED].tolist()),
        leaks={side: int(found.sum()) for side, found in repeats.leaks.items()},
        leaking=tuple(shown(int(row)) for row in leaking[:_LISTED]),
        threshold=threshold,
        near_pairs=len(near.pairs),
        near_rows=len(near.rows()),
        near=tuple(
            (float(similarity), shown(a), shown(b))
            for (a, b), similarity in zip(near.pairs[:_LISTED].tolist(), near.similarity[:_LISTED], strict=True)
        ),
        near_is_complete=near.is_complete,
    )


def _label_text(label: Any) -> str:
    if label is None:
        return ""
    if isinstance(label, tuple) and not hasattr(label, "_fields"):
        return ", ".join(map(_label_text, label))
    if hasattr(label, "answers"):
        return "; ".join(answer.text for answer in label.answers) or "no answer"
    return f"{label:g}" if isinstance(label, float) else str(label)
