"""Everything that is found out about a table: `explore` calls the functions of `facts`, and joins what they find."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bertjax.data.read.bad_rows import BadRow
from bertjax.data.rows.label_vocabulary import RowLabels, row_labels
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.split.labelled_table import check_columns, count_of
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat
from bertjax.eda.exploration import Exploration
from bertjax.eda.facts.column_cells import ColumnFacts, column_facts
from bertjax.eda.facts.drift import Drift, find_drift
from bertjax.eda.facts.label_balance import Balance, NumberFacts, label_balance, number_facts
from bertjax.eda.facts.near_duplicates import NearDuplicates, find_near_duplicates
from bertjax.eda.facts.repeated_texts import Repeats, find_repeats
from bertjax.eda.facts.task_labels import AnswerFacts, EntityFacts, answer_facts, entity_facts
from bertjax.eda.facts.token_lengths import Lengths, ModelLimits, token_lengths
from bertjax.eda.facts.typical_words import ClassWords, typical_words
from bertjax.eda.facts.words import words_of
from bertjax.eda.facts.writing_systems import Script, scripts_of
from bertjax.eda.observed_rows import Fault, ObservedRows, observe
from bertjax.eda.sampled_table import ALL_ROWS, SampledTable, read_sampled
from bertjax.errors import DataError
from bertjax.stage_progress import UNSHOWN, StageProgress

if TYPE_CHECKING:
    from bertjax.report_pages.text_table import TextTable

logger = logging.getLogger(__name__)

_LISTED = 20
_LONGEST = 160  # characters of a text that is shown


class ShownRow(NamedTuple):
    """A row as the page shows it."""

    row: int  # in the table, from 1
    text: str  # shortened
    label: str  # empty where it has none


class RepeatFacts(NamedTuple):
    """Rows whose text stands in others.

    Attributes:
      duplicates: rows whose text an earlier row has, letter by letter.
      repeated_texts: texts that several rows have.
      most_repeated: (row, number of rows with its text), the most frequent first.
      contradictions: texts that have rows with different labels, case, width and spaces aside.
      contradicting_rows: rows of these texts.
      contradicting: the first two rows of each that differ; 20 at most.
      leaks: side -> rows whose text its table has too, case, width and spaces aside.
      leaking: the first of these rows.
      threshold: of near-duplicates.
      near_pairs: pairs of texts that are not the same, and at least so similar.
      near_rows: rows with an earlier one that is nearly the same.
      near: (similarity, row, row), the first 20 pairs.
      near_is_complete: see `NearDuplicates`.
    """

    duplicates: int
    repeated_texts: int
    most_repeated: tuple[tuple[ShownRow, int], ...]
    contradictions: int
    contradicting_rows: int
    contradicting: tuple[tuple[ShownRow, ShownRow], ...]
    leaks: dict[str, int]
    leaking: tuple[ShownRow, ...]
    threshold: float
    near_pairs: int
    near_rows: int
    near: tuple[tuple[float, ShownRow, ShownRow], ...]
    near_is_complete: bool


class Findings(NamedTuple):
    """What was found out about a table; a part is None where the table has nothing of the kind.

    Attributes:
      source: the table.
      task: by which it was read.
      rows: of the table that can be read.
      examined: of them, where it is a sample.
      broken, num_broken: rows that cannot be read, the first 20 and all.
      with_text: examined rows with text, which all that follows is about.
      without_text, without_label: examined rows that lack what the task needs, by number; and the first 20 reasons.
      columns: all of them.
      balance: of labels with names.
      numbers: of labels that are numbers.
      lengths: in word pieces.
      repeats: duplicates, contradictions, leaks, near-duplicates.
      words: typical of each class.
      drift: over the dates of a column.
      scripts: of all texts.
      entities: of words with labels.
      answers: of questions.
    """

    source: str
    task: str
    rows: int
    examined: int
    broken: tuple[str, ...]
    num_broken: int
    with_text: int
    without_text: int
    without_label: int | None
    faults: tuple[str, ...]
    columns: tuple[ColumnFacts, ...]
    balance: Balance | None
    numbers: tuple[NumberFacts, ...] | None
    lengths: Lengths
    repeats: RepeatFacts
    words: tuple[ClassWords, ...]
    drift: Drift | None
    scripts: tuple[Script, ...]
    entities: EntityFacts | None
    answers: AnswerFacts | None


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
        from bertjax.eda.table_page import console_table  # the page stands on the findings

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


def plain(value: Any) -> Any:
    """Findings as values of JSON: named tuples become objects."""
    if hasattr(value, "_asdict"):
        return {name: plain(part) for name, part in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return value


def headline(findings: Findings) -> str:
    """The most important of the findings, in one line."""
    repeats = findings.repeats
    parts = [
        count_of(repeats.duplicates, "duplicate row"),
        count_of(repeats.near_rows, "near-duplicate"),
        *([count_of(repeats.contradictions, "contradicting text")] if findings.without_label is not None else []),
        *(f"{count_of(leaks, 'leak')} into {side}" for side, leaks in repeats.leaks.items()),
        f"{100 * findings.lengths.longer / findings.lengths.inputs:.1f}% above {findings.lengths.max_length} tokens",
    ]
    rows = count_of(findings.rows, "row")
    looked_at = f"{findings.examined} of {rows}" if findings.examined < findings.rows else rows
    return f"{looked_at}: {', '.join(parts)}"
