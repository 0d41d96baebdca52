"""Behavioural tests as a section of a report, metrics, `behaviour.json`, and a table for the terminal."""

import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bertjax.evaluation.behaviour.behaviour_file import load_checks
from bertjax.evaluation.behaviour.check_behaviour import CheckResult, check_behaviour
from bertjax.evaluation.behaviour.judge_answers import Outcome, Status
from bertjax.evaluation.behaviour.read_checks import Check, Checks, Parts
from bertjax.evaluation.judged_rows import Finding
from bertjax.inference.loaded_model import LoadedModel
from bertjax.report_pages.blocks import Block, Cell, DataTable, Details, Paragraph, Section, Share
from bertjax.report_pages.text_table import TextTable

logger = logging.getLogger(__name__)

BEHAVIOUR = "behaviour.json"
_MOST_SHOWN = 100  # cases of one outcome of a check, on the page; the file has all
_RATE_COLUMNS = ("pass rate", "passed", "failed", "not applicable")
_STATUSES: Sequence[Status] = ("failed", "passed", "not applicable")


class Rate(NamedTuple):
    """How many cases there were, by what came of them."""

    passed: int
    failed: int
    not_applicable: int

    @property
    def pass_rate(self) -> float:
        """The share of the cases that test something; NaN where none does."""
        tested = self.passed + self.failed
        return self.passed / tested if tested else math.nan


def rate_of(results: Sequence[CheckResult]) -> Rate:
    """The counts of some checks together."""
    counts = Counter(outcome.status for result in results for outcome in result.outcomes)
    return Rate(counts["passed"], counts["failed"], counts["not applicable"])


class Behaviour(NamedTuple):
    """What the behavioural tests of a model have found.

    Attributes:
      checks: of the file.
      results: one a check.
    """

    checks: Checks
    results: Sequence[CheckResult]

    @property
    def rate(self) -> Rate:
        """Of all cases."""
        return rate_of(self.results)

    @property
    def capabilities(self) -> dict[str, Rate]:
        """Of the cases of each capability, in the order of the file."""
        names = dict.fromkeys(result.check.capability for result in self.results)
        return {name: rate_of([one for one in self.results if one.check.capability == name]) for name in names}

    @property
    def summary(self) -> str:
        """One line: what was reached."""
        rate = self.rate
        aside = f", {rate.not_applicable} not applicable" if rate.not_applicable else ""
        if math.isnan(rate.pass_rate):
            return f"behaviour: no case of {self.checks.path} tests anything{aside}"
        return (
            f"behaviour: {rate.passed} of {rate.passed + rate.failed} cases of {len(self.results)} checks pass, a rate "
            f"of {rate.pass_rate:.4f}{aside}"
        )

    def shortfall(self, least: float | None) -> str | None:
        """What was reached, where that is less than what must be; None where it is enough."""
        rate = self.rate.pass_rate
        if least is None or rate >= least:
            return None
        return f"{self.summary}; --min-pass-rate asks for {least:g}"

    def finding(self) -> Finding:
        """The section, metrics and file."""
        metrics = {"behaviour/pass_rate": self.rate.pass_rate} | {
            f"behaviour/{name}/pass_rate": rate.pass_rate for name, rate in self.capabilities.items()
        }
        return Finding(
            Section("behaviour", "Behaviour", _blocks(self)),
            {key: value for key, value in metrics.items() if not math.isnan(value)},
            {BEHAVIOUR: json.dumps(_plain(self), indent=2, ensure_ascii=False) + "\n"},
        )


def judge_behaviour(loaded: LoadedModel, checks: Checks | str | Path) -> Behaviour:
    """Asks a model the checks of a file, which may be read already.

    Raises:
      UserError: see `load_checks`; a check that does not fit the model, or a task that says nothing of a text.
    """
    checks = checks if isinstance(checks, Checks) else load_checks(checks)
    behaviour = Behaviour(checks, check_behaviour(loaded, checks))
    for check in checks.checks:
        if cap := _capped(check, checks.seed):
            logger.warning("%s", cap)
    return behaviour


def tables(behaviour: Behaviour) -> tuple[DataTable, DataTable]:
    """The pass rates by capability, and by check with the worst first."""
    by_check = [
        (result.check.name, result.check.capability, result.check.kind.replace("_", " "), *_cells(rate_of([result])))
        for result in _worst_first(behaviour.results)
    ]
    all_cases = _cells(behaviour.rate)
    return (
        DataTable(
            ("capability", *_RATE_COLUMNS),
            [(name, *_cells(rate)) for name, rate in behaviour.capabilities.items()],
            "by capability",
            [("all", *all_cases)],
        ),
        DataTable(("check", "capability", "kind", *_RATE_COLUMNS), by_check, "by check"),
    )


