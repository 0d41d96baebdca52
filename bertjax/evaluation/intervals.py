"""Confidence intervals of every metric: what other rows of the same kind could have said."""

import math
from collections.abc import Mapping

from bertjax.evaluation.interval_settings import IntervalSettings
from bertjax.evaluation.judged_rows import Finding, JudgedRows
from bertjax.metrics.bootstrap import bootstrap_intervals
from bertjax.metrics.reports import with_parts
from bertjax.report_pages.blocks import DataTable, Details, Paragraph, Ranged, Section


def find_intervals(judged: JudgedRows, settings: IntervalSettings) -> dict[str, Ranged]:
    """Every metric with its interval, those of classes as `class/NUM/recall`; NaN where it is undefined. There are none
    where the task's evaluator does not say how its metrics follow from the rows.
    """
    report = judged.report
    if report.weighted is None:
        return {}
    num_rows = len(judged.rows.texts)
    found = bootstrap_intervals(report.weighted, num_rows, settings.draws, settings.confidence, settings.bootstrap_seed)
    values = with_parts(report.metrics, report.parts)
    return {key: Ranged(values[key], *interval) for key, interval in found.items() if key in values}


def interval_finding(judged: JudgedRows, settings: IntervalSettings, found: Mapping[str, Ranged]) -> Finding:
    """The intervals as a table and as metrics: `interval/accuracy_low`, `interval/class/NUM/recall_high`.

    Args:
      judged: the rows.
      settings: of the bootstrap.
      found: as `find_intervals` gives them.
    """
    num_rows = len(judged.rows.texts)
    shown = f"{num_rows} rows, {settings.draws} draws, {settings.confidence:.3g} of them in the interval"
    blocks: list[Paragraph | DataTable | Details] = [Paragraph(shown)]
    if num_rows < 2:
        blocks.append(Paragraph("A single row says nothing of how rows differ: there is no interval.", is_note=True))
    of_classes = {key: ranged for key, ranged in found.items() if key.startswith("class/")}
    of_all = {key: ranged for key, ranged in found.items() if key not in of_classes}
    blocks.append(_table(of_all, "Metrics of all rows"))
    if of_classes:
        by_class = {key.removeprefix("class/"): ranged for key, ranged in of_classes.items()}
        blocks.append(Details("By class", [_table(by_class, "Metrics of each class")]))
    bounds = {
        f"interval/{key}_{side}": getattr(ranged, side) for key, ranged in found.items() for side in ("low", "high")
    }
    defined = {key: bound for key, bound in bounds.items() if not math.isnan(bound)}
    return Finding(Section("intervals", "Confidence intervals", blocks), defined)


def _table(found: Mapping[str, Ranged], caption: str) -> DataTable:
    return DataTable(("metric", "value", "low", "high"), [(key, *ranged) for key, ranged in found.items()], caption)
