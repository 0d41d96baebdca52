"""`DataReport`: what became of the rows on their way from the tables to the run, for its log, metrics and reports."""

from typing import Any, NamedTuple

from bertjax.data.read.bad_rows import BadRow
from bertjax.data.validate.contract import Finding


class TableReport(NamedTuple):
    """What reading one table found.

    Attributes:
      source: its name in the settings.
      rows: that could be read.
      skipped: rows that could not.
      findings: one an expectation of the contract; empty without a contract.
    """

    source: str
    rows: int
    skipped: tuple[BadRow, ...] = ()
    findings: tuple[Finding, ...] = ()


class DataReport(NamedTuple):
    """What reading, cleaning and splitting found.

    Attributes:
      tables: training first, then validation and test, where they are given.
      duplicates: training rows that were dropped because an earlier one has the same text.
      leaks: training rows whose text stands in the validation or test rows too, but for case and spaces.
      leaks_removed: as many of them as were taken out of training, all or none.
      emptied: rows of all tables in which the preprocessing left no text.
    """

    tables: tuple[TableReport, ...]
    duplicates: int
    leaks: int
    leaks_removed: int
    emptied: int = 0

    def metrics(self) -> dict[str, float]:
        """Counts, under the keys of `metrics.json`."""
        return {
            "data/rows_read": sum(table.rows for table in self.tables),
            "data/rows_skipped": sum(len(table.skipped) for table in self.tables),
            "data/duplicates": self.duplicates,
            "data/leaks": self.leaks,
            "data/leaks_removed": self.leaks_removed,
            "data/emptied": self.emptied,
        }

    def contract_report(self) -> list[dict[str, Any]]:
        """The contract's expectations of each table and what became of them, as plain values."""
        return [
            {"source": table.source, "rows": table.rows, "expectations": [item._asdict() for item in table.findings]}
            for table in self.tables
        ]
