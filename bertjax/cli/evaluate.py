"""`bertjax evaluate`: a model on a labelled table, and its behaviour."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertjax.cli.flags.model_choice import BestRun, chosen_model
from bertjax.cli.flags.parse_flags import check_replaceable, parse
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain, say
from bertjax.config import Execution
from bertjax.data.table import AnswerAs, Table, TagScheme
from bertjax.errors import ConfigError
from bertjax.evaluation.behaviour.behaviour_settings import BehaviourSettings
from bertjax.evaluation.explain_settings import EXPLANATIONS, ExplainedMistakes
from bertjax.evaluation.interval_settings import IntervalSettings
from bertjax.evaluation.label_issues.flags import LABEL_ISSUES, LabelIssueFlags
from bertjax.evaluation.simple_models.beside_settings import BesideTable
from bertjax.evaluation.slices.slice_settings import SLICES, SliceSettings
from bertjax.settings import Share, check_ranges
from bertjax.storage.folder_lock import locked_folder

if TYPE_CHECKING:
    from bertjax.evaluation.behaviour.behaviour_report import Behaviour
    from bertjax.evaluation.behaviour.read_checks import Checks
    from bertjax.evaluation.evaluate_table import EvaluationResult
    from bertjax.evaluation.judged_rows import Finding
    from bertjax.inference.loaded_model import LoadedModel
    from bertjax.report_pages.blocks import Ranged

METRICS, REPORT, MARKDOWN, PREDICTIONS = "metrics.json", "report.html", "report.md", "predictions.jsonl"
DISAGREEMENTS, BEHAVIOUR = "disagreements.jsonl", "behaviour.json"
_FILES = (METRICS, REPORT, MARKDOWN, PREDICTIONS, DISAGREEMENTS, BEHAVIOUR, SLICES, EXPLANATIONS, LABEL_ISSUES)
_WRITTEN = re.compile("|".join(map(re.escape, _FILES)))
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

    data: str | None = None
    """The table: a file, a pattern of several, an address, or a data set of the catalog; --behaviour needs none."""

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

    against: str | None = None
    """Another model for the same rows: the difference of each metric, --model minus --against, its interval and what
    that says, and the rows on which they disagree."""

    fit_temperature: bool = False
    """Find the temperature of the model's probabilities that has the least log loss on these rows, which should be none
    that the model was trained on, and show what it changes. Labels stay; a run with validation rows has fitted one."""

    save_temperature: bool = False
    """With --fit-temperature: write it into the model's folder; from then on probabilities are those under it."""

    intervals: IntervalSettings = field(default_factory=IntervalSettings)

    slicing: SliceSettings = field(default_factory=SliceSettings)

    tests: BehaviourSettings = field(default_factory=BehaviourSettings)

    mistakes: ExplainedMistakes = field(default_factory=ExplainedMistakes)

    label_issues: LabelIssueFlags = field(default_factory=LabelIssueFlags)

    simple_models: BesideTable = field(default_factory=BesideTable)

    best_run: BestRun = field(default_factory=BestRun)

    execution: Execution = field(default_factory=Execution)

    out: Path | None = None
    """Folder to write: metrics.json, report.html, predictions.jsonl where the task says something of each row, and
    disagreements.jsonl with --against."""

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
    _check_flags(parsed)
    checks = _read_checks(parsed.tests)
    model = chosen_model(parsed.model, parsed.best_run)
    folder = _saved_into(model) if parsed.save_temperature else None
    if parsed.data is None:
        assert checks is not None, "checked with the flags"
        return _behaviour_alone(parsed, model, checks)
    from bertjax.evaluation.paired import check_comparable
    from bertjax.evaluation.run_report import console_table
    from bertjax.report_pages.section_text import print_section
    from bertjax.report_pages.text_table import print_table

    if parsed.against is not None:
        check_comparable(model, parsed.against)
    evaluation = _evaluated(parsed, model)
    intervals = _intervals(parsed.intervals, evaluation)
    findings = list(_findings(parsed, model, evaluation, intervals))
    behaviour = None if checks is None else _behaviour(evaluation.judged.loaded, checks)
    if parsed.out is not None:
        of_behaviour = [] if behaviour is None else [behaviour.finding()]
        _write(parsed.out, model, evaluation, [*findings, *of_behaviour], intervals)
    print_table(console_table(evaluation.report, "test"))
    for finding in findings:
        print_section(finding.section)
    say(evaluation.report.summary + (f"; metrics and report are in {parsed.out}" if parsed.out else ""))
    if evaluation.fitted is not None:
        say(evaluation.fitted.advice("these rows"))
    if parsed.fit_temperature:
        _tell_temperature(evaluation, folder)
    return ExitCode.OK if behaviour is None else _shown(behaviour, parsed.tests)


