"""What a sweep has found, read from its folder alone: while it runs, after it was killed, or when it is done."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bertjax.sweeps.ledger import Ledger, Trial
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import told_so_far
from bertjax.training.loop.early_stopping import Goal
from bertjax.training.multi.multi_seed import read_scores
from bertjax.training.run.run_folder import METRICS

_TREES = 200
_LEAST_TRIALS = 4  # for which an importance means something


class TrialResult(NamedTuple):
    """A trial and how it did.

    Attributes:
      curve: (step, value of the goal's metric) at each evaluation.
      best: of these values, those left out that are of weights the trial has given up; None before the first that is
        finite.
      cost: the same as what is to become small.
      metrics: the content of its `metrics.json`; empty unless it ran to its end.
    """

    trial: Trial
    curve: tuple[tuple[int, float], ...]
    best: float | None
    cost: float
    metrics: Mapping[str, float]


class Results(NamedTuple):
    """A sweep and its trials, by number.

    Attributes:
      seeds: seed -> scores of the best config with it, for those of the sweep's seeds that have ended.
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

    @property
    def reports(self) -> int:
        """Evaluations of all trials together."""
        return sum(len(result.curve) for result in self.trials)

    def run_folder(self, result: TrialResult) -> Path:
        """Where the run of a trial stands."""
        return Ledger(self.folder).run_folder(result.trial.number)


def read_results(folder: Path) -> Results:
    """Reads a sweep's folder; changes nothing.

    Raises:
      RunFolderError: it holds no sweep.
    """
    ledger = Ledger(folder)
    sweep = ledger.sweep()
    rows = {trial.number: told_so_far(ledger.run_folder(trial.number), sweep.goal) for trial in ledger.trials()}
    metric = next((sweep.goal.metric_of(row) for told in rows.values() for _, row in told), sweep.goal.metric)
    trials = tuple(_result(ledger, trial, sweep.goal, rows[trial.number]) for trial in ledger.trials())
    results = Results(folder, sweep, metric or "score", trials)
    if results.best is None:
        return results
    return results._replace(seeds=read_scores(ledger.seeds_folder(results.best.trial.number), sweep.seeds))


def _result(ledger: Ledger, trial: Trial, goal: Goal, told: list[tuple[int, dict[str, float]]]) -> TrialResult:
    curve = tuple((step, row[goal.metric_of(row) or ""]) for step, row in told)
    costs = [
        cost if step > trial.since and (cost := goal.cost(row)) is not None and np.isfinite(cost) else np.inf
        for step, row in told
    ]
    least = int(np.argmin(costs)) if costs and np.isfinite(min(costs)) else None
    path = ledger.run_folder(trial.number) / METRICS
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if least is None:
        return TrialResult(trial, curve, None, np.inf, metrics)
    return TrialResult(trial, curve, curve[least][1], costs[least], metrics)


def importance(results: Results) -> dict[str, float]:
    """How much each setting moved the score: permutation importance of a forest that predicts it (Breiman 2001).

    Returns:
      Setting -> share, the largest first, together 1; empty where there are too few trials, or nothing moved.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    scored = results.ranked
    paths = list(results.sweep.space)
    if len(scored) < _LEAST_TRIALS:
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
    """One setting of several trials on a scale of numbers.

    Numbers that span orders of magnitude by their logarithm, other numbers as they are, everything else by its place
    among what occurs; a setting that was not active is below all others.
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
    """A setting as people write it."""
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def settings_line(values: Mapping[str, Any]) -> str:
    """The settings of a trial for people."""
    return ", ".join(f"{path} {shown(value)}" for path, value in values.items())


def experiment_file(results: Results, result: TrialResult) -> str:
    """The config of a trial as a Python file that runs it."""
    from bertjax.settings import flatten
    from bertjax.training.settings.finetune_config import FineTuneConfig

    config, default = flatten(results.sweep.trial_config(result.trial.values)), flatten(FineTuneConfig())
    changed = {path: value for path, value in config.items() if value != default[path]}
    lines = "".join(f"        {path!r}: {value!r},\n" for path, value in changed.items())
    changed_once = "Its settings changed on the way; these are the last.\n\n" if result.trial.exploits else ""
    score = "no score" if result.best is None else f"{results.metric} {result.best:.4f}"
    return (
        f'"""The best of {len(results.trials)} trials of a sweep: trial {result.trial.number}, {score}.\n\n'
        f"{changed_once}Command    python THIS_FILE\n"
        f'"""\n\n'
        f"import bertjax\n\n"
        f"CONFIG = bertjax.override(\n    bertjax.FineTuneConfig(),\n    {{\n{lines}    }},\n)\n\n"
        f'if __name__ == "__main__":\n    print(bertjax.finetune(CONFIG).metrics)\n'
    )
