"""Population-based training: trials side by side, of which the worst go on from copies of the best.

Source: Jaderberg et al. 2017, "Population Based Training of Neural Networks", with truncation selection. It departs
from it by taking turns together: each trial waits until all have come to the same epoch, so that who takes over from
whom does not hang on the speed of machines, and a sweep can be repeated. Ray's own scheduler of this name keeps its
choices to itself, refuses searchers and draws from a generator that is not seeded; this one has the ledger.
"""

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from bertjax.sweeps.ledger import Exploit, Ledger
from bertjax.sweeps.pbt.checkpoint_copy import clear, hand_over
from bertjax.sweeps.results.sweep_results import settings_line
from bertjax.sweeps.search_space import Space, Values, range_of
from bertjax.sweeps.sweep_config import Sweep
from bertjax.sweeps.trial import told_so_far

logger = logging.getLogger(__name__)

QUANTILE = 0.25  # of the population: so many of the worst, and so many of the best they take over from
FACTORS = (0.8, 1.2)  # one of which a value is multiplied by
RESAMPLED = 0.25  # share of values that are drawn anew instead


class Population(FIFOScheduler):
    """Runs the trials of a sweep in turns, and compares them at the end of each."""

    _supports_buffered_results = False

    def __init__(self, sweep: Sweep, ledger: Ledger, reports: str):
        """A scheduler.

        Args:
          sweep: its settings.
          ledger: of the sweep; what it has settled is not judged again.
          reports: Ray's name of the count of a trial's evaluations.
        """
        super().__init__()
        self._sweep, self._ledger, self._reports = sweep, ledger, reports
        self._members: dict[str, RayTrial] = {}
        self._evaluations: dict[str, int] = {}
        self._turn_end = ledger.settled() + sweep.turn

    def has_room(self) -> bool:
        """Whether one more trial may train; those that wait for others do not count."""
        training = [trial for trial in self._members.values() if trial.status in (RayTrial.PENDING, RayTrial.RUNNING)]
        return self._sweep.concurrency is None or len(training) < self._sweep.concurrency

    def on_trial_add(self, tune_controller: Any, trial: RayTrial) -> None:
        """A trial was made, or is taken up again after a crash."""
        self._members[trial.trial_id] = trial

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: Mapping[str, Any]) -> str:
        """A trial was evaluated: at the end of the turn it makes room for others."""
        done = self._evaluations[trial.trial_id] = result[self._reports]
        return TrialScheduler.PAUSE if self._turn_end <= done < self._sweep.reports else TrialScheduler.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> RayTrial | None:
        """The next trial that has not come to the end of the turn."""
        live = [trial for trial in self._members.values() if not trial.is_finished()]
        if live and all(map(self._waits, live)) and tune_controller.search_alg.is_finished():
            self._settle([trial.config["number"] for trial in live])
        new = next((trial for trial in live if trial.status == RayTrial.PENDING), None)
        if new is not None or not self.has_room():
            return new
        return next((trial for trial in live if trial.status == RayTrial.PAUSED and not self._waits(trial)), None)

    def _waits(self, trial: RayTrial) -> bool:
        """Whether a trial is at the end of the turn, and nobody works in its folder."""
        return trial.status == RayTrial.PAUSED and self._evaluations[trial.trial_id] >= self._turn_end

    def _settle(self, numbers: list[int]) -> None:
        """Judges the trials that all wait, and begins the next turn."""
        evaluation, goal, trials = self._turn_end, self._sweep.goal, self._ledger.trials()
        told = {number: told_so_far(self._ledger.run_folder(number), goal)[evaluation - 1] for number in numbers}
        costs = {number: goal.cost(row) for number, (_, row) in told.items()}
        exploits = {}
        for number, donor in exploited(costs, self._sweep.seed, evaluation).items():
            values = explored(trials[donor].values, self._sweep.space, _draws(self._sweep.seed, evaluation, number, 1))
            exploits[number] = (Exploit(evaluation, told[donor][0], donor), values)
        for number in numbers:
            clear(self._ledger.run_folder(number))
        for number, (exploit, _) in exploits.items():
            hand_over(self._ledger.run_folder(exploit.donor), self._ledger.run_folder(number))
        self._ledger.settle(evaluation, exploits)
        for number, (exploit, values) in exploits.items():
            logger.info("trial %d goes on from trial %d  (%s)", number, exploit.donor, settings_line(values))
        self._turn_end += self._sweep.turn


def exploited(costs: Mapping[int, float | None], seed: int, evaluation: int) -> dict[int, int]:
    """Which trials give up their weights, and for whose: each of the worst quarter for one of the best.

    Args:
      costs: of each trial, what is to become small; what is not finite is the worst.
      seed, evaluation: of the sweep, and when this is; the same choice each time it is made.

    Returns:
      Trial -> a better one.
    """
    finite = {number: cost if cost is not None and math.isfinite(cost) else math.inf for number, cost in costs.items()}
    ranked = sorted(finite, key=lambda number: (finite[number], number))
    count = min(math.ceil(QUANTILE * len(ranked)), len(ranked) // 2)
    best, worst = ranked[:count], ranked[len(ranked) - count :]
    donors = {number: best[_draws(seed, evaluation, number, 0).integers(count)] for number in worst}
    return {number: donor for number, donor in donors.items() if finite[donor] < finite[number]}


def explored(values: Mapping[str, Any], space: Space, rng: np.random.Generator) -> Values:
    """Values near those of a donor: each one perturbed, or drawn anew now and then.

    Args:
      values: the donor's.
      space: ranges only, no conditions.
      rng: what is drawn from.
    """
    found: Values = {}
    for path, dimension in space.items():
        possible: Any = range_of(dimension)
        if rng.random() < RESAMPLED:
            found[path] = possible.at(rng.random())
        else:
            found[path] = possible.perturbed(values[path], FACTORS[rng.integers(len(FACTORS))])
    return found


def _draws(seed: int, evaluation: int, number: int, purpose: int) -> np.random.Generator:
    """A generator of its own for each thing that is drawn, so that none hangs on how many were drawn before."""
    return np.random.default_rng([seed, evaluation, number, purpose])
