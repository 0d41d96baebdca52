"""The findings about a table: what `explore` returns and the page shows, as values that are JSON too."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from bertjax.data.split.labelled_table import count_of
from bertjax.eda.facts.column_cells import ColumnFacts
from bertjax.eda.facts.drift import Drift
from bertjax.eda.facts.label_balance import Balance, NumberFacts
from bertjax.eda.facts.task_labels import AnswerFacts, EntityFacts
from bertjax.eda.facts.token_lengths import Lengths
from bertjax.eda.facts.typical_words import ClassWords
from bertjax.eda.facts.writing_systems import Script


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
