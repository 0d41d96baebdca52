"""`bertjax evaluate`: a model on a labelled table."""

import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertjax.cli.flags.model_choice import BestRun, chosen_model
from bertjax.cli.flags.parse_flags import check_replaceable, parse
from bertjax.cli.process.messages import say
from bertjax.config import Execution
from bertjax.data.table import AnswerAs, Table, TagScheme
from bertjax.errors import ConfigError
from bertjax.evaluation.label_issues.flags import LABEL_ISSUES, LabelIssueFlags
from bertjax.settings import Share
from bertjax.storage.folder_lock import locked_folder

if TYPE_CHECKING:
    from bertjax.evaluation.evaluate_table import EvaluationResult
    from bertjax.evaluation.judged_rows import Finding
    from bertjax.metrics.fallback import Threshold

METRICS, REPORT, PREDICTIONS = "metrics.json", "report.html", "predictions.jsonl"
_WRITTEN = re.compile("|".join(map(re.escape, (METRICS, REPORT, PREDICTIONS, LABEL_ISSUES))))
# Flag -> the setting of a table that it changes.
_COLUMNS = {
    "text_columns": "text",
    "pair_columns": "text_pair",
    "label_column": "label",
    "label_columns": "labels",
    "label_delimiter": "label_delimiter",
    "labels_as": "labels_as",
    "label_names": "label_names",
    "label_spelling": "label_spelling",
    "tag_scheme": "tag_scheme",
    "candidates": "candidates",
    "answer_as": "answer_as",
}
_DIALECT = ("delimiter", "quoting", "escape")


@dataclass(frozen=True)
class Arguments:
    """Evaluate a model on a labelled table, by the metrics that finetune has for its test rows, under the same names.

    The rows are read, cleaned and cut as those that the model was trained on.
    """

    model: str
    """The model: a folder (such as `model/` of a run), a hub id, models:/NAME@ALIAS of MLflow's registry,
    runs:/ID/model of an MLflow run, or `best`: that of the best run of an experiment."""

    data: str
    """The table: a file, a pattern of several, an address, or a data set of the catalog."""

    text_columns: tuple[str, ...] | None = None
    """Columns with the text; default: those of the training rows."""

    pair_columns: tuple[str, ...] | None = None
    """Columns with the second text of a pair; default: those of the training rows."""

    label_column: str | None = None
    """Column with the label; default: that of the training rows."""

    label_columns: tuple[str, ...] | None = None
    """Columns with one label each; default: those of the training rows."""

    label_delimiter: str | None = None
    """What stands between the labels of a cell; default: as in the training rows."""

    labels_as: Literal["names", "flags"] | None = None
    """What a list in the label column holds: labels (`names`), or a 0 or 1 for each of --label-names (`flags`);
    default: as in the training rows."""

    label_names: tuple[str, ...] | None = None
    """Labels of the places of such a list, in their order; default: as in the training rows."""

    label_spelling: Literal["merge", "keep"] | None = None
    """Labels that look alike (1 and 1.0) are one (`merge`) or several (`keep`); default: as in the training rows."""

    tag_scheme: TagScheme | None = None
    """How the labels of words mark entities; default: as in the training rows."""

    candidates: tuple[str, ...] | None = None
    """Columns with the candidates of a multiple choice; default: those of the training rows."""

    answer_as: AnswerAs | None = None
    """How the label column names the right candidate: by its text, its letter, or its number from 0 or from 1; default:
    as in the training rows."""

    encoding: str = Table.encoding
    """Encoding of text files."""

    delimiter: str | None = None
    """What separates the cells of a csv or tsv file; default: as its suffix and its first lines say."""

    quoting: Literal["on", "off"] | None = None
    """Whether cells of a csv or tsv file may be in quotes; off: quotes are text. Default: as for training rows."""

    escape: str | None = None
    """Character of a csv or tsv file after which a quote or a delimiter is text."""

    on_bad_row: Literal["stop", "skip"] = Table.on_bad_row
    """What a broken row does: end with its line, or be left out, counted and listed."""

    threshold: Share | None = None
    """Judge the labels with a fallback too: a row whose label is less probable gets `other` if that is a class, else
    `uncertain`, as bertjax predict and serve do with this flag."""

    fit_threshold: bool = False
    """Find the threshold with the highest macro F1 on these rows, which should be none that the model was trained on;
    where none helps, it says so."""

    label_issues: LabelIssueFlags = field(default_factory=LabelIssueFlags)

    best_run: BestRun = field(default_factory=BestRun)

    execution: Execution = field(default_factory=Execution)

    out: Path | None = None
    """Folder to write: metrics.json, report.html, and predictions.jsonl where the task says something of each row."""

    overwrite: bool = False
    """Replace the folder if it is there."""


