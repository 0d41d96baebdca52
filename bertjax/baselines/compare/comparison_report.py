"""The report of a comparison: a table for the terminal and a self-contained HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from bertjax.baselines.compare.comparison_plots import plots
from bertjax.baselines.compare.paired_statistics import CONFIDENCE
from bertjax.baselines.compare.summary import STEPS, Pair, Summary, scores_of
from bertjax.baselines.runners.frameworks import FRAMEWORKS
from bertjax.baselines.runners.runner_result import RunResult
from bertjax.report_pages.html_page import render_page
from bertjax.report_pages.text_table import TextTable

_MEBIBYTE = 2**20


def console_table(summary: Summary) -> TextTable:
    """One line a framework."""
    table = TextTable()
    table.add_column("framework")
    columns = (f"{summary.metric} ± sd", "examples/s", "real tokens/s", "padding", "first step", "peak MiB", "verdict")
    for name in columns:
        table.add_column(name, justify="left" if name == "verdict" else "right")
    verdicts = {pair.second: pair.verdicts[summary.metric] for pair in summary.pairs}
    for side in summary.sides:
        table.add_row(
            side.title,
            str(side.scores[summary.metric]),
            _shown(side.examples_per_second, "{:.1f}"),
            _shown(side.real_tokens_per_second, "{:.0f}"),
            _shown(side.padding_share, "{:.1%}"),
            _shown(side.seconds_to_first_step, "{:.1f} s"),
            f"{side.peak_bytes / _MEBIBYTE:.0f}",
            verdicts.get(side.framework, ""),
        )
    return table


def speed_sentence(pair: Pair) -> str | None:
    """How many times as fast the first framework trains, and what the second one is; None where one trains nothing."""
    if pair.speed_ratio is None:
        return None
    first, second = FRAMEWORKS[pair.first], FRAMEWORKS[pair.second]
    return (
        f"{first.title} trains {pair.speed_ratio:.2f} times as many examples a second as {second.title} "
        f"({second.method})"
    )


def _shown(value: float | None, pattern: str) -> str:
    return "" if value is None else pattern.format(value)


def render_comparison(title: str, summary: Summary, results: Sequence[RunResult], settings: Mapping[str, Any]) -> str:
    """A self-contained HTML page.

    Args:
      title: of the page.
      summary: of the results.
      results: of finished runs, in the order in which they took turns.
      settings: flat.
    """
    versions = {name: version for result in results for name, version in result.versions.items()}
    return render_page(
        "comparison.html.jinja",
        title=title,
        summary=summary,
        results=results,
        plots=plots(summary, results) if results else {},
        settings=versions | dict(settings),
        devices=sorted({result.device for result in results}),
        seeds=sorted({result.seed for result in results}),
        test_rows=len(results[0].answers) if results else 0,
        confidence=CONFIDENCE,
        shown=_shown,
        speed_sentence=speed_sentence,
        methods={FRAMEWORKS[side.framework].title: FRAMEWORKS[side.framework].method for side in summary.sides},
        scores_of=scores_of,
        mebibyte=_MEBIBYTE,
        steps=STEPS,
    )
