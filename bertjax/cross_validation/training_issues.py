"""The label issues of a training table, from the out-of-sample probabilities of k models, one per fold.

OUT/folds.json           what the folds are made from: settings and rows, written first
OUT/fold-0.npz ...       see `fold_run`
OUT/label_issues.jsonl   what was found, ranked
OUT/report.html          the same as a page; report.md for a pull request, charts/ where they are tracked
OUT/metrics.json         flat numbers, written last
"""

import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bertjax.cross_validation.deal_folds import Folds, deal_folds
from bertjax.cross_validation.fold_run import TABLES, FoldRows, FoldScores, run_fold
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.split.labelled_table import count_of, read_labelled_tables
from bertjax.data.split.read_splits import check_settings
from bertjax.data.table import Table
from bertjax.data.validate.data_report import DataReport
from bertjax.errors import ConfigError, RunFolderError
from bertjax.evaluation.judged_rows import Finding
from bertjax.evaluation.label_issues.confident_learning import find_doubts, import_cleanlab
from bertjax.evaluation.label_issues.find_issues import LabelIssues, finding_of, issues_of
from bertjax.evaluation.label_issues.flags import LABEL_ISSUES
from bertjax.evaluation.label_issues.labelled_items import check_has_items
from bertjax.evaluation.report_sections import data_section, settings_section
from bertjax.evaluation.run_report import write_page
from bertjax.report_pages.blocks import CHARTS, MARKDOWN, REPORT, Page
from bertjax.report_pages.png_charts import charts_of
from bertjax.settings import flatten
from bertjax.storage.atomic_write import write_json, write_text
from bertjax.storage.folder_lock import contents, locked_folder
from bertjax.storage.small_files import read_object
from bertjax.tracking.choose_tracker import tracker_of
from bertjax.tracking.tracker import Tracker, tracked_run
from bertjax.training.loop.progress import NoProgress, Progress
from bertjax.training.run.environment import describe_environment
from bertjax.training.run.run_folder import RESUMES, IfExists
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.resume_rules import changes_between, listed

logger = logging.getLogger(__name__)

MADE_FROM, METRICS = "folds.json", "metrics.json"
_WRITTEN = re.compile(
    rf"\.?fold-\d+(\.npz)?(\.tmp)?|{TABLES}|{re.escape(MADE_FROM)}|{re.escape(METRICS)}|{re.escape(LABEL_ISSUES)}"
    rf"|{re.escape(REPORT)}|{re.escape(MARKDOWN)}|{CHARTS}|tracking\.jsonl.*|\..*\.tmp"
)
# Settings of a table that say how test rows are held out: each row is, once.
_OF_SPLIT = ("test", "split", "test_size", "group", "time", "fold")


@dataclass(frozen=True)
class TrainingIssues:
    """What was found about the labels of a training table.

    Attributes:
      folder: what it was written to.
      table: settings, with the columns that were found.
      frame: all rows, as read.
      folds: the fold of each row of `rows`.
      rows: those that can be used.
      issues: what was found.
      finding: the same for a report.
      metrics: flat, such as `label_issues/count`.
    """

    folder: Path
    table: Table
    frame: pd.DataFrame
    folds: Folds
    rows: Rows
    issues: LabelIssues
    finding: Finding
    metrics: Mapping[str, float]


