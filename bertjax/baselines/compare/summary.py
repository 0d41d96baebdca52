"""What the runs of a comparison say together: numbers only, for the table, the report and the tracker."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bertjax.baselines.compare.agreement import agreement
from bertjax.baselines.compare.paired_statistics import Paired, paired_difference, verdict
from bertjax.baselines.runners.frameworks import FRAMEWORKS
from bertjax.baselines.runners.runner_result import Result
from bertjax.evaluation.aggregate import Aggregate, aggregates, flat
from bertjax.tasks import Metric

STEPS = (20, 100)  # updates over which the distance of two loss curves is told


class Failure(NamedTuple):
    """A run that left no result, and why."""

    framework: str
    seed: int
    error: str


class Side(NamedTuple):
    """One framework over its seeds. Speeds, times and bytes are medians, None where nothing was trained.

    Attributes:
      scores: of each metric.
      seconds_to_first_step: from the prepared input to the end of the first update.
      peak_bytes: most memory held while training and answering, over what was held before.
      own_agreement: that of two seeds with each other, mean over their pairs; None with one seed.
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
        """For people."""
        return FRAMEWORKS[self.framework].title


class Pair(NamedTuple):
    """Two frameworks over the seeds that both have.

    Attributes:
      differences: metric -> first minus second.
      verdicts: metric -> in words, which is better, or only higher where it is not the comparison's own metric.
      agreement: see `agreement`, mean over seeds.
      speed_ratio: training speed of the first over that of the second, median over seeds; None where one trains
        nothing.
      trajectory: [seeds, updates] absolute difference of the losses, None where updates saw different examples or
        dropout made them different.
    """

    first: str
    second: str
    differences: Mapping[str, Paired]
    verdicts: Mapping[str, str]
    agreement: float
    speed_ratio: float | None
    trajectory: np.ndarray | None

    def distance(self, steps: int) -> float | None:
        """The largest distance over the first updates, or None where there are not so many."""
        if self.trajectory is None or self.trajectory.shape[1] < steps:
            return None
        return float(self.trajectory[:, :steps].max())


class Summary(NamedTuple):
    """A whole comparison.

    Attributes:
      metric: the one that the verdict is about.
      sides: one a framework that has a result.
      pairs: the first framework with each other one.
      failures: runs without a result.
    """

    metric: str
    sides: list[Side]
    pairs: list[Pair]
    failures: list[Failure]

    def flat(self) -> dict[str, float]:
        """Numbers under flat keys, such as `jax/accuracy_mean` and `jax-torch/accuracy_difference`."""
        values: dict[str, float] = {}
        for side in self.sides:
            values |= flat({f"{side.framework}/{name}": found for name, found in side.scores.items()})
            measured = ("examples_per_second", "real_tokens_per_second", "padding_share", "seconds_to_first_step",
                        "answers_per_second", "peak_bytes", "own_agreement")  # fmt: skip
            for name in measured:
                value = getattr(side, name)
                if value is not None:
                    values[f"{side.framework}/{name}"] = value
        for pair in self.pairs:
            key = f"{pair.first}-{pair.second}"
            for name, paired in pair.differences.items():
                values[f"{key}/{name}_difference"] = paired.mean
                if paired.interval is not None:
                    values[f"{key}/{name}_low"], values[f"{key}/{name}_high"] = paired.interval
            values[f"{key}/agreement"] = pair.agreement
            if pair.speed_ratio is not None:
                values[f"{key}/speed_ratio"] = pair.speed_ratio
            for steps in STEPS:
                distance = pair.distance(steps)
                if distance is not None:
                    values[f"{key}/loss_distance_{steps}"] = distance
        return values


def summarise(
    results: Sequence[Result],
    failures: Sequence[Failure],
    frameworks: Sequence[str],
    metric: Metric,
    dropout: bool,
) -> Summary:
    """Puts the runs of a comparison side by side.

    Args:
      results: of finished runs.
      failures: of the others.
      frameworks: in the order of the table; the first one is compared with each other one.
      metric: the one that the verdict is about.
      dropout: whether it was on, so that losses differ by chance.
    """
    by_framework = {
        name: {result.seed: result for result in results if result.framework == name} for name in frameworks
    }
    by_framework = {name: runs for name, runs in by_framework.items() if runs}
    sides = [_side(name, list(runs.values())) for name, runs in by_framework.items()]
    first, *others = by_framework or [""]
    pairs = []
    for other in others:
        seeds = [seed for seed in by_framework[first] if seed in by_framework[other]]
        if seeds:
            left, right = ([by_framework[name][seed] for seed in seeds] for name in (first, other))
            pairs.append(_pair(left, right, metric, dropout))
    return Summary(metric.name, sides, pairs, list(failures))


def scores_of(result: Result) -> dict[str, float]:
    """The metrics of a result that stand for the whole test table, without `test/`."""
    return {name.removeprefix("test/"): value for name, value in result.metrics.items() if "/class/" not in name}


def _side(framework: str, runs: Sequence[Result]) -> Side:
    trains = FRAMEWORKS[framework].trains

    def median(value: Callable[[Result], float]) -> float:
        return statistics.median(value(run) for run in runs)

    scores = [scores_of(run) for run in runs]
    own = [agreement(a, b) for i, a in enumerate(runs) for b in runs[i + 1 :]]
    return Side(
        framework=framework,
        seeds=tuple(run.seed for run in runs),
        scores=aggregates(scores),
        examples_per_second=median(lambda run: run.examples_per_second) if trains else None,
        real_tokens_per_second=median(lambda run: run.real_tokens_per_second) if trains else None,
        padding_share=median(lambda run: run.padding_share) if trains else None,
        seconds_to_first_step=median(lambda run: run.measured["seconds_to_first_step"]) if trains else None,
        answers_per_second=median(lambda run: run.measured["evaluation_examples"] / run.measured["evaluation_seconds"]),
        peak_bytes=median(lambda run: run.peak_bytes),
        own_agreement=statistics.mean(own) if own else None,
    )


def _pair(left: Sequence[Result], right: Sequence[Result], metric: Metric, dropout: bool) -> Pair:
    first, second = (FRAMEWORKS[runs[0].framework] for runs in (left, right))
    scores = [[scores_of(run) for run in runs] for runs in (left, right)]
    differences = {
        name: paired_difference(*([score[name] for score in side] for side in scores)) for name in scores[0][0]
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
        agreement=statistics.mean(agreement(a, b) for a, b in zip(left, right, strict=True)),
        speed_ratio=statistics.median(
            a.examples_per_second / b.examples_per_second for a, b in zip(left, right, strict=True)
        )
        if both_train
        else None,
        trajectory=np.array([np.abs(a.losses - b.losses) for a, b in zip(left, right, strict=True)])
        if same_losses
        else None,
    )
