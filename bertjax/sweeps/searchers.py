"""Searchers: the choice of each trial's values, and its repetition when a sweep is resumed.

Optuna (Akiba et al. 2019) and HyperOpt (Bergstra et al. 2013) are Ray's; random draws and grids need no library. Ray
Tune asks `LedgerSearcher`, which repeats the trials of the ledger first, then asks one of these searchers and records
its answer before the trial starts.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search import Searcher

from bertjax.errors import ConfigError
from bertjax.sweeps import search_space as spaces
from bertjax.sweeps.ledger import Ledger
from bertjax.sweeps.search_space import Choice, LogUniform, RandInt, Space, Uniform, Values, range_of
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import WORST_COST

_CHANCES = 100  # draws instead of a repeated one, before all points are gone through in order


class LedgerSearcher(Searcher):
    """Suggests the trials of a sweep: those in the ledger that did not fail, then new ones up to the sweep's number."""

    def __init__(self, sweep: Sweep, ledger: Ledger, metric: str):
        """A searcher of the trial whose reports minimise `metric`."""
        super().__init__(metric=metric, mode="min")
        self._sweep, self._ledger = sweep, ledger
        self._grid = spaces.grid_points(sweep.grid)
        trials = ledger.trials()
        self._repeated = [trial for trial in trials if trial.status != "failed"]
        self._next_number = len(trials)
        points = [dict(trial.drawn) for trial in self._repeated]
        points += [dict(point) for point in sweep.initial_points[len(trials) :]]
        self._searcher = make_searcher(sweep, points, metric, len(trials))
        self._draws_once = not sweep.repeat_points and spaces.count_points(sweep.space) is not None
        self._tried = {spaces.key_of(trial.values) for trial in trials}
        self._not_of_searcher: set[str] = set()  # Ray trials with a point instead of a repeated one

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The number and values of the next trial, `FINISHED`, or None for not now."""
        if self._repeated:
            self._searcher.suggest(trial_id)  # its first points are these
            trial = self._repeated.pop(0)
            self._ledger.record(trial.number, ray_id=trial_id)
            return {"number": trial.number, "values": dict(trial.values)}
        if self._next_number >= self._sweep.total_trials:
            return Searcher.FINISHED
        drawn = self._searcher.suggest(trial_id)
        if drawn is None or drawn == Searcher.FINISHED:
            return drawn
        number = self._next_number
        self._next_number += 1
        # JSON and a config take the numbers of Python, not those of NumPy.
        drawn = {path: value.item() if isinstance(value, np.generic) else value for path, value in drawn.items()}
        values = self._active(drawn, self._grid[number % len(self._grid)])
        is_asked_for = number < len(self._sweep.initial_points)
        if self._draws_once and not is_asked_for and spaces.key_of(values) in self._tried:
            self._searcher.on_trial_complete(trial_id, error=True)
            self._not_of_searcher.add(trial_id)
            drawn, values = self._untried(number)
        self._tried.add(spaces.key_of(values))
        self._ledger.record(number, drawn=drawn, values=values, ray_id=trial_id)
        return {"number": number, "values": values}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id not in self._not_of_searcher:
            self._searcher.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id not in self._not_of_searcher:
            scored = result if result and result.get(self.metric, WORST_COST) < WORST_COST else None  # else it failed
            self._searcher.on_trial_complete(trial_id, result=scored, error=error or scored is None)

    def _active(self, drawn: Values, point: Values) -> Values:
        """The values of a trial: those of its draw and its grid point whose conditions hold."""
        return spaces.active({**self._sweep.drawn, **self._sweep.grid}, drawn | point)

    def _untried(self, number: int) -> tuple[Values, Values]:
        """A draw, and the values that it gives, which no trial has had: by chance, else the first there is."""
        rng = np.random.default_rng([self._sweep.seed, number, 1])
        by_chance = (_draw(self._sweep.drawn, rng) for _ in range(_CHANCES))
        own_point = self._grid[number % len(self._grid)]
        candidates = itertools.chain(
            ((drawn, own_point) for drawn in itertools.chain(by_chance, self._every_draw())),
            itertools.product(self._every_draw(), self._grid),
        )
        for drawn, point in candidates:
            values = self._active(drawn, point)
            if spaces.key_of(values) not in self._tried:
                return drawn, values
        raise AssertionError("a sweep has no more trials than its space has points")

    def _every_draw(self) -> Iterator[Values]:
        options = (spaces.options_of(dimension) or () for dimension in self._sweep.drawn.values())
        return (dict(zip(self._sweep.drawn, values, strict=True)) for values in itertools.product(*options))

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the ledger has the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: the ledger has the state."""


class RandomSearcher(Searcher):
    """Draws each trial with a generator of its own, so the n-th trial is independent of the earlier ones."""

    def __init__(self, space: Space, points: list[Values], metric: str, seed: int, first: int):
        super().__init__(metric=metric, mode="min")
        self._space, self._points, self._seed, self._count = space, points, seed, first

    def suggest(self, trial_id: str) -> Values:
        rng = np.random.default_rng([self._seed, self._count])
        self._count += 1
        if self._points:
            return self._points.pop(0)
        return _draw(self._space, rng)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing: the draws are independent."""


def _draw(space: Space, rng: np.random.Generator) -> Values:
    return {path: range_of(dimension).at(rng.random()) for path, dimension in space.items()}  # type: ignore[union-attr]


def make_searcher(sweep: Sweep, points: list[Values], metric: str, drawn_before: int) -> Searcher:
    """The searcher of a sweep, which suggests `points` first.

    Args:
      drawn_before: trials that earlier drivers of the sweep have drawn; those that did not fail are among `points`.

    Raises:
      ConfigError: its library is not installed.
    """
    if not sweep.drawn or sweep.searcher in ("random", "grid"):
        repeated = min(drawn_before, len(points))
        return RandomSearcher(sweep.drawn, points, metric, sweep.seed, drawn_before - repeated)
    seed = (sweep.seed + drawn_before) % 2**32  # a new model with the old seed would draw the old values again
    domains = {path: tune_domain(dimension) for path, dimension in sweep.drawn.items()}
    first_points = [_with_tuples(point, sweep.drawn) for point in points] or None
    try:
        if sweep.searcher == "optuna":
            from ray.tune.search.optuna import OptunaSearch

            return OptunaSearch(domains, metric, "min", points_to_evaluate=first_points, seed=seed)
        from ray.tune.search.hyperopt import HyperOptSearch

        return HyperOptSearch(domains, metric, "min", points_to_evaluate=first_points, random_state_seed=seed)
    except (ImportError, AssertionError) as error:
        if isinstance(error, AssertionError) and "must be installed" not in str(error):
            raise
        raise ConfigError(f"searcher {sweep.searcher!r} needs its library: pip install 'bertjax[search]'") from None


def tune_domain(dimension: Any) -> Any:
    """The Ray Tune domain of a dimension."""
    match range_of(dimension):
        case LogUniform(low, high):
            return tune.loguniform(low, high)
        case Uniform(low, high):
            return tune.uniform(low, high)
        case RandInt(low, high):
            return tune.randint(low, high)
        case Choice(options):
            return tune.choice(list(options))
        case other:
            raise ValueError(f"{other} is not drawn")


def _with_tuples(point: Mapping[str, Any], space: Space) -> Values:
    """A point read from JSON, which has lists where the options of a choice are tuples."""
    return {
        path: tuple(value) if isinstance(value, list) and isinstance(range_of(space[path]), Choice) else value
        for path, value in point.items()
    }
