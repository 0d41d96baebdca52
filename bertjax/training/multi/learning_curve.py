"""How much a model learns from how many rows: runs on so many of each class, with several seeds, on the same test rows.

OUT/per-class-8/seed-0/   a run on 8 rows of each class that its seed draws, a run folder like any other
OUT/report.html           the curve as a page; report.md for a pull request
OUT/learning_curve.json   what came of them all, written last
OUT/tracking.jsonl        the run that has the others under it
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

from bertjax.errors import ConfigError, Diverged, RunFolderError
from bertjax.evaluation.judged_rows import Finding
from bertjax.evaluation.report_sections import settings_section
from bertjax.evaluation.run_report import write_page
from bertjax.metrics.aggregate import Aggregate, aggregates, flat
from bertjax.metrics.reports import is_of_whole
from bertjax.report_pages.blocks import (
    CHARTS,
    MARKDOWN,
    REPORT,
    Cell,
    DataTable,
    Figure,
    Page,
    Paragraph,
    Section,
)
from bertjax.report_pages.charts import Lines
from bertjax.report_pages.png_charts import charts_of
from bertjax.settings import flatten, require
from bertjax.storage.atomic_write import write_json
from bertjax.storage.folder_lock import check_is_folder, contents
from bertjax.tasks import Metric, find_format, find_task
from bertjax.tracking import event_log
from bertjax.tracking.choose_tracker import tracker_of
from bertjax.tracking.event_log import next_step
from bertjax.tracking.tracker import Tracker, tracked_run
from bertjax.training.loop.progress import NoProgress, Progress
from bertjax.training.run import run_folder
from bertjax.training.run.beginning import Beginning, held_folder
from bertjax.training.run.environment import describe_environment, with_variables
from bertjax.training.run.finetuning import finetune_in
from bertjax.training.run.run_folder import IfExists, seed_folder
from bertjax.training.run.training_session import FineTuneResult, RunContext
from bertjax.training.settings.finetune_config import FineTuneConfig, check_seeds

logger = logging.getLogger(__name__)

CURVE = "learning_curve.json"

_PARTS = re.compile(
    r"per-class-\d+|" + "|".join(map(re.escape, (CURVE, REPORT, MARKDOWN, CHARTS, event_log.FILE))),
)
_THIS_MODEL = ""  # prefix of its metrics, where a simple model has `beside/NAME/`

Runs = Mapping[int, Mapping[int, Mapping[str, float]]]
"""Rows of each class -> seed -> the metrics of its test rows, such as `accuracy` and `beside/tfidf/accuracy`."""


@dataclass(frozen=True)
class CurveResult:
    """A learning curve.

    Attributes:
      folder: of all runs.
      runs: those that did not diverge.
      diverged: the error of each run that did.
      finding: the table and the figure; metrics such as `learning_curve/8/f1_macro_mean`.
    """

    folder: Path
    runs: Runs
    diverged: Sequence[str]
    finding: Finding


def finetune_curve(
    config: FineTuneConfig,
    sizes: Sequence[int],
    seeds: Sequence[int],
    out: str | Path | None = None,
    *,
    if_exists: IfExists = "error",
    command: str | None = None,
    new_tracker: Callable[[str | None], Tracker] | None = None,
    new_progress: Callable[[], Progress] = NoProgress,
    should_stop: Callable[[], bool] = lambda: False,
) -> CurveResult:
    """Fine-tunes on so many rows of each class, with several seeds, each of which draws rows of its own; those of a
    smaller size are among those of a larger one. The simple models of `config.simple_models` learn from the same rows.

    Args:
      config: the settings of every run; seed and rows of a class are replaced.
      sizes: rows of each class; a class with fewer has all of them.
      seeds: distinct seeds.
      out: folder of the runs; default: a new one under `runs/`.
      if_exists: as for `finetune`, of each run. One that "resume" finds ended is checked and judged again, and not
        trained; other sizes and seeds may be added.
      command: the command that does the same, without sizes and seeds, for the records.
      new_tracker: id of the curve's own run, or None for that run itself -> a tracker; default: MLflow.
      new_progress: makes what shows the steps of a run.
      should_stop: see `finetune`.

    Raises:
      UserError: what `finetune` raises, or rows without classes.
      Diverged: every run did.
      Interrupted: `should_stop` returned True; "resume" continues.
    """
    _check_settings(config, sizes, seeds)
    folder = Path(out) if out is not None else run_folder.default_folder(config)
    _check_folder(folder, if_exists)
    resumes = if_exists in run_folder.RESUMES
    new_tracker = partial(tracker_of, config.tracking, config.experiment) if new_tracker is None else new_tracker
    tracker = new_tracker(None)
    tracker.check(folder if resumes else None)
    settings = flatten(config) | {"seeds": list(seeds), "learning_curve": sorted(sizes)}
    command_of_all = with_variables(
        f"{command} --learning-curve {_listed(sizes)} --seeds {_listed(seeds)}"
        if command
        else f"bertjax.training.multi.learning_curve.finetune_curve({config!r}, {list(sizes)}, {list(seeds)})"
    )
    environment = describe_environment() | {"command": command_of_all}
    with (
        held_folder(folder, _belongs),
        Beginning(folder, resumes, _belongs) as beginning,
        tracked_run(tracker) as tracked,
    ):
        beginning.open(lambda: None)
        parent = tracker.start(folder.name, settings, folder, environment | {"bertjax.kind": "learning_curve"})
        tracker.adopt(_folder_of(folder, size, seed) for size in sizes for seed in seeds)

        def run(size: int, seed: int) -> FineTuneResult:
            table = replace(config.data, per_class=size, per_class_seed=seed)
            own = _folder_of(folder, size, seed)
            repeat = f"{command} --per-class {size} --per-class-seed {seed} --seed {seed}" if command else None
            context = RunContext(repeat, new_tracker(parent), new_progress(), should_stop, begun=beginning.commit)
            policy = if_exists if (own / run_folder.CONFIG).is_file() else "error"
            with held_folder(own):
                return finetune_in(own, replace(config, seed=seed, data=table), policy, context)

        runs, diverged = _train_all(run, sorted(sizes), seeds)
        finding = curve_finding(runs, find_task(config.task).metric)
        title = f"Learning curve of {config.model} on {config.data.train}"
        page = Page(title, [finding.section, settings_section(command_of_all, settings, environment)])
        _record(folder, runs, finding, page, tracker)
        if diverged:
            tracked.status = "FAILED"
    return CurveResult(folder, runs, diverged, finding)


def _check_settings(config: FineTuneConfig, sizes: Sequence[int], seeds: Sequence[int]) -> None:
    require(len(sizes) > 0 and len(set(sizes)) == len(sizes), "--learning-curve takes distinct numbers of rows", sizes)
    check_seeds(seeds)
    if not find_format(config.task).classes:
        raise ConfigError(f"--learning-curve draws rows of each class, and a row of {config.task} does not have one")
    if config.data.per_class is not None:
        raise ConfigError("--learning-curve sets --per-class itself; leave --per-class out")


def _train_all(
    run: Callable[[int, int], FineTuneResult], sizes: Sequence[int], seeds: Sequence[int]
) -> tuple[Runs, list[str]]:
    """The scores of the runs of all sizes and seeds, and why some diverged.

    Raises:
      Diverged: every run did.
    """
    runs: dict[int, dict[int, Mapping[str, float]]] = {}
    diverged: list[str] = []
    for size, seed in product(sizes, seeds):
        logger.info("%d rows of each class, seed %d", size, seed)
        try:
            result = run(size, seed)
        except Diverged as error:
            logger.warning("%d rows of each class, seed %d: %s", size, seed, error)
            diverged.append(f"{size} rows of each class, seed {seed}: {error}")
        else:
            runs.setdefault(size, {})[seed] = _scores_of(result.metrics)
    if not runs:
        raise Diverged(f"every run diverged; the first: {diverged[0]}")
    return runs, diverged


def _record(folder: Path, runs: Runs, finding: Finding, page: Page, tracker: Tracker) -> None:
    """Writes the page and the scores, and tracks both."""
    write_page(folder, page)
    write_json(folder / CURVE, {**finding.metrics, "runs": runs})
    tracker.log_metrics(finding.metrics, next_step(folder, sum(map(len, runs.values()))))
    for name in (CURVE, REPORT, MARKDOWN):
        tracker.log_artifact(folder / name)
    tracker.log_charts(charts_of(page.sections), folder / CHARTS)


def _folder_of(folder: Path, size: int, seed: int) -> Path:
    return seed_folder(folder / f"per-class-{size}", seed)


def _listed(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _belongs(name: str) -> bool:
    """Whether an entry of the folder is part of a learning curve."""
    return _PARTS.fullmatch(name) is not None


def _check_folder(folder: Path, if_exists: IfExists) -> None:
    check_is_folder(folder)
    present = contents(folder)
    foreign = [path.name for path in present if not _PARTS.fullmatch(path.name) and not path.name.startswith(".")]
    if foreign:
        raise RunFolderError(f"{folder} holds {min(foreign)}, which is no learning curve's; choose another --out")
    if present and if_exists == "error":
        raise RunFolderError(
            f"{folder} already holds a learning curve; continue it with --resume, replace it with --overwrite, or "
            f"choose another --out"
        )


def _scores_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """The scores of the models on the test rows, without those of single classes and without differences."""
    scores = {key.removeprefix("test/"): value for key, value in metrics.items() if key.startswith("test/")}
    return {key: value for key, value in scores.items() if is_of_whole(key) and "_difference" not in key}


def curve_finding(runs: Runs, metric: Metric | None) -> Finding:
    """The means and standard deviations of all scores; one metric of them as a table and a figure.

    Args:
      runs: one or more.
      metric: the task's.
    """
    spreads = {size: aggregates(list(of_size.values())) for size, of_size in runs.items()}
    first = next(iter(spreads.values()))
    assert metric is not None, "a task that is trained has one"
    key = metric.reported_in(first).name
    models = {_THIS_MODEL: "this model"} | {f"{prefix}/": prefix.rpartition("/")[2] for prefix in _prefixes(first)}
    title = key.replace("_", " ").replace("f1", "F1")
    rows: list[list[Cell]] = [
        [size, len(runs[size]), *(str(of_size[f"{prefix}{key}"]) for prefix in models)]
        for size, of_size in spreads.items()
    ]
    series = {
        name: [(float(size), of_size[f"{prefix}{key}"].mean) for size, of_size in spreads.items()]
        for prefix, name in models.items()
    }
    section = Section(
        "learning-curve",
        "Learning curve",
        (
            Paragraph("Each seed draws its own rows of each class; the test rows are always the same."),
            DataTable(("rows of each class", "seeds", *models.values()), rows, f"{title}, mean ± sd over the seeds"),
            Figure(Lines("Learning curve", series, "rows of each class", title), f"{title}, mean over the seeds"),
        ),
    )
    metrics = {
        f"learning_curve/{size}/{name}": value
        for size, of_size in spreads.items()
        for name, value in flat(of_size).items()
    }
    return Finding(section, metrics)


def _prefixes(scores: Mapping[str, Aggregate]) -> list[str]:
    """The simple models that have scores, such as `beside/tfidf`."""
    return list(dict.fromkeys("/".join(key.split("/")[:2]) for key in scores if key.startswith("beside/")))