def main(arguments: Sequence[str]) -> int:
    """Prints the scores."""
    parsed = parse(Arguments, arguments, "bertjax evaluate")
    with nullcontext() if parsed.out is None else locked_folder(parsed.out):
        return _evaluate(parsed)


def _evaluate(parsed: Arguments) -> int:
    if parsed.out is not None:
        check_replaceable(parsed.out, parsed.overwrite, _WRITTEN)
    if parsed.fit_threshold and parsed.threshold is not None:
        raise ConfigError("--fit-threshold finds the threshold that --threshold gives; give one of them")
    model = chosen_model(parsed.model, parsed.best_run)
    from bertjax.evaluation.evaluate_table import evaluate
    from bertjax.evaluation.run_report import console_table
    from bertjax.report_pages.section_text import print_section
    from bertjax.report_pages.text_table import print_table

    columns = {
        setting: getattr(parsed, flag) for flag, setting in _COLUMNS.items() if getattr(parsed, flag) is not None
    }
    if parsed.label_column is not None:
        columns.setdefault("labels", ())
    evaluation = evaluate(
        model,
        parsed.data,
        columns | {setting: getattr(parsed, setting) for setting in _DIALECT},
        encoding=parsed.encoding,
        on_bad_row=parsed.on_bad_row,
        threshold="fit" if parsed.fit_threshold else parsed.threshold,
        execution=parsed.execution,
    )
    findings = _findings(parsed, evaluation)
    if parsed.out is not None:
        _write(parsed.out, model, evaluation, findings)
    print_table(console_table(evaluation.report, "test"))
    for finding in findings:
        print_section(finding.section)
    say(evaluation.report.summary + (f"; metrics and report are in {parsed.out}" if parsed.out else ""))
    if evaluation.fitted is not None:
        say(_advice(evaluation.fitted))
    return 0


def _findings(parsed: Arguments, evaluation: "EvaluationResult") -> list["Finding"]:
    """What else was asked of the judged rows."""
    from bertjax.evaluation.label_issues.label_issues import label_issues

    findings = []
    if parsed.label_issues.label_issues:
        findings.append(label_issues(evaluation.judged))
    return findings


def _advice(fitted: "Threshold") -> str:
    """What a fit says, with the flag that uses it."""
    if fitted.value is None:
        return f"no threshold has a higher macro F1 than none ({fitted.plain_f1_macro:.4f}) on these rows"
    return (
        f"a threshold of {fitted.value:g} raises macro F1 from {fitted.plain_f1_macro:.4f} to {fitted.f1_macro:.4f} on "
        f"these rows and keeps {fitted.kept:.1%} of the labels; use it: --threshold {fitted.value!r} of bertjax "
        f"evaluate (on other rows), predict and serve"
    )


def _write(out: Path, name: str, evaluation: "EvaluationResult", findings: Sequence["Finding"]) -> None:
    from bertjax.evaluation.run_report import render_report
    from bertjax.settings import flatten
    from bertjax.storage.atomic_write import replaced_folder

    table, report = evaluation.table, evaluation.report
    metrics = report.flat("test")
    for finding in findings:
        metrics |= {f"test/{key}": value for key, value in finding.metrics.items()}
    shown: dict[str, Any] = {"model": name, "task": evaluation.judged.loaded.model.task}
    shown |= {"data": table.train, **{key: flatten(table)[key] for key in _COLUMNS.values()}}
    html = render_report(f"{name} on {table.train}", report, metrics, (), shown, evaluation.data_report)
    with replaced_folder(out) as scratch:
        (scratch / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        (scratch / REPORT).write_text(html, encoding="utf-8")
        if predictions := evaluation.predictions():
            lines = (json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in predictions)
            (scratch / PREDICTIONS).write_text("".join(lines), encoding="utf-8")
        for finding in findings:
            for file, content in finding.files.items():
                (scratch / file).write_text(content, encoding="utf-8")
