"""Bootstrap confidence intervals of every metric."""

import math
from collections.abc import Mapping

from bertjax.evaluation.calibration import judge_calibration
from bertjax.evaluation.judged_rows import Finding, ScoredRows
from bertjax.evaluation.look_settings import IntervalSettings
from bertjax.metrics.bootstrap import bootstrap_intervals
from bertjax.metrics.reports import with_parts
from bertjax.metrics.weighted.calibration_scores import weighted_calibration
from bertjax.metrics.weighted.row_weights import Together
from bertjax.report_pages.blocks import DataTable, Details, Paragraph, Ranged, Section


def find_intervals(scored: ScoredRows, settings: IntervalSettings) -> dict[str, Ranged]:
    """Every metric with its interval, those of classes as `class/NUM/recall`, those of the probabilities as
    `calibration/ece`; NaN where it is undefined. There are none where the task's evaluator does not say how its metrics
    follow from the rows.
    """
    report = scored.report
    if report.weighted is None:
        return {}
    weighted, values = {"": report.weighted}, with_parts(report.metrics, report.parts)
    judged = judge_calibration(scored.model.task, scored.scores, scored.labels, scored.temperature)
    if judged is not None:
        weighted["calibration/"] = weighted_calibration(judged.probabilities, scored.labels)
        values |= {"calibration/ece": judged.error, "calibration/brier": judged.brier}
    drawn = settings.draws, settings.confidence, settings.bootstrap_seed
    found = bootstrap_intervals(Together(weighted), scored.num_rows, *drawn)
    return {key: Ranged(values[key], *interval) for key, interval in found.items() if key in values}


def interval_finding(num_rows: int, settings: IntervalSettings, found: Mapping[str, Ranged]) -> Finding:
    """The intervals as a table and as metrics: `interval/accuracy_low`, `interval/class/NUM/recall_high`.

    Args:
      num_rows: that were judged.
      settings: of the bootstrap.
      found: as `find_intervals` gives them.
    """
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
