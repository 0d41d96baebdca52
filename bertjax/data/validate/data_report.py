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
    """

    tables: tuple[TableReport, ...]
    duplicates: int = 0
    leaks: int = 0
    leaks_removed: int = 0
    contradictions: int = 0

    @property
    def emptied(self) -> int:
        """Rows of all tables in which the preprocessing left no text."""
        return sum(table.emptied for table in self.tables)

    def metrics(self) -> dict[str, float]:
        """Counts, under the keys of `metrics.json`."""
        return {
            "data/rows_read": sum(table.rows for table in self.tables),
            "data/rows_skipped": sum(len(table.skipped) for table in self.tables),
            "data/duplicates": self.duplicates,
            "data/leaks": self.leaks,
            "data/leaks_removed": self.leaks_removed,
            "data/emptied": self.emptied,
            **({"data/contradictions": self.contradictions} if self.contradictions else {}),
        }

    def contract_report(self) -> list[dict[str, Any]]:
        """The contract's findings of each table, as plain values."""
        return [
            {"source": table.source, "rows": table.rows, "expectations": [item._asdict() for item in table.findings]}
            for table in self.tables
        ]
