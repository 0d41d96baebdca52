"""The sections that every report has: scores by part, confusion, curves of the training, data, settings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bertjax.data.read.bad_rows import BadRow
from bertjax.data.validate.data_report import DataReport
from bertjax.metrics.reports import Confusion, Report, ScoreTable, better_when, is_of_whole
from bertjax.report_pages.blocks import Block, Cell, DataTable, Details, Figure, Paragraph, Section, Share
from bertjax.report_pages.charts import Heatmap, Lines, Point

History = Sequence[Mapping[str, float]]

_MOST_CLASSES = 30  # of a confusion that is shown as a whole
_MOST_PAIRS = 25
_MOST_CURVES = 6
_EPOCH = "epoch"


def parts_section(report: Report) -> Section | None:
    """The scores of each part, such as a class, and their averages; None where there are no parts."""
    return None if report.table is None else Section("parts", report.table.title, [_score_table(report.table)])


def _score_table(table: ScoreTable) -> DataTable:
    return DataTable(table.columns, _score_rows(table.rows), averages=_score_rows(table.averages))


def _score_rows(scores: Sequence[tuple[str, Sequence[float]]]) -> list[list[Cell]]:
    return [[name, *numbers] for name, numbers in scores]


def confusion_section(confusion: Confusion | None) -> Section | None:
    """How often each label was predicted for each other, as counts and as shares of the true label's rows; of many
    labels the most frequent mistakes only. None where there are no single labels."""
    if confusion is None:
        return None
    names, counts = confusion.names, confusion.counts
    totals = counts.sum(axis=1)
    blocks: list[Block] = []
    if len(names) <= _MOST_CLASSES:
        rates = counts / np.maximum(totals, 1)[:, None]
        sides = ("true label", "predicted", names, names)
        blocks += [
            Figure(
                Heatmap("Confusion, rows", *sides, counts.tolist()), "Rows of the table by true and predicted label."
            ),
            Figure(
                Heatmap("Confusion, rates", *sides, rates.tolist(), "share"),
                "Of the rows of a true label, the share that was predicted to have each label.",
            ),
        ]
    mistakes = [(int(counts[i, j]), i, j) for i, j in zip(*np.nonzero(counts), strict=True) if i != j]
    mistakes.sort(key=lambda mistake: (-mistake[0], mistake[1:]))
    if mistakes:
        rows: list[list[Cell]] = [
            [names[i], names[j], count, Share(count / totals[i])] for count, i, j in mistakes[:_MOST_PAIRS]
        ]
        caption = "The most frequent mistakes; the share is of the true label's rows."
        blocks.append(DataTable(("true label", "predicted", "rows", "share"), rows, caption))
    else:
        blocks.append(Paragraph("No row has another label than its own."))
    return Section("confusion", "Confusion", blocks)


def training_section(history: History) -> Section | None:
    """The losses and scores of each epoch and evaluation as curves, and as a table; None without any.

    Args:
      history: metrics of each epoch and evaluation, whose keys may differ.
    """
    if not history:
        return None
    columns = list(filter(is_of_whole, dict.fromkeys(key for row in history for key in row)))
    falling = [key for key in columns if better_when(key) == "min"]
    rising = [key for key in columns if better_when(key) == "max"]
    blocks: list[Block] = []
    for title, keys in (("Losses", falling), ("Scores", rising[:_MOST_CURVES])):
        if series := {_bare(key): _points(history, key) for key in keys}:
            blocks.append(
                Figure(Lines(title, series, "epochs", title.lower()), f"{title} after each epoch or evaluation.")
            )
    rows = [[_epochs(row[key]) if key == _EPOCH else row.get(key) for key in columns] for row in history]
    blocks.append(Details("All numbers", [DataTable([_bare(key) for key in columns], rows)]))
    return Section("training", "Training", blocks)


def _points(history: History, key: str) -> list[Point]:
    return [(row.get(_EPOCH, i + 1.0), row[key]) for i, row in enumerate(history) if key in row]


def _epochs(count: float) -> int | float:
    return int(count) if count == int(count) else count


def _bare(key: str) -> str:
    return key.removeprefix("epoch/").replace("_", " ")


def data_section(data_report: DataReport, trained: bool) -> Section:
    """The rows that were read, dropped and removed, and the findings of the contract.

    Args:
      data_report: of all tables.
      trained: whether there were training rows; a model that is only judged has none.
    """
    counts: list[list[Cell]] = []
    for table in data_report.tables:
        counts.append([f"rows of {table.source}", table.rows])
        counts.append([f"broken rows skipped in {table.source}", len(table.skipped)])
    if trained:
        counts.append(["duplicate training rows dropped", data_report.duplicates])
        counts.append(["training rows whose text stands in validation or test rows too", data_report.leaks])
        counts.append(["of these removed", data_report.leaks_removed])
    if data_report.contradictions:
        counts.append(["texts of training rows with different labels", data_report.contradictions])
    counts.append(["rows in which the preprocessing left no text", data_report.emptied])
    counts += [[what, count] for what, count in data_report.losses().items()]
    blocks: list[Block] = [DataTable(("what", "rows"), counts)]
    if skipped := [row for table in data_report.tables for row in table.skipped]:
        blocks.append(Details("Broken rows skipped", [_skipped_table(skipped)]))
    for table in data_report.tables:
        if table.findings:
            rows: list[list[Cell]] = [
                [finding.expectation, _HOLDS[finding.holds], finding.failures] for finding in table.findings
            ]
            title = f"What {table.source} promises"
            blocks.append(DataTable(("expectation", "holds", "rows that break it"), rows, title))
    return Section("data", "Data", blocks)


_HOLDS = {True: "yes", False: "no", None: "not checked"}


def _skipped_table(skipped: Sequence[BadRow]) -> DataTable:
    return DataTable(("row",), [[str(row)] for row in skipped])


def metrics_section(metrics: Mapping[str, float]) -> Section:
    """All metrics but those of parts and of the data, which have tables of their own."""
    rows: list[list[Cell]] = [
        [key, value] for key, value in metrics.items() if is_of_whole(key) and not key.startswith("data/")
    ]
    return Section("metrics", "Metrics", [DataTable(("metric", "value"), rows)])


def settings_section(command: str, settings: Mapping[str, Any], environment: Mapping[str, Any]) -> Section:
    """How to do it again: the command, the settings, and what it ran on.

    Args:
      command: in a shell; empty where it is not known.
      settings: by dotted path.
      environment: versions and devices, perhaps grouped.
    """
    blocks: list[Block] = [Paragraph(command, is_note=True)] if command else []
    blocks.append(DataTable(("setting", "value"), [[name, _written(value)] for name, value in settings.items()]))
    if environment:
        rows: list[list[Cell]] = [[name, _written(value)] for name, value in _flat(environment)]
        blocks.append(Details("Environment", [DataTable(("what", "value"), rows)]))
    return Section("settings", "Settings", blocks)


def _written(value: Any) -> str:
    return "" if value is None else str(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