def _check_flags(parsed: Arguments) -> None:
    """Checks that the flags do not contradict each other.

    Raises:
      ConfigError: they do, or a number of the tests is out of its range.
    """
    check_ranges(parsed.tests)
    if parsed.fit_threshold and parsed.threshold is not None:
        raise ConfigError("--fit-threshold finds the threshold that --threshold gives; give one of them")
    if parsed.save_temperature and not parsed.fit_temperature:
        raise ConfigError("--save-temperature writes what --fit-temperature finds; give both")
    if parsed.tests.min_pass_rate is not None and parsed.tests.behaviour is None:
        raise ConfigError("--min-pass-rate is of behavioural tests; name their file with --behaviour")
    if parsed.mistakes.explain and parsed.out is None:
        raise ConfigError("--explain writes its examples into a folder; name it with --out")
    if parsed.data is not None:
        return
    if parsed.tests.behaviour is None:
        raise ConfigError(
            "--data must name the table to judge; --behaviour alone needs none (see bertjax evaluate --help)"
        )
    if parsed.fit_threshold or parsed.threshold is not None:
        raise ConfigError("a threshold is judged on labelled rows; name them with --data")


def _evaluated(parsed: Arguments, model: str) -> "EvaluationResult":
    """A model on the table of the flags."""
    from bertjax.evaluation.evaluate_table import evaluate

    assert parsed.data is not None, "there is a table"
    columns = {
        setting: getattr(parsed, flag) for flag, setting in _COLUMNS.items() if getattr(parsed, flag) is not None
    }
    if parsed.label_column is not None:
        columns.setdefault("labels", ())
    return evaluate(
        model,
        parsed.data,
        columns | {setting: getattr(parsed, setting) for setting in _DIALECT},
        encoding=parsed.encoding,
        on_bad_row=parsed.on_bad_row,
        threshold="fit" if parsed.fit_threshold else parsed.threshold,
        fit_temperature=parsed.fit_temperature,
        execution=parsed.execution,
        keep_cells=parsed.slicing.reads_cells,
    )


def _intervals(settings: IntervalSettings, evaluation: "EvaluationResult") -> "Mapping[str, Ranged]":
    if not settings.intervals:
        return {}
    from bertjax.evaluation.intervals import find_intervals

    return find_intervals(evaluation.judged, settings)


def _findings(
    parsed: Arguments, model: str, evaluation: "EvaluationResult", intervals: "Mapping[str, Ranged]"
) -> "Iterator[Finding]":
    """What each look at the judged rows has found, in the order of the report."""
    from bertjax.evaluation.calibration import find_calibration
    from bertjax.evaluation.slices.slice_finding import find_slices

    judged = evaluation.judged
    if parsed.intervals.intervals:
        from bertjax.evaluation.intervals import interval_finding

        yield interval_finding(judged, parsed.intervals, intervals)
    if parsed.against is not None:
        from bertjax.evaluation.paired import pair, paired_finding

        other = _evaluated(parsed, parsed.against).judged
        yield paired_finding(pair(judged, other, parsed.intervals), parsed.intervals, model, parsed.against)
    if parsed.simple_models.beside:
        from bertjax.evaluation.simple_models.training_rows import beside_table

        yield beside_table(judged, parsed.simple_models)
    for finding in (
        find_calibration(judged, evaluation.fitted_temperature),
        find_slices(judged, parsed.slicing),
    ):
        if finding is not None:
            yield finding
    if parsed.label_issues.label_issues:
        from bertjax.evaluation.label_issues.find_issues import label_issues

        yield label_issues(judged)
    if parsed.mistakes.explain:
        from bertjax.evaluation.explained_mistakes import explained_mistakes

        yield explained_mistakes(judged, parsed.mistakes)


