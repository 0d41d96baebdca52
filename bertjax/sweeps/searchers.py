"""Searchers: who says what the next trial is, and how a resumed sweep takes up where it was.

Optuna (Akiba et al. 2019) and HyperOpt (Bergstra et al. 2013) are Ray's; drawing at random and walking a grid need no
library. All of them answer through `LedgerSearch`, which puts each answer into the ledger before a trial starts, and
first repeats what the ledger has.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search import Searcher

from bertjax.errors import ConfigError
from bertjax.sweeps import search_space as spaces
from bertjax.sweeps.ledger import Ledger
from bertjax.sweeps.search_space import Choice, LogUniform, RandInt, Space, Uniform, Values, range_of
from bertjax.sweeps.sweep_config import Sweep


class LedgerSearch(Searcher):
    """Gives Ray the trials of a sweep: those of the ledger again, then new ones up to the sweep's number."""

    def __init__(self, sweep: Sweep, ledger: Ledger, metric: str, has_room: Callable[[], bool] | None = None):
        """A search.

        Args:
          sweep: its settings.
          ledger: of the sweep.
          metric: what it makes small.
          has_room: whether another trial may begin now, where Tune does not know it.
        """
        super().__init__(metric=metric, mode="min")
        self._sweep, self._ledger, self._has_room = sweep, ledger, has_room
        self._grid = spaces.grid_points(sweep.grid)
        trials = ledger.trials()
        self._again = [trial for trial in trials if trial.status != "failed"]
        self._next = len(trials)
        points = [dict(trial.drawn) for trial in self._again] + [dict(p) for p in sweep.initial_points[len(trials) :]]
        self._inner = make_searcher(sweep, points, metric, len(trials))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's number; that there is none; or None for not now."""
        if self._has_room is not None and not self._has_room():
            return None
        if self._again:
            self._inner.suggest(trial_id)  # its first points are these
            trial = self._again.pop(0)
            self._ledger.record(trial.number, ray_id=trial_id)
            return _given(trial.number, trial.values)
        if self._next >= self._sweep.total_trials:
            return Searcher.FINISHED
        drawn = self._inner.suggest(trial_id)
        if drawn is None or drawn == Searcher.FINISHED:
            return drawn
        number = self._next
        self._next += 1
        drawn = _plain(drawn)
        point = self._grid[number % len(self._grid)]
        values = spaces.active({**self._sweep.drawn, **self._sweep.grid}, drawn | point)
        self._ledger.record(number, drawn=drawn, values=values, ray_id=trial_id)
        return _given(number, values)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._inner.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._inner.on_trial_complete(trial_id, result=result, error=error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class RandomSearch(Searcher):
    """Draws each trial from a generator of its own, so the n-th trial is the same whatever came before it."""

    def __init__(self, space: Space, points: list[Values], metric: str, seed: int, first: int):
        super().__init__(metric=metric, mode="min")
        self._space, self._points, self._seed, self._count = space, points, seed, first

    def suggest(self, trial_id: str) -> Values:
        rng = np.random.default_rng([self._seed, self._count])
        self._count += 1
        if self._points:
            return self._points.pop(0)
        return {path: range_of(dimension).at(rng.random()) for path, dimension in self._space.items()}  # type: ignore[union-attr]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing is learned."""


def make_searcher(sweep: Sweep, points: list[Values], metric: str, drawn_before: int) -> Searcher:
    """The searcher of a sweep.

    Args:
      sweep: its settings.
      points: what it is to answer first, in order.
      metric: what it is to make small.
      drawn_before: trials that earlier drivers of the sweep have drawn; those of them that did not fail are `points`.

    Raises:
      ConfigError: its library is not installed.
    """
    if not sweep.drawn or sweep.searcher in ("random", "grid"):
        again = min(drawn_before, len(points))
        return RandomSearch(sweep.drawn, points, metric, sweep.seed, drawn_before - again)
    seed = sweep.seed + drawn_before  # a model that starts anew with the same seed would draw the same again
    domains = {path: domain(dimension) for path, dimension in sweep.drawn.items()}
    chosen = [_as_chosen(point, sweep.drawn) for point in points]
    try:
        if sweep.searcher == "optuna":
            from ray.tune.search.optuna import OptunaSearch

            return OptunaSearch(domains, metric, "min", points_to_evaluate=chosen or None, seed=seed)
        from ray.tune.search.hyperopt import HyperOptSearch

        return HyperOptSearch(domains, metric, "min", points_to_evaluate=chosen or None, random_state_seed=seed)
    except (ImportError, AssertionError) as error:
        if isinstance(error, AssertionError) and "must be installed" not in str(error):
            raise
        raise ConfigError(f"searcher {sweep.searcher!r} needs its library: pip install 'bertjax[search]'") from None


def domain(dimension: Any) -> Any:
    """A dimension in Ray's words."""
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


def _as_chosen(point: Mapping[str, Any], space: Space) -> Values:
    """A point whose lists are the options of the space again, as JSON has no tuples."""
    return {
        path: tuple(value) if isinstance(value, list) and isinstance(range_of(space[path]), Choice) else value
        for path, value in point.items()
    }


def _given(number: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """What Ray knows of a trial."""
    return {"number": number, "values": dict(values)}


def _plain(values: Mapping[str, Any]) -> Values:
    """Numbers of numpy as those of Python, which JSON and a config take."""
    return {path: value.item() if isinstance(value, np.generic) else value for path, value in values.items()}
