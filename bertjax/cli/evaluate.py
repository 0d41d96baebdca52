"""`bertjax evaluate`: a model on a labelled table, and its behaviour."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertjax.cli.flags.judged_table import COLUMNS, JudgedTable
from bertjax.cli.flags.model_choice import BEST, BestRun, chosen_model
from bertjax.cli.flags.parse_flags import check_replaceable, parse
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.cli.process.messages import complain, say
from bertjax.config import Execution
from bertjax.errors import ConfigError
from bertjax.evaluation.behaviour.behaviour_settings import BehaviourSettings
from bertjax.evaluation.evaluation_folder import WRITTEN, Evaluation
from bertjax.evaluation.label_issues.flags import LabelIssueFlags
from bertjax.evaluation.look_settings import ExplainedMistakes, IntervalSettings
from bertjax.evaluation.simple_models.beside_settings import BesideTable
from bertjax.evaluation.slices.slice_settings import SliceSettings
from bertjax.report_pages.blocks import CHARTS
from bertjax.settings import Share, check_ranges, flatten
from bertjax.storage.folder_lock import locked_folder

if TYPE_CHECKING:
    from bertjax.evaluation.behaviour.behaviour_report import Behaviour
    from bertjax.evaluation.behaviour.read_checks import Checks
    from bertjax.evaluation.evaluate_table import EvaluationResult
    from bertjax.evaluation.judged_rows import Finding
    from bertjax.evaluation.judgement import Judgement, Looks
    from bertjax.inference.loaded_model import LoadedModel
    from bertjax.tracking.tracker import Dataset, Tracker

_EXPERIMENT = "bertjax"
_OF_ROWS = ("reading", "intervals", "slicing", "mistakes", "label_issues", "simple_models")  # groups of flags


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

    reading: JudgedTable = field(default_factory=JudgedTable)

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

    tracking: Literal["none", "mlflow"] = "none"
    """Record the evaluation as a run of its own in MLflow: its numbers, the files of --out, and the pictures of the
    report. The experiment is --experiment, or bertjax."""

    out: Path | None = None
    """Folder to write: metrics.json, report.html and report.md, predictions.jsonl where the task says something of each
    row, and disagreements.jsonl with --against."""

    overwrite: bool = False
    """Replace the folder if it is there."""


def main(arguments: Sequence[str]) -> int:
    """Prints the scores."""
    parsed = parse(Arguments, arguments, "bertjax evaluate")
    with nullcontext() if parsed.out is None else locked_folder(parsed.out):
        return _evaluate(parsed)


def _evaluate(parsed: Arguments) -> int:
    if parsed.out is not None:
        check_replaceable(parsed.out, parsed.overwrite, WRITTEN, folders=(CHARTS,))
    _check_flags(parsed)
    checks = _read_checks(parsed.tests)
    tracker = _tracker(parsed)
    model = chosen_model(parsed.model, _best_run(parsed))
    folder = _saved_into(model) if parsed.save_temperature else None
    if parsed.data is None:
        assert checks is not None, "checked with the flags"
        return _behaviour_alone(parsed, model, checks, tracker)
    from bertjax.evaluation.judgement import judge
    from bertjax.evaluation.paired import check_comparable
    from bertjax.evaluation.run_report import console_table
    from bertjax.report_pages.section_text import print_section
    from bertjax.report_pages.text_table import print_table

    looks = _looks(parsed)
    _check_task(looks, model)
    if parsed.against is not None:
        check_comparable(model, parsed.against)
    evaluation = _evaluated(parsed, model)
    compared = list(_compared(parsed, model, evaluation))
    judgement = judge(evaluation.judged, looks, compared, evaluation.fitted_temperature)
    behaviour = None if checks is None else _behaviour(evaluation.judged.loaded, checks)
    if parsed.out is not None:
        _write(parsed, model, evaluation, judgement, behaviour, tracker)
    print_table(console_table(evaluation.report, "test"))
    for finding in judgement.findings:
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
    if parsed.tracking != "none" and parsed.out is None:
        raise ConfigError("--tracking records the files of a folder; name it with --out")
    if parsed.data is not None:
        return
    if parsed.tests.behaviour is None:
        raise ConfigError(
            "--data must name the table to judge; --behaviour alone needs none (see bertjax evaluate --help)"
        )
    if parsed.fit_threshold or parsed.threshold is not None:
        raise ConfigError("a threshold is judged on labelled rows; name them with --data")
    if flag := next(_flags_of_rows(parsed), None):
        raise ConfigError(f"{flag} is about labelled rows; name them with --data, or leave it out")


def _flags_of_rows(parsed: Arguments) -> Iterator[str]:
    """The flags that were given, and mean nothing without labelled rows."""
    if parsed.against is not None:
        yield "--against"
    if parsed.fit_temperature:
        yield "--fit-temperature"
    for group in (getattr(parsed, name) for name in _OF_ROWS):
        for item in fields(group):
            value, name = getattr(group, item.name), item.name.replace("_", "-")
            if value != item.default:
                yield f"--no-{name}" if value is False else f"--{name}"


def _best_run(parsed: Arguments) -> BestRun:
    """The flags of --model best, of which --experiment may be that of --tracking."""
    is_of_tracking = parsed.tracking != "none" and parsed.model != BEST
    return replace(parsed.best_run, experiment=None) if is_of_tracking else parsed.best_run


def _tracker(parsed: Arguments) -> "Tracker | None":
    """The tracker of the evaluation, checked before anything is read."""
    if parsed.tracking == "none":
        return None
    from bertjax.tracking.mlflow_tracker import MlflowTracker

    tracker = MlflowTracker(parsed.best_run.experiment or _EXPERIMENT)
    tracker.check()
    return tracker


def _looks(parsed: Arguments) -> "Looks":
    from bertjax.evaluation.judgement import Looks

    return Looks(parsed.intervals, parsed.slicing, parsed.label_issues.label_issues, parsed.mistakes)


def _check_task(looks: "Looks", model: str) -> None:
    """Checks, before the model computes anything, that it can be looked at so."""
    from bertjax.config import read_config_json
    from bertjax.model_folder.stored_settings import stored_task
    from bertjax.pretrained.files import resolve_model

    looks.check(stored_task(read_config_json(resolve_model(model))))


def _evaluated(parsed: Arguments, model: str) -> "EvaluationResult":
    """A model on the table of the flags."""
    from bertjax.evaluation.evaluate_table import evaluate

    assert parsed.data is not None, "there is a table"
    return evaluate(
        model,
        parsed.data,
        parsed.reading.columns(),
        encoding=parsed.reading.encoding,
        on_bad_row=parsed.reading.on_bad_row,
        threshold="fit" if parsed.fit_threshold else parsed.threshold,
        fit_temperature=parsed.fit_temperature,
        execution=parsed.execution,
        keep_cells=parsed.slicing.reads_cells,
    )


def _compared(parsed: Arguments, model: str, evaluation: "EvaluationResult") -> "Iterator[Finding]":
    """What the model stands beside, on the same rows."""
    judged = evaluation.judged
    if parsed.against is not None:
        from bertjax.evaluation.paired import pair, paired_finding

        other = _evaluated(parsed, parsed.against).judged
        yield paired_finding(pair(judged, other, parsed.intervals), parsed.intervals, model, parsed.against)
    if parsed.simple_models.beside:
        from bertjax.evaluation.simple_models.training_rows import beside_table

        yield beside_table(judged, parsed.simple_models)


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
    from bertjax.model_folder.stored_settings import save_temperature

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


def _behaviour_alone(parsed: Arguments, model: str, checks: "Checks", tracker: "Tracker | None") -> int:
    """The behaviour of a model, without rows to judge."""
    from bertjax.evaluation.report_sections import settings_section
    from bertjax.inference.loaded_model import load_model
    from bertjax.report_pages.blocks import Page

    behaviour = _behaviour(load_model(model, parsed.execution), checks)
    if parsed.out is not None:
        finding = behaviour.finding()
        settings = {"model": model, "behaviour": str(parsed.tests.behaviour)}
        sections = [finding.section, settings_section("", settings, {})]
        page = Page(f"Behaviour of {model}", sections, behaviour.summary)
        metrics = {f"test/{key}": value for key, value in finding.metrics.items()}
        _publish(Evaluation(page, metrics, [finding]), parsed.out, settings, tracker)
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
    parsed: Arguments,
    model: str,
    evaluation: "EvaluationResult",
    judgement: "Judgement",
    behaviour: "Behaviour | None",
    tracker: "Tracker | None",
) -> None:
    from bertjax.evaluation.run_report import RunReport
    from bertjax.tracking.tracker import Dataset

    assert parsed.out is not None, "there is a folder to write"
    judged, table, report = evaluation.judged, evaluation.table, evaluation.report
    if behaviour is not None:
        judgement = judgement._replace(findings=[*judgement.findings, behaviour.finding()])
    settings: dict[str, Any] = {"model": model, "task": judged.loaded.model.task}
    settings |= {"data": table.train, **{key: flatten(table)[key] for key in COLUMNS.values()}}
    page = RunReport(
        f"{model} on {table.train}",
        report,
        report.flat("test"),
        settings,
        evaluation.data_report,
        findings=judgement.findings,
        intervals=judgement.intervals,
    ).page()
    metrics = report.flat("test") | judgement.flat("test")
    written = Evaluation(page, metrics, judgement.findings, evaluation.predictions())
    dataset = Dataset("test", table.train, judged.rows.digest(), len(judged.rows.texts))
    _publish(written, parsed.out, settings, tracker, dataset)


def _publish(
    evaluation: Evaluation,
    out: Path,
    settings: Mapping[str, Any],
    tracker: "Tracker | None",
    dataset: "Dataset | None" = None,
) -> None:
    """Writes the folder, and records it where there is a tracker."""
    evaluation.write(out)
    if tracker is not None:
        evaluation.record(tracker, out, settings, {"bertjax.kind": "evaluation"}, dataset)