def _saved_into(name: str) -> Path:
    """The folder of a model that lies on this machine under the user's own name for it."""
    from bertjax.pretrained.files import local_folder

    folder = local_folder(name)
    if folder is None:
        raise ConfigError(
            f"--save-temperature writes into a model folder of yours, and --model {name} is none; export the model to "
            f"one first: bertjax export"
        )
    return folder


def _tell_temperature(evaluation: "EvaluationResult", folder: Path | None) -> None:
    """Prints the fitted temperature, and writes it into a folder where one is given."""
    from bertjax.evaluation.calibration import temperature_advice
    from bertjax.model_folder import save_temperature

    temperature = evaluation.fitted_temperature
    say(temperature_advice(evaluation.judged, temperature))
    if folder is not None and temperature is not None:
        save_temperature(folder, temperature)
        say(f"{folder} has temperature {temperature:g} from now on")


def _read_checks(settings: BehaviourSettings) -> "Checks | None":
    """The checks of behaviour, read before the model: a mistake in their file is told at once."""
    if settings.behaviour is None:
        return None
    from bertjax.evaluation.behaviour.behaviour_file import load_checks

    return load_checks(settings.behaviour)


def _behaviour(loaded: "LoadedModel", checks: "Checks") -> "Behaviour":
    from bertjax.evaluation.behaviour.behaviour_report import judge_behaviour

    return judge_behaviour(loaded, checks)


def _behaviour_alone(parsed: Arguments, model: str, checks: "Checks") -> int:
    """The behaviour of a model, without rows to judge."""
    from bertjax.inference.loaded_model import load_model
    from bertjax.storage.atomic_write import replaced_folder

    behaviour = _behaviour(load_model(model, parsed.execution), checks)
    if parsed.out is not None:
        with replaced_folder(parsed.out) as scratch:
            _write_findings(scratch, {}, [behaviour.finding()])
    return _shown(behaviour, parsed.tests)


def _shown(behaviour: "Behaviour", settings: BehaviourSettings) -> int:
    """Prints what was found, and returns the exit status that the gate gives."""
    from bertjax.evaluation.behaviour.behaviour_report import console_tables
    from bertjax.report_pages.text_table import print_table

    for table in console_tables(behaviour):
        print_table(table)
    say(behaviour.summary)
    if shortfall := behaviour.shortfall(settings.min_pass_rate):
        complain(shortfall)
        return ExitCode.FAILED
    return ExitCode.OK


def _write(
    out: Path,
    name: str,
    evaluation: "EvaluationResult",
    findings: "Sequence[Finding]",
    intervals: "Mapping[str, Ranged]",
) -> None:
    from bertjax.evaluation.run_report import RunReport
    from bertjax.settings import flatten
    from bertjax.storage.atomic_write import replaced_folder

    table, report = evaluation.table, evaluation.report
    metrics = report.flat("test")
    shown: dict[str, Any] = {"model": name, "task": evaluation.judged.loaded.model.task}
    shown |= {"data": table.train, **{key: flatten(table)[key] for key in _COLUMNS.values()}}
    page = RunReport(
        f"{name} on {table.train}",
        report,
        metrics,
        shown,
        evaluation.data_report,
        findings=findings,
        intervals=intervals,
    )
    with replaced_folder(out) as scratch:
        _write_findings(scratch, metrics, findings)
        (scratch / REPORT).write_text(page.html(), encoding="utf-8")
        (scratch / MARKDOWN).write_text(page.markdown(), encoding="utf-8")
        if predictions := evaluation.predictions():
            lines = (json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in predictions)
            (scratch / PREDICTIONS).write_text("".join(lines), encoding="utf-8")


def _write_findings(folder: Path, metrics: Mapping[str, float], findings: "Sequence[Finding]") -> None:
    """Writes the metrics, with those of the findings, and the findings' files."""
    found = {f"test/{key}": value for finding in findings for key, value in finding.metrics.items()}
    (folder / METRICS).write_text(json.dumps({**metrics, **found}, indent=2) + "\n", encoding="utf-8")
    for finding in findings:
        for name, content in finding.files.items():
            (folder / name).write_text(content, encoding="utf-8")
