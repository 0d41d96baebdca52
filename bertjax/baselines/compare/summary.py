"""The runs of a comparison side by side: numbers only, for the table, the report and the tracker."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from bertjax.baselines.compare.agreement import agreement
from bertjax.baselines.compare.paired_statistics import Paired, paired_difference, verdict
from bertjax.baselines.runners.frameworks import FRAMEWORKS
from bertjax.baselines.runners.runner_result import RunResult
from bertjax.metrics.aggregate import Aggregate, aggregates, flat
from bertjax.metrics.reports import is_of_whole
from bertjax.tasks import Metric

STEPS = (20, 100)  # numbers of updates for which the distance of two loss curves is reported


class Failure(NamedTuple):
    """A run without a result, and why."""

    framework: str
    seed: int
    error: str


class Side(NamedTuple):
    """One framework over its seeds. Speeds, times and bytes are medians, None where nothing was trained.

    Attributes:
      framework: a row of `FRAMEWORKS`.
      seeds: of the runs with a result.
      scores: metric -> mean and standard deviation.
      seconds_to_first_step: from the prepared input to the end of the first update.
      peak_bytes: most memory held in training and evaluation, above the memory held before.
      own_agreement: agreement of two seeds, mean over their pairs; None with one seed.
    """

    framework: str
    seeds: tuple[int, ...]
    scores: Mapping[str, Aggregate]
    examples_per_second: float | None
    real_tokens_per_second: float | None
    padding_share: float | None
    seconds_to_first_step: float | None
    answers_per_second: float
    peak_bytes: float
    own_agreement: float | None

    @property
    def title(self) -> str:
        """For tables and figures."""
        return FRAMEWORKS[self.framework].title

    def flat(self) -> dict[str, float]:
        """Numbers under flat keys, such as `jax/accuracy_mean`."""
        measured = {name: getattr(self, name) for name in self._fields[3:]}
        present = {name: value for name, value in measured.items() if value is not None}
        return {f"{self.framework}/{name}": value for name, value in (flat(self.scores) | present).items()}


class Pair(NamedTuple):
    """Two frameworks over the seeds that both have.

    Attributes:
      first, second: rows of `FRAMEWORKS`.
      differences: metric -> first minus second.
      verdicts: metric -> which framework is better, in words; only which is higher for all but the task's metric.
      agreement: see `agreement`, mean over seeds.
      speed_ratio: training speed of the first over that of the second, median over seeds; None where one trains
        nothing.
      trajectory: [seeds, updates] absolute difference of the losses; None where updates have different examples, or
        dropout.
    """

    first: str
    second: str
    differences: Mapping[str, Paired]
    verdicts: Mapping[str, str]
    agreement: float
    speed_ratio: float | None
    trajectory: np.ndarray | None

    def distance(self, steps: int) -> float | None:
        """The largest distance of the losses in the first updates; None where there are fewer."""
        if self.trajectory is None or self.trajectory.shape[1] < steps:
            return None
        return float(self.trajectory[:, :steps].max())

    def flat(self) -> dict[str, float]:
        """Numbers under flat keys, such as `jax-torch/accuracy_difference`."""
        values: dict[str, float | None] = {}
        for name, paired in self.differences.items():
            values[f"{name}_difference"] = paired.mean
            if paired.interval is not None:
                values[f"{name}_low"], values[f"{name}_high"] = paired.interval
        values |= {"agreement": self.agreement, "speed_ratio": self.speed_ratio}
        values |= {f"loss_distance_{steps}": self.distance(steps) for steps in STEPS}
        return {f"{self.first}-{self.second}/{name}": value for name, value in values.items() if value is not None}


class Summary(NamedTuple):
    """A whole comparison.

    Attributes:
      metric: the task's, which decides the verdict.
      sides: the frameworks with a result.
      pairs: the first framework with each other one.
      failures: runs without a result.
    """

    metric: str
    sides: list[Side]
    pairs: list[Pair]
    failures: list[Failure]

    def flat(self) -> dict[str, float]:
        """Numbers under flat keys, as in `Side.flat` and `Pair.flat`."""
        parts = [*(side.flat() for side in self.sides), *(pair.flat() for pair in self.pairs)]
        return {name: value for part in parts for name, value in part.items()}


def summarise(
    results: Sequence[RunResult],
    failures: Sequence[Failure],
    frameworks: Sequence[str],
    metric: Metric,
    dropout: bool,
) -> Summary:
    """Puts the runs of a comparison side by side.

    Args:
      results: of finished runs.
      failures: the other runs.
      frameworks: in the order of the table; the first one is compared with each other one.
      metric: the task's, which decides the verdict.
      dropout: whether it was on, so that losses differ by chance.
    """
    runs: dict[str, dict[int, RunResult]] = {}
    for name in frameworks:
        if by_seed := {result.seed: result for result in results if result.framework == name}:
            runs[name] = by_seed
    if results:
        metric = metric.reported_in(scores_of(results[0]))
    sides = [_side(name, list(by_seed.values())) for name, by_seed in runs.items()]
    pairs = []
    first, *others = runs.values() or [{}]
    for second in others:
        if seeds := [seed for seed in first if seed in second]:
            pairs.append(_pair([first[seed] for seed in seeds], [second[seed] for seed in seeds], metric, dropout))
    return Summary(metric.name, sides, pairs, list(failures))


def scores_of(result: RunResult) -> dict[str, float]:
    """The metrics of the whole test table, without `test/`; those of single classes left out."""
    return {name.removeprefix("test/"): value for name, value in result.metrics.items() if is_of_whole(name)}


def _side(framework: str, runs: Sequence[RunResult]) -> Side:
    trains = FRAMEWORKS[framework].trains

    def median(value: Callable[[RunResult], float]) -> float:
        return statistics.median(value(run) for run in runs)

    own = [agreement(first, second) for first, second in combinations(runs, 2)]
    return Side(
        framework=framework,
        seeds=tuple(run.seed for run in runs),
        scores=aggregates([scores_of(run) for run in runs]),
        examples_per_second=median(lambda run: run.examples_per_second) if trains else None,
        real_tokens_per_second=median(lambda run: run.real_tokens_per_second) if trains else None,
        padding_share=median(lambda run: run.padding_share) if trains else None,
        seconds_to_first_step=median(lambda run: run.measured["seconds_to_first_step"]) if trains else None,
        answers_per_second=median(lambda run: run.measured["evaluation_examples"] / run.measured["evaluation_seconds"]),
        peak_bytes=median(lambda run: run.peak_bytes),
        own_agreement=statistics.mean(own) if own else None,
    )


def _pair(left: Sequence[RunResult], right: Sequence[RunResult], metric: Metric, dropout: bool) -> Pair:
    """Two frameworks, each with the runs of the same seeds in the same order."""
    first, second = FRAMEWORKS[left[0].framework], FRAMEWORKS[right[0].framework]
    runs = list(zip(left, right, strict=True))
    ours, theirs = [scores_of(run) for run in left], [scores_of(run) for run in right]
    differences = {
        name: paired_difference([scores[name] for scores in ours], [scores[name] for scores in theirs])
        for name in ours[0]
    }
    both_train = first.trains and second.trains
    same_losses = both_train and first.same_batches and second.same_batches and not dropout
    return Pair(
        first=left[0].framework,
        second=right[0].framework,
        differences=differences,
        verdicts={
            name: verdict(paired, first.title, second.title, metric.greater_is_better if name == metric.name else None)
            for name, paired in differences.items()
        },
        agreement=statistics.mean(agreement(a, b) for a, b in runs),
        speed_ratio=statistics.median(a.examples_per_second / b.examples_per_second for a, b in runs)
        if both_train
        else None,
        trajectory=np.array([np.abs(a.losses - b.losses) for a, b in runs]) if same_losses else None,
    )
