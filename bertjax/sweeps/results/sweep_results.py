"""The results of a sweep, read from its folder alone: while it runs, after it was killed, or when it is done."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bertjax.settings import flatten
from bertjax.sweeps.ledger import Ledger, Trial
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import read_evaluations
from bertjax.training.loop.early_stopping import BestMetric
from bertjax.training.multi.multi_seed import read_scores
from bertjax.training.run.run_folder import read_metrics
from bertjax.training.settings.finetune_config import FineTuneConfig

_TREES = 200
_MIN_TRIALS_FOR_IMPORTANCE = 4


class TrialResult(NamedTuple):
    """A trial and its scores.

    Attributes:
      trial: the ledger's record.
      curve: (step, value of the best-checkpoint metric) at each evaluation.
      best: the best of these values; None before the first finite one.
      cost: the cost of `best`, to be minimised; infinite where there is none.
      metrics: the content of `metrics.json`; empty unless the trial ran to its end.
    """

    trial: Trial
    curve: tuple[tuple[int, float], ...]
    best: float | None
    cost: float
    metrics: Mapping[str, float]


class Results(NamedTuple):
    """A sweep and its trials.

    Attributes:
      metric: the name of the metric that trials are compared by.
      trials: by number.
      seeds: seed -> scores of the best config, for the seeds whose run has ended.
    """

    folder: Path
    sweep: Sweep
    metric: str
    trials: tuple[TrialResult, ...]
    seeds: Mapping[int, Mapping[str, float]] = MappingProxyType({})

    @property
    def ranked(self) -> list[TrialResult]:
        """The trials that have a score, the best first."""
        scored = [result for result in self.trials if result.best is not None]
        return sorted(scored, key=lambda result: result.cost)

    @property
    def best(self) -> TrialResult | None:
        """The best trial that ran to its end; None before the first."""
        return next((result for result in self.ranked if result.trial.status == "finished"), None)

    def run_folder(self, result: TrialResult) -> Path:
        """The run folder of a trial."""
        return Ledger(self.folder).run_folder(result.trial.number)


def read_results(folder: Path) -> Results:
    """Reads a sweep's folder; changes nothing.

    Raises:
      RunFolderError: it holds no sweep.
    """
    ledger = Ledger(folder)
    sweep, trials = ledger.sweep(), ledger.trials()
    best_metric = sweep.best_metric
    evaluations = [read_evaluations(ledger.run_folder(trial.number), best_metric) for trial in trials]
    metric = next((best_metric.metric_of(metrics) for rows in evaluations for _, metrics in rows), best_metric.metric)
    trial_results = tuple(_result(ledger, *pair, best_metric) for pair in zip(trials, evaluations, strict=True))
    results = Results(folder, sweep, metric or "score", trial_results)
    if results.best is None:
        return results
    return results._replace(seeds=read_scores(ledger.seeds_folder(results.best.trial.number), sweep.seeds))


def _result(
    ledger: Ledger, trial: Trial, evaluations: list[tuple[int, dict[str, float]]], best_metric: BestMetric
) -> TrialResult:
    curve = tuple((step, metrics[best_metric.metric_of(metrics) or ""]) for step, metrics in evaluations)
    costs = [best_metric.cost(metrics) for _, metrics in evaluations]
    finite_costs = [cost if cost is not None and np.isfinite(cost) else np.inf for cost in costs]
    metrics = read_metrics(ledger.run_folder(trial.number)) or {}
    cost = min(finite_costs, default=np.inf)
    best = curve[finite_costs.index(cost)][1] if np.isfinite(cost) else None
    return TrialResult(trial, curve, best, cost, metrics)


def importance(results: Results) -> dict[str, float]:
    """How much each setting changes the score: permutation importance in a random forest (Breiman 2001).

    Returns:
      Setting -> share, the largest first, with sum 1; empty for too few trials, or where no setting has an effect.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    scored = results.ranked
    paths = list(results.sweep.space)
    if len(scored) < _MIN_TRIALS_FOR_IMPORTANCE:
        return {}
    columns = np.column_stack([encoded([result.trial.values.get(path) for result in scored]) for path in paths])
    scores = np.array([result.best for result in scored])
    forest = RandomForestRegressor(_TREES, random_state=0).fit(columns, scores)
    drops = permutation_importance(forest, columns, scores, n_repeats=10, random_state=0).importances_mean.clip(min=0)
    if drops.sum() == 0:
        return {}
    shares = drops / drops.sum()
    return {paths[i]: float(shares[i]) for i in np.argsort(-shares)}


def encoded(values: Sequence[Any]) -> np.ndarray:
    """The values of one setting in several trials as numbers.

    Positive numbers that span a factor of ten become logarithms, other numbers stay, and everything else becomes its
    rank among the values that occur. None, for a setting that was not active, lies below all others.
    """
    present = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present) and present:
        logarithmic = min(present) > 0 and max(present) / min(present) >= 10
        scale = [np.log10(value) if logarithmic else float(value) for value in present]
        missing = min(scale) - (max(scale) - min(scale) or 1.0)
        numbers = iter(scale)
        return np.array([missing if value is None else next(numbers) for value in values])
    order = {text: i for i, text in enumerate(sorted(set(map(str, present))))}
    return np.array([-1 if value is None else order[str(value)] for value in values], float)


def shown(value: Any) -> str:
    """The value of a setting as text."""
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def settings_line(values: Mapping[str, Any]) -> str:
    """The settings of a trial in one line."""
    return ", ".join(f"{path} {shown(value)}" for path, value in values.items())


def experiment_file(results: Results, result: TrialResult) -> str:
    """The source of a Python file that runs the config of a trial."""
    config, default = flatten(results.sweep.trial_config(result.trial.values)), flatten(FineTuneConfig())
    changed = {path: value for path, value in config.items() if value != default[path]}
    lines = "".join(f"        {path!r}: {value!r},\n" for path, value in changed.items())
    score = "no score" if result.best is None else f"{results.metric} {result.best:.4f}"
    return (
        f'"""The best of {len(results.trials)} trials of a sweep: trial {result.trial.number}, {score}.\n\n'
        f"Command    python THIS_FILE\n"
        f'"""\n\n'
        f"import bertjax\n\n"
        f"CONFIG = bertjax.override(\n    bertjax.FineTuneConfig(),\n    {{\n{lines}    }},\n)\n\n"
        f'if __name__ == "__main__":\n    print(bertjax.finetune(CONFIG).metrics)\n'
    )
