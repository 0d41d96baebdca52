"""Calibration of a model on evaluated rows: reliability of its probabilities, temperature scaling, and the effect of
each threshold of a fallback."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bertjax.evaluation.judged_rows import Finding, JudgedRows, ScoredRows
from bertjax.metrics.fallback import Threshold, fit_threshold, sweep_thresholds
from bertjax.metrics.reliability import (
    BINS,
    Reliability,
    binned,
    brier_score,
    calibrated,
    calibration_error,
    log_loss,
    reliability,
)
from bertjax.metrics.reports import Report
from bertjax.report_pages.blocks import Block, Cell, DataTable, Figure, Paragraph, Ranged, Section, Share
from bertjax.report_pages.charts import Lines, Point
from bertjax.tasks import find_task
from bertjax.tasks.postprocess import fallback_of

_THRESHOLDS = np.array([*(i / 20 for i in range(20)), 0.99])


class Calibration(NamedTuple):
    """How good the probabilities are that a temperature makes of scores.

    Attributes:
      temperature: by which the scores are divided.
      probabilities: [N, L].
      error: ECE.
      brier: the Brier score.
      log_loss: in nats.
    """

    temperature: float
    probabilities: np.ndarray
    error: float
    brier: float
    log_loss: float


def judge_calibration(task: str, scores: np.ndarray, labels: np.ndarray, temperature: float) -> Calibration | None:
    """The calibration of a model under a temperature.

    Args:
      task: of the model.
      scores: [N, L] of its network.
      labels: of the rows, as the task has them.
      temperature: to judge.

    Returns:
      None where the task gives no probabilities, or the scores are not finite.
    """
    to_probabilities = find_task(task).probabilities
    if to_probabilities is None or not np.isfinite(scores).all():
        return None
    probabilities = to_probabilities(calibrated(scores, temperature))
    return Calibration(
        temperature,
        probabilities,
        calibration_error(probabilities, labels),
        brier_score(probabilities, labels),
        log_loss(scores, labels, temperature),
    )


def _metrics(found: Calibration, plain: Calibration | None) -> dict[str, float]:
    metrics = {"temperature": found.temperature, "ece": found.error, "brier": found.brier}
    if plain is not None:
        metrics |= {"ece_uncalibrated": plain.error, "log_loss_uncalibrated": plain.log_loss}
    return {f"calibration/{key}": value for key, value in metrics.items()}


def temperature_advice(judged: JudgedRows, fitted: float | None) -> str:
    """What a temperature that was fitted on the judged rows does to them, in words."""
    task, labels = judged.loaded.model.task, judged.examples.labels
    if fitted is None:
        return "no temperature can be fitted: these rows do not tell one, such as where the model is always right"
    own, other = (judge_calibration(task, judged.scores, labels, t) for t in (judged.loaded.temperature, fitted))
    assert own is not None, "what can be fitted is finite"
    assert other is not None, "what can be fitted is finite"
    return (
        f"temperature {fitted:g} in the place of {own.temperature:g} changes ECE from {own.error:.4f} to "
        f"{other.error:.4f} and log loss from {own.log_loss:.4f} to {other.log_loss:.4f}, judged by the same rows that "
        f"it was fitted on: expect less on others"
    )


def fitted_fallback(report: Report, probabilities: np.ndarray, labels: np.ndarray) -> Threshold | None:
    """The threshold of a fallback with the highest macro F1; None where the rows do not have one label of some names.

    Args:
      report: of the rows.
      probabilities: [N, L] of the model, under its temperature.
      labels: of the rows, as the task has them.
    """
    if report.confusion is None or labels.ndim != 1:
        return None
    names = list(report.confusion.names)
    return fit_threshold(probabilities, labels, names, fallback_of(names))


def find_calibration(
    scored: ScoredRows, fitted: float | None = None, intervals: Mapping[str, Ranged] | None = None
) -> Finding | None:
    """The section of a report about calibration.

    Args:
      scored: the rows.
      fitted: a temperature that was fitted on these rows, to be compared with the model's own.
      intervals: of `calibration/ece` and `calibration/brier`, where they were computed.

    Returns:
      None for a model that gives no probabilities of labels.
    """
    task, labels, scores = scored.model.task, scored.labels, scored.scores
    if find_task(task).probabilities is None:
        return None
    own = judge_calibration(task, scores, labels, scored.temperature)
    if own is None:
        return Finding(_section([Paragraph("The scores of some rows are not finite: nothing can be said.", True)]))
    plain = None if own.temperature == 1 else judge_calibration(task, scores, labels, 1.0)
    other = None if fitted is None else judge_calibration(task, scores, labels, fitted)
    metrics = _metrics(own, plain)
    compared = {} if plain is None else {"without temperature": plain}
    compared |= {_name(own): own}
    if other is not None:
        compared |= {f"fitted on these rows: {_name(other)}": other}
        metrics |= {"calibration/fitted_temperature": other.temperature, "calibration/fitted_ece": other.error}
    blocks: list[Block] = [Paragraph(_explained(labels)), _comparison(compared, _name(own), intervals or {})]
    if other is not None:
        note = "The fitted temperature is judged by the rows it was fitted on: on other rows it will do less good."
        blocks.append(Paragraph(note, is_note=True))
    blocks += _diagram(compared, own, labels)
    if labels.ndim == 2:
        by_label = _by_label(own.probabilities, labels, scored.model.labels)
        blocks.append(_label_table(by_label))
        metrics |= {f"class/{name}/{key}": value for name, scores in by_label.items() for key, value in scores.items()}
    if scored.report.confusion is not None and labels.ndim == 1:
        blocks.append(_sweep(own.probabilities, labels, list(scored.report.confusion.names)))
    return Finding(_section(blocks), metrics)


def _section(blocks: Sequence[Block]) -> Section:
    return Section("calibration", "Calibration", blocks)


def _name(calibration: Calibration) -> str:
    return f"temperature {calibration.temperature:g}"


def _explained(labels: np.ndarray) -> str:
    what = (
        "how probable the predicted label is said to be, against how often it is right"
        if labels.ndim == 1
        else "how probable each label is said to be, against how often a row has it"
    )
    return (
        f"Whether probabilities can be trusted: {what}. The expected calibration error (ECE) is the mean distance of "
        f"the two over {BINS} bins of equal width, weighted by rows (Guo et al. 2017); the Brier score is the squared "
        f"distance of probabilities from what is true. Of each, less is better."
    )


def _comparison(compared: Mapping[str, Calibration], own: str, intervals: Mapping[str, Ranged]) -> DataTable:
    rows = {
        "ECE": ("error", "calibration/ece"),
        "Brier score": ("brier", "calibration/brier"),
        "log loss": ("log_loss", "log_loss"),
    }

    def cell(name: str, field: str, key: str) -> Cell:
        value = getattr(compared[name], field)
        return intervals.get(key, value) if name == own else value

    return DataTable(
        ("", *compared), [(title, *(cell(name, *keys) for name in compared)) for title, keys in rows.items()]
    )


def _diagram(compared: Mapping[str, Calibration], own: Calibration, labels: np.ndarray) -> list[Block]:
    """The reliability diagram, and its bins under the model's own temperature."""
    said, true = ("confidence", "accuracy") if labels.ndim == 1 else ("probability", "share that has the label")
    chart = Lines(
        "Reliability diagram",
        {name: _points(reliability(each.probabilities, labels)) for name, each in compared.items()},
        f"mean {said}",
        true,
        "share",
        "share",
        diagonal=True,
    )
    bins = reliability(own.probabilities, labels)
    counted = "rows" if labels.ndim == 1 else "labels of rows"
    rows = [
        (f"{low:.3f} to {high:.3f}", int(count), Share(confidence), Share(accuracy))
        for low, high, count, confidence, accuracy in zip(
            bins.bounds[:-1], bins.bounds[1:], bins.rows, bins.confidence, bins.accuracy, strict=True
        )
        if count
    ]
    caption = "A calibrated model lies on the diagonal; below it, it is surer than it may be."
    return [Figure(chart, caption), DataTable((said, counted, f"mean {said}", true), rows, f"Bins, {_name(own)}")]


