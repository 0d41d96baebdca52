"""The settings of a sweep: a base config, a search space, a searcher, a scheduler and a budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args, get_type_hints

from bertjax.errors import ConfigError
from bertjax.settings import (
    LONGEST,
    Count,
    CountFromZero,
    NotNegative,
    Positive,
    Range,
    Seed,
    check_ranges,
    flatten,
    override,
    require,
)
from bertjax.sweeps import search_space as spaces
from bertjax.sweeps.search_space import Choice, Grid, Space, When, range_of
from bertjax.training.loop.early_stopping import BestMetric, choose_best_metric
from bertjax.training.settings.finetune_config import FineTuneConfig, check_seeds, of_this_version, with_current_names

_REMOVED_SETTINGS = ("perturbation_epochs",)  # in files of versions that had population-based training


@dataclass(frozen=True)
class Sweep:
    """All settings of a sweep. Its trials are whole fine-tuning runs, compared by the base's `best_metric`."""

    base: FineTuneConfig
    """The config that every trial varies."""

    space: Space
    """The settings that vary: dotted paths of the config, and a range for each."""

    samples: Count = 1
    """Draws of the ranges for each point of the grids."""

    searcher: Literal["random", "grid", "optuna", "hyperopt"] = "random"
    """The choice of values: random, every combination (of `Choice` and `Grid`), or by a model of earlier trials."""

    repeat_points: bool = False
    """Whether a point may be drawn again, where the space has a finite number of them; else a sweep ends when it has
    tried all."""

    initial_points: tuple[Mapping[str, Any], ...] = ()
    """Values to try first; each names every setting that is drawn."""

    scheduler: Literal["none", "asha", "hyperband", "median"] = "none"
    """What ends trials early: nothing, successive halving (Li et al. 2020), HyperBand, or the median rule."""

    grace_epochs: Count = 1
    """Epochs of every trial before a scheduler may end it."""

    reduction_factor: Annotated[int, Range(2, LONGEST)] = 3
    """Successive halving keeps one trial of this many at each rung."""

    max_seconds: Positive | None = None
    """Seconds after which the sweep ends; running trials are stopped."""

    max_epochs: Count | None = None
    """Epochs of all trials together after which the sweep ends; running trials are stopped."""

    concurrency: Count | None = None
    """Trials at a time; default: as many as the resources allow."""

    cpus: Positive = 1
    """CPU cores of a trial."""

    gpus: NotNegative = 0
    """GPUs of a trial; a share (0.5) puts several trials on one, each with its share of the memory."""

    resources: Mapping[str, float] = field(default_factory=dict)
    """Further resources of a trial by Ray's names, such as TPU chips: {"TPU": 4}."""

    retries: CountFromZero = 1
    """How often a trial that crashes is restarted from its last checkpoint."""

    seed: Seed = 0
    """Seed of the searcher; the trials' own seed is a setting of the base."""

    keep: Literal["best", "all"] = "best"
    """Which trials keep their model when the sweep ends: the best, or all, with their checkpoints."""

    seeds: tuple[Seed, ...] = ()
    """Seeds with which the best config is trained after the search, for the mean and deviation of its scores."""

    stack_seeds: bool = False
    """Whether these seeds are trained side by side in one program."""

    def __post_init__(self) -> None:
        for name in ("searcher", "scheduler", "keep"):
            options, value = get_args(get_type_hints(Sweep)[name]), getattr(self, name)
            require(value in options, f"{name} must be {', '.join(options[:-1])} or {options[-1]}", value)
        check_ranges(self)
        require(self.gpus <= 1 or self.gpus == int(self.gpus), "gpus above 1 must be whole", self.gpus)
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

    def _check_searcher(self) -> None:
        drawn = self.drawn
        if self.searcher == "grid" and drawn:
            raise ConfigError(f"searcher 'grid' takes combinations, but {next(iter(drawn))} is a range; give a Grid")
        for point in self.initial_points:
            if set(point) != set(drawn):
                names = ", ".join(drawn) or "nothing"
                raise ConfigError(f"initial_points: {dict(point)} must name {names}, and only that")
            override(self.base, point)

    @property
    def evaluations_per_trial(self) -> int:
        """Evaluations of a trial that runs to its end."""
        return self.evaluations_in(self.base.epochs)

    def evaluations_in(self, epochs: int) -> int:
        """The number of evaluations in which a trial trains at least so many epochs."""
        return -(-epochs // self.base.evaluation.evaluate_every)

    @property
    def best_metric(self) -> BestMetric:
        """The metric that trials are compared by."""
        best_metric = choose_best_metric(self.base.evaluation, self.base.early_stopping, validates=True)
        assert best_metric is not None, "a run that validates has one"
        return best_metric

    @property
    def drawn(self) -> Space:
        """The dimensions that the searcher draws."""
        return {
            path: dimension
            for path, dimension in self.space.items()
            if not isinstance(range_of(dimension), Grid)
            and not (self.searcher == "grid" and isinstance(range_of(dimension), Choice))
        }

    @property
    def grid(self) -> Space:
        """The dimensions of which every combination is tried."""
        return {path: _as_grid(dimension) for path, dimension in self.space.items() if path not in self.drawn}

    @property
    def total_trials(self) -> int:
        """Trials of the whole sweep: those that are asked for, or as many as the space has points."""
        points = None if self.repeat_points or not self.drawn else spaces.count_points(self.space)
        return self.asked_trials if points is None else min(points, self.asked_trials)

    @property
    def asked_trials(self) -> int:
        """`samples` for every grid point, or one where nothing is drawn."""
        return len(spaces.grid_points(self.grid)) * (self.samples if self.drawn else 1)

    def trial_config(self, values: Mapping[str, Any]) -> FineTuneConfig:
        """The config of a trial."""
        return override(self.base, values)


def to_json(sweep: Sweep) -> dict[str, Any]:
    """A sweep as plain values."""
    return vars(sweep) | {
        "base": flatten(sweep.base),
        "space": {path: spaces.to_json(dimension) for path, dimension in sweep.space.items()},
        "initial_points": [dict(point) for point in sweep.initial_points],
        "resources": dict(sweep.resources),
        "seeds": list(sweep.seeds),
    }


def from_json(values: Mapping[str, Any]) -> Sweep:
    """The inverse of `to_json`, for files of earlier versions too.

    Raises:
      ConfigError: a setting that is no longer valid.
    """
    converted = {
        "base": override(FineTuneConfig(), of_this_version(values["base"])),
        "space": {path: spaces.from_json(fields) for path, fields in with_current_names(values["space"]).items()},
        "initial_points": tuple(map(with_current_names, values["initial_points"])),
        "seeds": tuple(values.get("seeds", ())),
    }
    known = {name: value for name, value in values.items() if name not in _REMOVED_SETTINGS}
    return Sweep(**{**known, **converted})


def _as_grid(dimension: Any) -> Any:
    if isinstance(dimension, When):
        return replace(dimension, then=_as_grid(dimension.then))
    return Grid(dimension.options) if isinstance(dimension, Choice) else dimension
