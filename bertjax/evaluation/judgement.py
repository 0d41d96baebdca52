"""The analyses of evaluated rows that the settings ask for, for `bertjax evaluate` and a run's own test rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bertjax.evaluation.calibration import find_calibration
from bertjax.evaluation.intervals import find_intervals, interval_finding
from bertjax.evaluation.judged_rows import Finding, JudgedRows, ScoredRows
from bertjax.evaluation.look_settings import ExplainedMistakes, IntervalSettings
from bertjax.evaluation.slices.slice_finding import find_slices
from bertjax.evaluation.slices.slice_settings import SliceSettings
from bertjax.report_pages.blocks import Ranged


class Looks(NamedTuple):
    """How closely rows are looked at.

    Attributes:
      intervals: of the metrics.
      slicing: which parts of the rows are judged by themselves.
      label_issues: whether labels are doubted.
      mistakes: which answers are explained.
    """

    intervals: IntervalSettings = IntervalSettings()
    slicing: SliceSettings = SliceSettings()
    label_issues: bool = False
    mistakes: ExplainedMistakes = ExplainedMistakes()

    def check(self, task: str) -> None:
        """Checks, before anything is computed, that models of a task can be looked at so.

        Raises:
          ConfigError: they cannot, or a package is missing.
        """
        if self.label_issues:
            from bertjax.evaluation.label_issues.confident_learning import import_cleanlab
            from bertjax.evaluation.label_issues.labelled_items import check_has_items

            check_has_items(task)
            import_cleanlab()
        if self.mistakes.explain:
            from bertjax.evaluation.explained_mistakes import check_explained_mistakes

            check_explained_mistakes(task)


class Judgement(NamedTuple):
    """What was found.

    Attributes:
      intervals: of metrics by their keys, as far as they were asked for.
      findings: in the order of the page.
    """

    intervals: Mapping[str, Ranged]
    findings: Sequence[Finding]

    def flat(self, prefix: str) -> dict[str, float]:
        """The metrics of all findings: `test/slice/short_text/accuracy`."""
        return {f"{prefix}/{key}": value for finding in self.findings for key, value in finding.metrics.items()}


def judge(
    judged: JudgedRows | ScoredRows,
    looks: Looks,
    compared: Sequence[Finding] = (),
    fitted_temperature: float | None = None,
) -> Judgement:
    """Looks at judged rows; of rows without texts there are intervals and calibration only.

    Args:
      judged: a model's scores.
      looks: what is asked.
      compared: what the model was compared with, such as simple models.
      fitted_temperature: one that was fitted on these rows.

    Raises:
      UserError: see `Looks.check`; a slice that cannot be used.
    """
    scored = judged.scored if isinstance(judged, JudgedRows) else judged
    intervals = find_intervals(scored, looks.intervals) if looks.intervals.intervals else {}
    findings = list[Finding]()
    if looks.intervals.intervals and scored.report.weighted is not None:
        findings.append(interval_finding(scored.num_rows, looks.intervals, intervals))
    findings += compared
    if calibration := find_calibration(scored, fitted_temperature, intervals):
        findings.append(calibration)
    if isinstance(judged, JudgedRows):
        findings += _of_texts(judged, looks)
    return Judgement(intervals, findings)


def _of_texts(judged: JudgedRows, looks: Looks) -> Iterator[Finding]:
    if slices := find_slices(judged, looks.slicing):
        yield slices
    if looks.label_issues:
        from bertjax.evaluation.label_issues.find_issues import label_issues

        yield label_issues(judged)
    if looks.mistakes.explain:
        from bertjax.evaluation.explained_mistakes import explained_mistakes

        yield explained_mistakes(judged, looks.mistakes)
