"""`DataReport`: how many rows reading, cleaning and splitting kept and dropped, for the log, metrics and reports."""

from typing import Any, NamedTuple

from bertjax.data.read.bad_rows import BadRow
from bertjax.data.validate.contract import Finding


class TableReport(NamedTuple):
    """The outcome of reading one table."""

    source: str  # its name in the settings
    rows: int  # usable rows
    skipped: tuple[BadRow, ...] = ()  # unusable rows
    findings: tuple[Finding, ...] = ()  # one finding an expectation of the contract; empty without a contract
    emptied: int = 0  # usable rows in which the preprocessing left no text


class DataReport(NamedTuple):
    """The outcome of reading, cleaning and splitting.

    Attributes:
      tables: training first, then validation and test, as far as they are tables of their own.
      duplicates: training rows dropped because an earlier row has the same text.
      leaks: training rows whose text is in the validation or test rows too, except for case and spaces.
      leaks_removed: leaks that were removed from training, all or none.
      contradictions: texts of training rows that have different labels, case and spaces aside.
      empty_texts: texts of all sides of which the tokenizer makes no word piece.
      lost_words: labelled words of which it makes none.
      unlabelled_words: words that are marked as having no label.
    """

    tables: tuple[TableReport, ...]
    duplicates: int = 0
    leaks: int = 0
    leaks_removed: int = 0
    contradictions: int = 0
    empty_texts: int = 0
    lost_words: int = 0
    unlabelled_words: int = 0

    def losses(self) -> dict[str, int]:
        """What was lost between the rows and their tokens, in words, as far as anything was."""
        counts = {
            "texts of which the tokenizer makes no word piece": self.empty_texts,
            "labelled words of which it makes none: not learned, and predicted to be in no entity": self.lost_words,
            "words marked -100: without a label, neither learned nor judged": self.unlabelled_words,
        }
        return {what: count for what, count in counts.items() if count}

    @property
    def emptied(self) -> int:
        """Rows of all tables in which the preprocessing left no text."""
        return sum(table.emptied for table in self.tables)

    def metrics(self) -> dict[str, float]:
        """Counts, under the keys of `metrics.json`; contradictions and losses where there are any."""
        found: dict[str, float] = {
            "data/contradictions": self.contradictions,
            "data/empty_texts": self.empty_texts,
            "data/lost_words": self.lost_words,
            "data/unlabelled_words": self.unlabelled_words,
        }
        return {
            "data/rows_read": sum(table.rows for table in self.tables),
            "data/rows_skipped": sum(len(table.skipped) for table in self.tables),
            "data/duplicates": self.duplicates,
            "data/leaks": self.leaks,
            "data/leaks_removed": self.leaks_removed,
            "data/emptied": self.emptied,
        } | {key: count for key, count in found.items() if count}

    def contract_report(self) -> list[dict[str, Any]]:
        """The contract's findings of each table, as plain values."""
        return [
            {"source": table.source, "rows": table.rows, "expectations": [item._asdict() for item in table.findings]}
            for table in self.tables
        ]