def find_training_issues(
    config: FineTuneConfig,
    out: Path,
    *,
    if_exists: IfExists = "error",
    command: str = "",
    tracker: Tracker | None = None,
    new_progress: Callable[[], Progress] = NoProgress,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingIssues:
    """Trains a model for each fold of a table, and doubts its labels by what the models say of rows that they have not
    seen.

    Args:
      config: the settings of each run; `data.folds` is the number of folds, and `data.split_seed` deals them.
      out: the folder to write.
      if_exists: what to do with folds that are in `out`: refuse ("error"), go on with them ("resume"), or replace them
        ("overwrite").
      command: that does the same, for the page; empty where it is not known.
      tracker: records the numbers and the files, as one run; default: MLflow.
      new_progress: shows the steps of a run.
      should_stop: asked after each step.

    Raises:
      UserError: a mistake in settings, table or folder.
      Interrupted: `should_stop` returned True; "resume" goes on.
    """
    task_format = check_has_items(config.task)
    _check_settings(config)
    import_cleanlab()
    check_settings(replace(config.data, folds=Table.folds), task_format)
    tracker = tracker or tracker_of(config.tracking, config.experiment)
    tracker.check()
    source = config.data.train
    with locked_folder(out):
        _check_folder(out, if_exists)
        table, tables = read_labelled_tables(config.data, task_format, {"train": source})
        rows, frame = tables["train"].rows, tables["train"].frame
        names = {name for label in rows.labels for name in task_format.names(label)}
        task_format.vocabulary(names, table)  # which refuses a single class
        folds = deal_folds(rows, task_format, table.folds, table.split_seed, source)
        _begin(out, flatten(config) | {"train_rows": rows.digest()}, if_exists)
        for note in (notes := _notes(folds, table.folds)):
            logger.warning("%s: %s", source, note)
        settings = replace(config, data=replace(table, folds=Table.folds))
        scores = []
        for fold in _fold_rows(rows, folds, table.folds):
            logger.info("fold %d of %d: trained on %d rows, judges %d", fold.number + 1, table.folds, len(fold.train),
                        len(fold.held_out))  # fmt: skip
            scores.append(run_fold(settings, out, fold, frame, new_progress(), should_stop))
        items = scores[0].items.joined([of_fold.items for of_fold in scores[1:]])
        issues = issues_of(items, find_doubts(items), rows, task_format, _distances(scores, rows))
        finding = finding_of(issues, notes)
        metrics = {**finding.metrics, "folds/unjudged": float(folds.num_unjudged)}
        data_report = DataReport((tables["train"].report,))
        _write(out, finding, metrics, config, data_report, command, tracker)
    return TrainingIssues(out, table, frame, folds, rows, issues, finding, metrics)


def _check_settings(config: FineTuneConfig) -> None:
    for name in _OF_SPLIT:
        if getattr(config.data, name) != getattr(Table, name):
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} means nothing here: each row of --train is held out once; leave it out")
    if config.data.label_probabilities is not None:
        raise ConfigError("--label-probabilities: rows with probabilities have no labels to doubt; leave it out")
    if config.distillation.teacher is not None:
        raise ConfigError("--teacher may have learned the labels that are to be judged; leave it out")
    if config.data.reader != Table.reader:
        raise ConfigError("the rows of all folds are in memory; leave --reader ray out")
    if config.judging.label_issues or config.judging.explain:
        flag = "--label-issues" if config.judging.label_issues else "--explain"
        raise ConfigError(f"{flag} is about the test rows of one run; leave it out")
    if config.register is not None:
        raise ConfigError("--register: the models of the folds are not kept; leave it out")


def _check_folder(out: Path, if_exists: IfExists) -> None:
    present = contents(out)
    foreign = [path.name for path in present if not _WRITTEN.fullmatch(path.name)]
    if foreign:
        raise RunFolderError(
            f"--out {out} holds {min(foreign)}, which is no part of label issues; choose another --out"
        )
    if if_exists in RESUMES and not (out / MADE_FROM).is_file():
        raise RunFolderError(f"--out {out} holds no folds to resume (it has no {MADE_FROM}); leave --resume out")
    if present and if_exists == "error":
        raise RunFolderError(
            f"--out {out} is not empty; continue its folds with --resume, replace them with --overwrite, or choose "
            f"another --out"
        )


def _begin(out: Path, made_from: Mapping[str, Any], if_exists: IfExists) -> None:
    """Checks that folds that are there are of the same settings and rows, or clears the folder; writes what these are.

    Raises:
      RunFolderError: they are of others.
    """
    if if_exists in RESUMES:
        stored = read_object(out / MADE_FROM, "begin again with --overwrite") or {}
        if changes := changes_between(stored, made_from):
            raise RunFolderError(
                f"{out} was begun with other settings or data: {listed(changes)}; begin again with --overwrite"
            )
        return
    for path in contents(out):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(out / MADE_FROM, made_from)


def _notes(folds: Folds, number: int) -> list[str]:
    if not folds.num_unjudged:
        return []
    rare = f"; labels of fewer than {number} texts: {', '.join(folds.rare)}" if folds.rare else ""
    return [f"{count_of(folds.num_unjudged, 'row')} in every training part, and judged by no model{rare}."]


def _fold_rows(rows: Rows, folds: Folds, number: int) -> list[FoldRows]:
    positions = np.array(rows.positions, np.int64)
    return [
        FoldRows(fold, positions[folds.of_rows != fold], positions[folds.of_rows == fold]) for fold in range(number)
    ]


def _distances(scores: list[FoldScores], rows: Rows) -> np.ndarray | None:
    """[n] the distance of each row to others of its fold; NaN of those that no model has judged."""
    of_rows: dict[int, float] = {}
    for of_fold in scores:
        if of_fold.distances is not None:
            of_rows |= dict(zip(of_fold.rows.tolist(), of_fold.distances.tolist(), strict=True))
    return np.array([of_rows.get(place, np.nan) for place in rows.positions]) if of_rows else None


def _write(
    out: Path,
    finding: Finding,
    metrics: Mapping[str, float],
    config: FineTuneConfig,
    data_report: DataReport,
    command: str,
    tracker: Tracker,
) -> None:
    settings, environment = flatten(config), describe_environment()
    sections = [
        finding.section,
        data_section(data_report, trained=False),
        settings_section(command, settings, environment),
    ]
    page = Page(f"Label issues of {config.data.train}", sections)
    for name, content in finding.files.items():
        write_text(out / name, content)
    write_page(out, page)
    with tracked_run(tracker):
        tracker.start(out.name, settings, out)
        tracker.log_metrics(metrics, 0)
        for name in (*finding.files, REPORT, MARKDOWN):
            tracker.log_artifact(out / name)
        tracker.log_charts(charts_of(page.sections), out / CHARTS)
    write_json(out / METRICS, metrics)