def _points(bins: Reliability) -> list[Point]:
    filled = bins.rows > 0
    return list(zip(bins.confidence[filled].tolist(), bins.accuracy[filled].tolist(), strict=True))


def _by_label(probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, float]]:
    columns = zip(names, probabilities.T, labels.T, strict=True)
    return {
        name: {"ece": binned(said, true).error, "brier": brier_score(said[:, None], true[:, None])}
        for name, said, true in columns
    }


def _label_table(by_label: Mapping[str, Mapping[str, float]]) -> DataTable:
    rows: list[Sequence[Any]] = [(name, scores["ece"], scores["brier"]) for name, scores in by_label.items()]
    means = [float(np.mean([row[i] for row in rows])) for i in (1, 2)]
    return DataTable(("label", "ECE", "Brier score"), rows, "By label", averages=[("mean", *means)])


def _sweep(probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Figure:
    """What becomes of the labels under each threshold."""
    fallback = fallback_of(names)
    sweep = sweep_thresholds(probabilities, labels, names, fallback)
    kept = sweep.kept(_THRESHOLDS)
    of_thresholds = {
        "labels kept": kept / len(labels),
        "accuracy of the kept": np.divide(sweep.right[kept], kept, out=np.full(len(kept), np.nan), where=kept > 0),
        f"macro F1, the others being {fallback!r}": sweep.f1_macro[kept],
    }
    series = {
        name: [(x, y) for x, y in zip(_THRESHOLDS.tolist(), values.tolist(), strict=True) if not np.isnan(y)]
        for name, values in of_thresholds.items()
    }
    chart = Lines("Thresholds", series, "threshold", "share", "number", "share")
    return Figure(chart, f"A label less probable than the threshold gives way to {fallback!r}.")
