"""Compares the network with simple baselines on the same rows, with the same evaluator: scores and differences."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bertjax.errors import ConfigError, DataError
from bertjax.evaluation.judged_rows import Finding
from bertjax.evaluation.simple_models.beside_settings import BESIDE, SimpleModels
from bertjax.evaluation.simple_models.frozen_embeddings import check_checkpoint, embedding_scores
from bertjax.evaluation.simple_models.keyword_rules import keyword_scores, read_keywords
from bertjax.evaluation.simple_models.majority import majority_scores
from bertjax.evaluation.simple_models.simple_model import Labelled, Problem, Scores
from bertjax.evaluation.simple_models.tfidf import tfidf_scores
from bertjax.metrics.reports import Report
from bertjax.report_pages.blocks import Block, Cell, DataTable, Paragraph, Ranged, Section
from bertjax.tasks import TASKS, find_evaluator, find_task
from bertjax.tasks.task import Target

logger = logging.getLogger(__name__)

DEFAULT_CHECKPOINT = "minilm-l6"

_DRAWS, _CHUNK, _SEED = 1000, 100, 0  # of the bootstrap
_PERCENTILES = (2.5, 97.5)


class SimpleModel(NamedTuple):
    """A simple model.

    Attributes:
      title: in the table; that of the majority is by the kind of labels.
      scores: learns and answers.
      targets: what it can learn.
    """

    title: str
    scores: Scores
    targets: tuple[Target, ...]


# By the names of `--beside`.
SIMPLE_MODELS: Mapping[str, SimpleModel] = {
    "majority": SimpleModel("majority", majority_scores, ("class", "labels", "numbers", "word_labels")),
    "tfidf": SimpleModel("TF-IDF", tfidf_scores, ("class", "labels", "numbers")),
    "embeddings": SimpleModel("frozen embeddings", embedding_scores, ("class", "labels", "numbers")),
    "keywords": SimpleModel("keyword rules", keyword_scores, ("class",)),
}


def check_simple_models(settings: SimpleModels, task: str, checkpoint: str = DEFAULT_CHECKPOINT) -> None:
    """Checks what can be checked before rows are read.

    Args:
      settings: which models.
      task: of the network.
      checkpoint: of the embeddings, where the settings name none.

    Raises:
      ConfigError: a model cannot learn the task.
      AssetError: there is no such checkpoint.
    """
    target = find_task(task).target
    for name in settings.beside:
        if target not in SIMPLE_MODELS[name].targets:
            able = [other for other, model in SIMPLE_MODELS.items() if target in model.targets]
            there = f"there is {', '.join(able)}" if able else "no simple model does"
            tasks = [other for other, entry in TASKS.items() if entry.target in SIMPLE_MODELS[name].targets]
            raise ConfigError(f"--beside {name} learns {', '.join(tasks)}, and not {task}; {there}")
    if "embeddings" in settings.beside:
        check_checkpoint(settings.beside_model or checkpoint)


def check_training_rows(settings: SimpleModels, task: str, names: Sequence[str], train: Labelled, source: str) -> None:
    """Checks the rows that simple models learn from, and the file of keywords.

    Args:
      settings: which models.
      task: of the network.
      names: of the labels.
      train: the rows.
      source: their table.

    Raises:
      DataError: all rows are of one class.
      ConfigError: the file has a mistake.
    """
    if settings.keywords is not None:
        read_keywords(settings.keywords, names)
    labels = train.examples.labels
    if settings.beside and find_task(task).target == "class" and labels.ndim == 1 and len(np.unique(labels)) == 1:
        only = names[labels[0]] if names else str(labels[0])
        raise DataError(f"{source}: every row has the label {only!r}; --beside needs training rows of two or more")


def beside_simple_models(
    task: str,
    names: tuple[str, ...],
    test: Labelled,
    report: Report,
    train: Labelled,
    settings: SimpleModels,
    checkpoint: str = DEFAULT_CHECKPOINT,
) -> Finding:
    """Fits simple models on the training rows, and judges them as the network was.

    Args:
      task: of the network.
      names: of its labels.
      test: the rows that the network was judged on.
      report: what came of it.
      train: rows that share no text with those.
      settings: which models; one or more, see `check_simple_models`.
      checkpoint: of the embeddings, where the settings name none.

    Returns:
      Metrics such as `beside/tfidf/accuracy` and, where the report has weighted metrics, the network's minus these with
      a 95% interval of a paired bootstrap: `beside/tfidf/accuracy_difference`, `.._difference_low`,
      `.._difference_high`.
    """
    target = find_task(task).target
    assert target is not None, "checked with the settings"
    problem = Problem(target, names, train, test, settings, settings.beside_model or checkpoint)
    _warn_of_unseen(problem)
    evaluator = find_evaluator(task)
    reports = {name: evaluator(SIMPLE_MODELS[name].scores(problem), test.examples, names) for name in settings.beside}
    differences = {name: _differences(report, other, problem.num_test) for name, other in reports.items()}
    return Finding(_section(report, reports, differences, problem), _metrics(reports, differences))


def _warn_of_unseen(problem: Problem) -> None:
    if problem.target != "class":
        return
    test = problem.test.examples.labels
    unseen = np.setdiff1d(test, problem.labels)
    for label in unseen.tolist():
        logger.warning(
            "the training rows of the simple models have no row of %r, which is the label of %d judged rows",
            problem.names[label] if problem.names else str(label), int((test == label).sum()),
        )  # fmt: skip


def _differences(report: Report, other: Report, rows: int) -> dict[str, Ranged]:
    """Metric -> the first report's minus the other's, in the same draws of the same rows; none without weights."""
    if report.weighted is None or other.weighted is None:
        return {}
    random = np.random.default_rng(_SEED)
    draws: dict[str, list[np.ndarray]] = {}
    for _ in range(_DRAWS // _CHUNK):
        weights = random.multinomial(rows, np.full(rows, 1 / rows), _CHUNK)
        ours, theirs = report.weighted(weights), other.weighted(weights)
        for key in report.metrics.keys() & ours.keys() & theirs.keys():
            draws.setdefault(key, []).append(ours[key] - theirs[key])
    found = {}
    for key in (key for key in report.metrics if key in draws):
        values = np.concatenate(draws[key])
        values = values[~np.isnan(values)]
        if len(values):
            found[key] = Ranged(report.metrics[key] - other.metrics[key], *np.percentile(values, _PERCENTILES).tolist())
    return found


def _metrics(reports: Mapping[str, Report], differences: Mapping[str, Mapping[str, Ranged]]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, report in reports.items():
        prefix = f"beside/{name}"
        metrics |= {f"{prefix}/{key}": value for key, value in report.metrics.items() if not math.isnan(value)}
        for key, (value, low, high) in differences[name].items():
            metrics[f"{prefix}/{key}_difference"] = value
            metrics |= {f"{prefix}/{key}_difference_low": low, f"{prefix}/{key}_difference_high": high}
    return metrics


def _section(
    report: Report,
    reports: Mapping[str, Report],
    differences: Mapping[str, Mapping[str, Ranged]],
    problem: Problem,
) -> Section:
    keys = _shown_metrics(report)
    titles = [key.replace("_", " ").replace("f1", "F1") for key in keys]
    rows: list[list[Cell]] = [["this model", *(report.metrics[key] for key in keys)]]
    rows += [[_title(name, problem), *(other.metrics[key] for key in keys)] for name, other in reports.items()]
    blocks: list[Block] = [
        Paragraph(
            f"Fitted on {len(problem.train.rows.texts)} training rows with fixed settings, and judged on the same "
            f"{problem.num_test} rows as this model, by the same metrics."
        ),
        DataTable(("model", *titles), rows, "Scores"),
    ]
    if any(differences.values()):
        compared: list[list[Cell]] = [
            [_title(name, problem), *(of_model.get(key) for key in keys)] for name, of_model in differences.items()
        ]
        caption = f"This model minus the simple one, with 95% intervals of {_DRAWS} paired draws of the rows"
        blocks.append(DataTable(("model", *titles), compared, caption))
    return Section(BESIDE, "Beside simple models", blocks)


def _shown_metrics(report: Report) -> list[str]:
    """The metrics of the headline."""
    return [score.key for score in report.headline if score.key is not None]


def _title(name: str, problem: Problem) -> str:
    if name == "majority":
        means = {"class": "majority class", "labels": "share of each label", "numbers": "mean"}
        return means.get(problem.target, "majority label of each word")
    title = SIMPLE_MODELS[name].title
    if name == "keywords":
        return title
    of = f" of {problem.checkpoint}" if name == "embeddings" else ""
    return f"{title}{of}, {'ridge' if problem.target == 'numbers' else 'logistic'} regression"
