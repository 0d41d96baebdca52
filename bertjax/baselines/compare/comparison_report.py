"""The report of a comparison: a table for the terminal and a self-contained HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from bertjax.baselines.compare.comparison_charts import loss_curves, loss_distances, scores_by_seed, speeds_by_seed
from bertjax.baselines.compare.paired_statistics import CONFIDENCE, Paired
from bertjax.baselines.compare.summary import STEPS, Pair, Summary, scores_of
from bertjax.baselines.runners.frameworks import FRAMEWORKS
from bertjax.baselines.runners.runner_result import RunResult
from bertjax.report_pages.blocks import Block, Cell, DataTable, Paragraph, Section, Share, Written
from bertjax.report_pages.cell_text import counted
from bertjax.report_pages.html_report import render_sections
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
    sections = [
        *([_scores(summary)] if summary.sides else []),
        *(_differences(pair) for pair in summary.pairs),
        *([_curves(summary, results)] if results else []),
        *([_speeds(summary), _runs(summary, results)] if summary.sides else []),
        Section("settings", "Settings", [_pairs("setting", "value", versions | dict(settings))]),
    ]
    return render_sections(f"{title}: frameworks compared", sections, _subtitle(summary, results), opening=[
        *(Paragraph(_verdict(pair, summary.metric), is_note=True) for pair in summary.pairs), *_failures(summary),
    ])  # fmt: skip


def _subtitle(summary: Summary, results: Sequence[RunResult]) -> str:
    sides = ", ".join(side.title for side in summary.sides) or "no framework"
    seeds = counted(len({result.seed for result in results}), "seed")
    test_rows = f"{len(results[0].answers) if results else 0} test rows"
    return f"{sides} on {', '.join([seeds, test_rows, *sorted({result.device for result in results})])}"


def _verdict(pair: Pair, metric: str) -> str:
    difference = pair.differences[metric]
    within = "" if difference.interval is None else f", {CONFIDENCE:.0%} interval {_interval(difference)}"
    speed = speed_sentence(pair)
    return (
        f"{_titles(pair, ' against ')}: {pair.verdicts[metric]}. {metric.replace('_', ' ')} differs by "
        f"{difference.mean:+.4f}{within}; both say the same of {pair.agreement:.1%} of the test rows."
        + (f" {speed}." if speed else "")
    )


def _failures(summary: Summary) -> list[Block]:
    if not summary.failures:
        return []
    note = "Without a result: the other runs are complete, and --resume runs these again."
    failures = [f"{failure.framework}, seed {failure.seed}: {failure.error}" for failure in summary.failures]
    return [Paragraph(note, is_note=True), *map(Paragraph, failures)]


def _scores(summary: Summary) -> Section:
    rows: list[Sequence[Cell]] = [
        (_words(name), *(Written(side.scores[name].mean, str(side.scores[name])) for side in summary.sides))
        for name in summary.sides[0].scores
    ]
    agreements = (side.own_agreement for side in summary.sides)
    rows.append(("agreement between seeds", *(None if share is None else Share(share) for share in agreements)))
    caption = (
        "Mean ± standard deviation over seeds. Agreement between seeds is what one framework says with two seeds: the "
        "noise against which the agreement of two frameworks is to be read."
    )
    return Section("scores", "Scores", [DataTable(("", *_sides(summary)), rows, caption)])


def _differences(pair: Pair) -> Section:
    rows = [
        (
            _words(name),
            Written(difference.mean, f"{difference.mean:+.4f}"),
            "" if difference.interval is None else _interval(difference),
            pair.verdicts[name],
        )
        for name, difference in pair.differences.items()
    ]
    same = "" if pair.trajectory is None else " and see the same examples in every update"
    caption = (
        f"Differences are paired: both sides start from the same weights{same}. Interval: expanded percentile "
        "bootstrap over seeds (Hesterberg 2015)."
    )
    columns = ("", "difference", f"{CONFIDENCE:.0%} interval", "verdict")
    return Section(f"{pair.first}-{pair.second}", _titles(pair, " minus "), [DataTable(columns, rows, caption)])


def _curves(summary: Summary, results: Sequence[RunResult]) -> Section:
    trained = [result for result in results if len(result.losses)]
    compared = [pair for pair in summary.pairs if pair.trajectory is not None]
    blocks: list[Block] = [loss_curves(trained)] if trained else []
    if compared:
        blocks += [loss_distances(compared), _largest_distances(compared)]
    blocks += [scores_by_seed(summary, results)]
    blocks += [speeds_by_seed(trained)] if trained else []
    return Section("curves", "Curves", blocks)


def _largest_distances(pairs: Sequence[Pair]) -> DataTable:
    rows = []
    for pair in pairs:
        assert pair.trajectory is not None
        distances = [*(pair.distance(count) for count in STEPS), float(pair.trajectory.max())]
        rows.append((_titles(pair, ", "), *(_number(distance, "{:.1e}") for distance in distances)))
    assert pairs[0].trajectory is not None
    counts = [f"{count} updates" for count in STEPS]
    columns = ("largest distance of the losses", *counts, f"all {pairs[0].trajectory.shape[1]}")
    return DataTable(columns, rows)


def _speeds(summary: Summary) -> Section:
    rows: list[Sequence[Cell]] = [
        (name, *(_number(getattr(side, key), pattern) for side in summary.sides))
        for name, key, pattern in (
            ("training examples / s", "examples_per_second", "{:.1f}"),
            ("real training tokens / s", "real_tokens_per_second", "{:.0f}"),
            ("padding, share of computed tokens", "padding_share", "{:.1%}"),
            ("seconds to the first update", "seconds_to_first_step", "{:.1f}"),
            ("test rows answered / s", "answers_per_second", "{:.1f}"),
        )
    ]
    rows.append(("peak memory, MiB", *(_number(side.peak_bytes / _MEBIBYTE, "{:.0f}") for side in summary.sides)))
    caption = (
        "Medians over seeds. Frameworks took turns, so the ratio of neighbours counts, not the absolute numbers. "
        "Training speed is without the first update; the time to the first update begins with the prepared input and "
        "includes building and compiling; test rows are answered once, compiling included. Peak memory is on the "
        "accelerator, else of the process over what it held when its input was ready."
    )
    methods = {side.title: FRAMEWORKS[side.framework].method for side in summary.sides}
    tables = [DataTable(("", *_sides(summary)), rows, caption), _pairs("framework", "method", methods)]
    return Section("speed", "Speed and memory", tables)


def _runs(summary: Summary, results: Sequence[RunResult]) -> Section:
    columns = ("framework", "seed", _words(summary.metric), "last loss", "updates", "examples / s", "first update, s",
               "peak MiB", "device")  # fmt: skip
    rows = [
        (
            run.framework,
            run.seed,
            scores_of(run)[summary.metric],
            float(run.losses[-1]) if len(run.losses) else None,
            len(run.losses),
            _number(run.examples_per_second if len(run.losses) else None, "{:.1f}"),
            _number(run.measured.get("seconds_to_first_step"), "{:.1f}"),
            _number(run.peak_bytes / _MEBIBYTE, "{:.0f}"),
            run.device,
        )
        for run in results
    ]
    return Section("runs", "Runs", [DataTable(columns, rows, "In the order in which they took turns.")])


def _pairs(name: str, value: str, values: Mapping[str, Any]) -> DataTable:
    return DataTable((name, value), [(key, str(cell)) for key, cell in values.items()])


def _number(value: float | None, pattern: str) -> Written | None:
    return None if value is None else Written(value, pattern.format(value))


def _interval(difference: Paired) -> str:
    assert difference.interval is not None
    return f"{difference.interval.low:+.4f} to {difference.interval.high:+.4f}"


def _sides(summary: Summary) -> list[str]:
    return [side.title for side in summary.sides]


def _titles(pair: Pair, between: str) -> str:
    return f"{FRAMEWORKS[pair.first].title}{between}{FRAMEWORKS[pair.second].title}"


def _words(metric: str) -> str:
    return metric.replace("_", " ")