def console_tables(behaviour: Behaviour) -> list[TextTable]:
    """The tables of pass rates for a terminal."""
    shown = []
    for table in tables(behaviour):
        text_table = TextTable(table.columns[0], title=f"behaviour {table.caption}")
        for column in _RATE_COLUMNS:
            text_table.add_column(column, justify="right")
        for row in (*table.rows, *table.averages):
            text_table.add_row(*map(_console_cell, (row[0], *row[-len(_RATE_COLUMNS) :])))
        shown.append(text_table)
    return shown


def _console_cell(cell: Cell) -> str:
    if isinstance(cell, Share):
        return "undefined" if math.isnan(cell) else f"{cell:.1%}"
    return str(cell)


def _cells(rate: Rate) -> tuple[Cell, ...]:
    return Share(rate.pass_rate), rate.passed, rate.failed, rate.not_applicable


def _worst_first(results: Sequence[CheckResult]) -> list[CheckResult]:
    """By pass rate; those that tested nothing last."""

    def place(result: CheckResult) -> float:
        rate = rate_of([result]).pass_rate
        return math.inf if math.isnan(rate) else rate

    return sorted(results, key=place)


def _capped(check: Check, seed: int) -> str:
    """What a cap left of the combinations of a check; empty where all are there."""
    if check.combinations <= check.most_texts:
        return ""
    return (
        f"check {check.name!r} has {check.combinations:,} combinations; {check.most_texts} of them are asked, drawn by "
        f"seed {seed} (most_texts)"
    )


def _blocks(behaviour: Behaviour) -> list[Block]:
    blocks: list[Block] = [
        Paragraph(f"{behaviour.summary}. The checks are those of {behaviour.checks.path}."),
        *tables(behaviour),
    ]
    caps = [_capped(check, behaviour.checks.seed) for check in behaviour.checks.checks]
    blocks += [Paragraph(cap, is_note=True) for cap in caps if cap]
    for result in _worst_first(behaviour.results):
        for status in _STATUSES:
            if outcomes := [outcome for outcome in result.outcomes if outcome.status == status]:
                blocks.append(_details(result.check, status, outcomes))
    return blocks


def _details(check: Check, status: Status, outcomes: Sequence[Outcome]) -> Details:
    """The cases of a check that had one outcome; failures are open."""
    columns, row = (_columns(check), _row) if status != "not applicable" else (("text", "change"), _row_of_nothing)
    listed = [row(outcome) for outcome in outcomes[:_MOST_SHOWN]]
    blocks: list[Block] = [DataTable(columns, listed)]
    if len(outcomes) > _MOST_SHOWN:
        blocks.append(Paragraph(f"The first {_MOST_SHOWN} of {len(outcomes)}; {BEHAVIOUR} has all.", is_note=True))
    return Details(f"{check.name}: {len(outcomes)} {status}", blocks, is_open=status == "failed")


def _columns(check: Check) -> tuple[str, ...]:
    changed = () if check.kind == "minimum_functionality" else ("changed text", "change")
    return "text", *changed, "expected", "got", "probability"


def _row(outcome: Outcome) -> tuple[Cell, ...]:
    case = outcome.case
    changed = () if case.changed is None else (_shown(case.changed), case.change)
    return _shown(case.text), *changed, outcome.expected, outcome.got, outcome.probability


def _row_of_nothing(outcome: Outcome) -> tuple[Cell, ...]:
    return _shown(outcome.case.text), outcome.case.change


def _shown(parts: Parts) -> str:
    """A text in one cell."""
    return " | ".join(parts.values())


def _plain(behaviour: Behaviour) -> dict[str, Any]:
    """All that was found, as JSON has it; a rate that is undefined is null."""
    return {
        "checks_file": behaviour.checks.path,
        "seed": behaviour.checks.seed,
        **_plain_rate(behaviour.rate),
        "capabilities": {name: _plain_rate(rate) for name, rate in behaviour.capabilities.items()},
        "checks": [
            {
                "name": result.check.name,
                "capability": result.check.capability,
                "kind": result.check.kind,
                **_plain_rate(rate_of([result])),
                "combinations": result.check.combinations,
                "asked_combinations": min(result.check.combinations, result.check.most_texts),
                "cases": [_plain_outcome(outcome) for outcome in result.outcomes],
            }
            for result in behaviour.results
        ],
    }


def _plain_rate(rate: Rate) -> dict[str, Any]:
    return {"pass_rate": None if math.isnan(rate.pass_rate) else rate.pass_rate, **rate._asdict()}


def _plain_outcome(outcome: Outcome) -> dict[str, Any]:
    case = outcome.case
    changed = {} if case.changed is None else {"changed": _plain_parts(case.changed), "change": case.change}
    return {
        "status": outcome.status,
        "text": _plain_parts(case.text),
        **changed,
        "expected": outcome.expected,
        "got": outcome.got,
        "probability": outcome.probability,
    }


def _plain_parts(parts: Parts) -> Any:
    return parts["text"] if parts.keys() == {"text"} else dict(parts)
