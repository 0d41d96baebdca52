"""The settings of a sweep: a base config, what varies, who chooses, who stops, and what it may cost."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bertjax.errors import ConfigError
from bertjax.settings import flatten, override, require
from bertjax.sweeps import search_space as spaces
from bertjax.sweeps.search_space import Choice, Grid, LogUniform, RandInt, Space, Uniform, When, range_of
from bertjax.training.loop.early_stopping import Goal, choose_goal
from bertjax.training.settings.finetune_config import FineTuneConfig, check_seeds, with_current_names

# What a population may vary: a run goes on with other values of these, because its saved state has no trace of them.
PERTURBABLE = (
    "optimizer.learning_rate",
    "optimizer.head_learning_rate",
    "optimizer.layer_decay",
    "optimizer.final_share",
    "optimizer.power",
    "optimizer.weight_decay",
    "optimizer.b2",
    "optimizer.eps",
    "optimizer.momentum",
    "dropout_rate",
    "imbalance.label_smoothing",
    "imbalance.focal_gamma",
)


@dataclass(frozen=True)
class Sweep:
    """Everything a sweep depends on. Its trials are whole fine-tuning runs, judged by the base's `best_metric`."""

    base: FineTuneConfig
    """The run that every trial is a variation of."""

    space: Space
    """What varies: dotted paths of the config, and a range for each."""

    samples: int = 1
    """How often the ranges are drawn, for each point of the grids."""

    searcher: Literal["random", "grid", "optuna", "hyperopt"] = "random"
    """Who draws: at random, every combination (a choice is a grid then), or a model of what was seen so far."""

    initial_points: tuple[Mapping[str, Any], ...] = ()
    """Settings to try first; each names all that is drawn."""

    scheduler: Literal["none", "asha", "hyperband", "median", "pbt"] = "none"
    """Who ends trials early: nobody, successive halving (Li et al. 2020), HyperBand, or the median rule. With pbt
    nobody does: the trials are a population, of which the worst go on from copies of the best with other settings
    (Jaderberg et al. 2017)."""

    grace_epochs: int = 1
    """Epochs that every trial gets before a scheduler may end it."""

    reduction_factor: int = 3
    """Successive halving keeps one of so many trials at each rung."""

    perturbation_epochs: int = 1
    """Epochs that a population trains from one comparison to the next; each trial waits there for all others."""

    max_seconds: float | None = None
    """The sweep ends no trial later than this after it started; trials under way are stopped."""

    max_epochs: int | None = None
    """Epochs of all trials together after which the sweep ends."""

    concurrency: int | None = None
    """Trials at a time; default: as many as the resources allow."""

    cpus: float = 1
    """CPU cores of a trial."""

    gpus: float = 0
    """GPUs of a trial; a share (0.5) puts several trials on one, each with its share of the memory."""

    resources: Mapping[str, float] = field(default_factory=dict)
    """Other resources of a trial by Ray's names, such as TPU chips: {"TPU": 4}."""

    retries: int = 1
    """How often a trial that crashes is taken up again, from its last checkpoint."""

    seed: int = 0
    """Of the drawing; the trials' own seed is a setting of the base."""

    keep: Literal["best", "all"] = "best"
    """Whose checkpoints and models stay when a trial has ended."""

    seeds: tuple[int, ...] = ()
    """Seeds that the best config is trained with when the search is done, for the mean and deviation of its scores."""

    stack_seeds: bool = False
    """Train them side by side in one program."""

    def __post_init__(self) -> None:
        for name in ("samples", "grace_epochs", "perturbation_epochs", "cpus"):
            require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        for name in ("max_seconds", "max_epochs", "concurrency"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name} must be positive", value)
        require(self.reduction_factor >= 2, "reduction_factor must be 2 or more", self.reduction_factor)
        require(self.gpus >= 0, "gpus must not be negative", self.gpus)
        require(self.gpus <= 1 or self.gpus == int(self.gpus), "gpus above 1 must be whole", self.gpus)
        require(self.retries >= 0, "retries must not be negative", self.retries)
        check_seeds(self.seeds)
        spaces.check_space(self.space, self.base)
        self._check_searcher()
        if self.base.evaluation.evaluate_unit != "epochs":
            raise ConfigError("a sweep compares trials at the end of epochs; leave evaluate_unit at 'epochs'")
        if self.base.data.validation is None and self.base.data.validation_size is None:
            raise ConfigError(
                "a sweep judges trials on validation rows, or the test rows would be fitted too; name a validation "
                "table, or hold some out (data.validation_size)"
            )
        if self.scheduler == "pbt":
            self._check_population()

    def _check_searcher(self) -> None:
        drawn = self.drawn
        if self.searcher == "grid" and drawn:
            raise ConfigError(f"searcher 'grid' takes combinations, but {next(iter(drawn))} is a range; give a Grid")
        for point in self.initial_points:
            if set(point) != set(drawn):
                names = ", ".join(drawn) or "nothing"
                raise ConfigError(f"initial_points: {dict(point)} must name {names}, and only that")
            override(self.base, point)

    def _check_population(self) -> None:
        if self.searcher != "random":
            raise ConfigError(f"a population (pbt) starts at random, not with searcher {self.searcher!r}; leave it out")
        for path, dimension in self.space.items():
            if not isinstance(dimension, Uniform | LogUniform | RandInt | Choice):
                raise ConfigError(f"a population (pbt) changes all that it varies, and {path} is a {dimension.kind}")
            if path not in PERTURBABLE:
                raise ConfigError(
                    f"a population (pbt) cannot change {path} in the middle of a run; it can change "
                    f"{', '.join(PERTURBABLE)}"
                )
        require(self.samples >= 2, "a population (pbt) needs samples of 2 or more", self.samples)
        if self.turn >= self.reports:
            raise ConfigError(
                f"with perturbation_epochs {self.perturbation_epochs} nothing ever changes in {self.base.epochs} "
                f"epochs; give fewer"
            )
        if self.base.early_stopping.patience is not None:
            raise ConfigError("the trials of a population (pbt) end together; leave out early_stopping.patience")
        if self.seeds:
            raise ConfigError(
                "a population (pbt) changes settings on the way, no config stands for that; leave out seeds"
            )

    @property
    def reports(self) -> int:
        """Evaluations of a trial that runs to its end."""
        return self.evaluations_in(self.base.epochs)

    @property
    def turn(self) -> int:
        """Evaluations of each trial of a population from one comparison to the next."""
        return self.evaluations_in(self.perturbation_epochs)

    def evaluations_in(self, epochs: int) -> int:
        """How many evaluations it takes to train at least so many epochs."""
        return -(-epochs // self.base.evaluation.evaluate_every)

    @property
    def goal(self) -> Goal:
        """What trials are judged by."""
        goal = choose_goal(self.base.evaluation, self.base.early_stopping, validates=True)
        assert goal is not None, "a run that validates has a goal"
        return goal

    @property
    def drawn(self) -> Space:
        """What the searcher draws."""
        return {
            path: dimension
            for path, dimension in self.space.items()
            if not isinstance(range_of(dimension), Grid)
            and not (self.searcher == "grid" and isinstance(range_of(dimension), Choice))
        }

    @property
    def grid(self) -> Space:
        """What is taken in every combination."""
        return {path: _as_grid(dimension) for path, dimension in self.space.items() if path not in self.drawn}

    @property
    def total_trials(self) -> int:
        """Trials of the whole sweep: every grid point as often as the rest is drawn."""
        return len(spaces.grid_points(self.grid)) * (self.samples if self.drawn else 1)

    def trial_config(self, values: Mapping[str, Any]) -> FineTuneConfig:
        """The run of a trial."""
        return override(self.base, values)


def to_json(sweep: Sweep) -> dict[str, Any]:
    """A sweep as plain values."""
    others = {item.name: getattr(sweep, item.name) for item in dataclasses.fields(sweep)}
    return others | {
        "base": flatten(sweep.base),
        "space": spaces.to_json(sweep.space),
        "initial_points": [dict(point) for point in sweep.initial_points],
        "resources": dict(sweep.resources),
        "seeds": list(sweep.seeds),
    }


def from_json(values: Mapping[str, Any]) -> Sweep:
    """The inverse of `to_json`."""
    made = {
        "base": override(FineTuneConfig(), with_current_names(values["base"])),
        "space": spaces.from_json(with_current_names(values["space"])),
        "initial_points": tuple(map(with_current_names, values["initial_points"])),
        "seeds": tuple(values.get("seeds", ())),
    }
    return Sweep(**{**values, **made})


def _as_grid(dimension: Any) -> Any:
    if isinstance(dimension, When):
        return dataclasses.replace(dimension, then=_as_grid(dimension.then))
    return Grid(dimension.options) if isinstance(dimension, Choice) else dimension
