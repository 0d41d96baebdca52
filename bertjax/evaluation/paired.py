"""Compares two models on the same rows: paired differences of the metrics with intervals, and disagreements.

Overlapping intervals of two models say little. A paired bootstrap evaluates both on the same resample each time, so
that the difficulty of the resample cancels in the difference.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from bertjax.config import read_config_json
from bertjax.errors import ConfigError
from bertjax.evaluation.intervals import IntervalSettings
from bertjax.evaluation.judged_rows import Finding, JudgedRows
from bertjax.metrics.bootstrap import UNDEFINED, Interval, bootstrap_weights, intervals_of, verdict_of
from bertjax.metrics.reports import WeightedMetrics, better_when
from bertjax.model_folder.stored_settings import stored_labels, stored_task
from bertjax.pretrained.files import resolve_model
from bertjax.report_pages.blocks import Block, DataTable, Paragraph, Ranged, Section
from bertjax.tasks import find_task
from bertjax.tasks.postprocess import Prediction

DISAGREEMENTS = "disagreements.jsonl"
_SHOWN = 20  # disagreements in the section; the file has all
_FIRST, _SECOND = "A", "B"


class Difference(NamedTuple):
    """A metric of two models on the rows that both can read.

    Attributes:
      first, second: its values.
      change: first minus second, with its paired interval.
      verdict: in words.
    """

    first: float
    second: float
    change: Ranged
    verdict: str


class Pairing(NamedTuple):
    """Two models on the same rows.

    Attributes:
      differences: metric -> the difference.
      rows: that both can read.
      only_first, only_second: rows that only one of them can read.
      only_one_right: rows that only A has right, and that only B has; None where a row has no single label.
      disagreements: rows of which they do not say the same, with both answers; the most different ones first.
    """

    differences: Mapping[str, Difference]
    rows: int
    only_first: int
    only_second: int
    only_one_right: tuple[int, int] | None
    disagreements: list[dict[str, Any]]

    @property
    def mcnemar_p(self) -> float | None:
        """McNemar's exact p: how likely chance alone makes one of two equally good models right so much more often than
        the other, where only one is."""
        if self.only_one_right is None:
            return None
        from scipy.stats import binomtest

        first, second = self.only_one_right
        return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def check_comparable(model: str, against: str) -> None:
    """Checks that two models do the same, before either computes anything.

    Raises:
      UserError: one cannot be read, or they differ in task or labels.
    """
    first, second = (read_config_json(resolve_model(name)) for name in (model, against))
    tasks = stored_task(first), stored_task(second)
    if tasks[0] != tasks[1]:
        raise ConfigError(f"--against {against} is a model of task {tasks[1]}, --model {model} one of {tasks[0]}")
    labels = [set(stored_labels(stored)) for stored in (first, second)]
    if find_task(tasks[0]).names and labels[0] != labels[1]:
        only = [", ".join(map(repr, sorted(a - b))) or "none" for a, b in (labels, labels[::-1])]
        raise ConfigError(
            f"--against {against} has other labels than --model {model}: {only[1]} beside the common ones, and lacks "
            f"{only[0]}"
        )


def pair(first: JudgedRows, second: JudgedRows, settings: IntervalSettings) -> Pairing:
    """Compares two models on the rows that both can read.

    Args:
      first, second: the models' scores of rows of one table.
      settings: of the bootstrap.

    Raises:
      ConfigError: no row that both can read, labels that are read differently, or a task without weighted metrics.
    """
    common, *places = np.intersect1d(first.rows.positions, second.rows.positions, return_indices=True)
    if not len(common):
        raise ConfigError(f"{first.source}: there is no row that both models can read")
    labels = ([judged.rows.labels[i] for i in at] for judged, at in zip((first, second), places, strict=True))
    other = next((i for i, (a, b) in enumerate(zip(*labels, strict=True)) if a != b), None)
    if other is not None:
        raise ConfigError(
            f"{first.source}: row {common[other] + 1} has another label for --against than for --model; name the "
            f"label column of both, such as --label-column"
        )
    said = [
        [predictions[i] for i in at] if (predictions := judged.predictions()) else []
        for judged, at in zip((first, second), places, strict=True)
    ]
    disagreements, only_one_right = _disagreements(first, *said), _only_one_right(first, *said)
    return Pairing(
        _differences(first, second, places, settings),
        len(common),
        len(first.rows.positions) - len(common),
        len(second.rows.positions) - len(common),
        only_one_right,
        disagreements,
    )


def _differences(
    first: JudgedRows, second: JudgedRows, places: list[np.ndarray], settings: IntervalSettings
) -> dict[str, Difference]:
    weighted = [_on(judged, at) for judged, at in zip((first, second), places, strict=True)]
    num_rows = len(places[0])

    def changes(weights: np.ndarray) -> dict[str, np.ndarray]:
        sides = [metrics(weights) for metrics in weighted]
        return {key: sides[0][key] - sides[1][key] for key in sides[0] if key in sides[1]}

    whole = [metrics(np.ones((1, num_rows))) for metrics in weighted]
    keys = [key for key in first.report.metrics if key in whole[0] and key in whole[1]]
    draws = bootstrap_weights(num_rows, settings.draws, settings.bootstrap_seed)
    found = intervals_of([changes(block) for block in draws], settings.confidence) if num_rows > 1 else {}
    return {
        key: _difference(key, float(whole[0][key][0]), float(whole[1][key][0]), found.get(key, UNDEFINED))
        for key in keys
    }


def _difference(key: str, first: float, second: float, interval: Interval) -> Difference:
    change = first - second
    if math.isnan(change):
        interval = UNDEFINED
    better = better_when(key)
    verdict = verdict_of(interval, _FIRST, _SECOND, None if better is None else better == "max")
    return Difference(first, second, Ranged(change, *interval), verdict)


def _on(judged: JudgedRows, places: np.ndarray) -> WeightedMetrics:
    """The weighted metrics of a part of the rows, in the order of `places`."""
    metrics = judged.report.weighted
    if metrics is None:
        raise ConfigError(f"models of task {judged.loaded.model.task!r} cannot be compared row by row")

    def weighted(weights: np.ndarray, parts: bool = False) -> Mapping[str, np.ndarray]:
        of_all = np.zeros((len(weights), len(judged.rows.positions)))
        of_all[:, places] = weights
        return metrics(of_all, parts)

    return weighted


def _disagreements(judged: JudgedRows, first: list[Prediction], second: list[Prediction]) -> list[dict[str, Any]]:
    postprocess = find_task(judged.loaded.model.task).postprocess
    found = []
    for one, other in zip(first, second, strict=True):
        assert postprocess is not None, "there are predictions"
        answers = postprocess.said(one), postprocess.said(other)
        if answers[0] != answers[1]:
            row = {key: one[key] for key in ("row", "text", "pair", "true") if key in one}
            found.append((_distance(*answers), row | {"a": answers[0], "b": answers[1]}))
    return [row for _, row in sorted(found, key=lambda pair: -pair[0])]


def _distance(first: Any, second: Any) -> float:
    """How different answers are: by how much where they are numbers; words differ or do not."""
    if isinstance(first, float):
        return abs(first - second)
    if isinstance(first, dict):
        return max(abs(value - second[key]) for key, value in first.items())
    return 1.0


def _only_one_right(judged: JudgedRows, first: list[Prediction], second: list[Prediction]) -> tuple[int, int] | None:
    """Rows that one model has right and the other wrong, where each row has a single label."""
    if not first or "label" not in first[0]:
        return None
    right = [
        (one["label"] == one["true"], other["label"] == other["true"]) for one, other in zip(first, second, strict=True)
    ]
    return right.count((True, False)), right.count((False, True))


def paired_finding(pairing: Pairing, settings: IntervalSettings, model: str, against: str) -> Finding:
    """The comparison as tables, metrics and a file.

    Args:
      pairing: as `pair` gives it.
      settings: of the bootstrap.
      model, against: the names of A and B.
    """
    metrics: dict[str, float] = {"against/rows": pairing.rows, "against/disagreements": len(pairing.disagreements)}
    for key, difference in pairing.differences.items():
        bounds = {"": difference.change.value, "_low": difference.change.low, "_high": difference.change.high}
        metrics |= {f"against/{key}_difference{end}": value for end, value in bounds.items() if not math.isnan(value)}
    if pairing.mcnemar_p is not None:
        metrics["against/mcnemar_p"] = pairing.mcnemar_p
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in pairing.disagreements)
    section = Section("against", "Against another model", list(_blocks(pairing, settings, model, against)))
    return Finding(section, metrics, {DISAGREEMENTS: "".join(lines)})


def _blocks(pairing: Pairing, settings: IntervalSettings, model: str, against: str) -> Iterator[Block]:
    left_out = [
        f"{count} only {name} can read"
        for name, count in ((_FIRST, pairing.only_first), (_SECOND, pairing.only_second))
        if count
    ]
    yield Paragraph(
        f"A is {model}, B is {against}; {pairing.rows} rows that both can read"
        + "".join(f", {text}" for text in left_out)
        + f". A - B with the interval of {settings.confidence:.3g} of {settings.draws} paired draws."
    )
    if pairing.rows == 1:
        yield Paragraph("A single row says nothing of how rows differ: there is no interval.", is_note=True)
    yield DataTable(
        ("metric", "A", "B", "A - B", "verdict"),
        [(key, row.first, row.second, row.change, row.verdict) for key, row in pairing.differences.items()],
        "Difference of each metric",
    )
    if pairing.only_one_right is not None:
        first, second = pairing.only_one_right
        p = pairing.mcnemar_p
        yield Paragraph(f"{first} rows only A has right, {second} only B; McNemar's exact test: p = {p:.4g}")
    yield DataTable(
        ("row", "text", "true", "A says", "B says"),
        [tuple(_cell(row[key]) for key in ("row", "text", "true", "a", "b")) for row in pairing.disagreements[:_SHOWN]],
        f"{min(_SHOWN, len(pairing.disagreements))} of {len(pairing.disagreements)} rows on which they disagree",
    )


def _cell(value: Any) -> str | int | float:
    if isinstance(value, str | int | float):
        return value
    is_words = isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
    return " ".join(value) if is_words else json.dumps(value, ensure_ascii=False)
