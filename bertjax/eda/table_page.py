"""The page of a table: findings in words, tables and charts; one file, which needs no other."""

from collections.abc import Mapping
from typing import Any

from bertjax.eda.facts.typical_words import ClassWords
from bertjax.eda.findings import Findings
from bertjax.report_pages.cell_text import percent, shortened
from bertjax.report_pages.charts import Bars, Chart, Columns, Stacked
from bertjax.report_pages.html_page import render_page
from bertjax.report_pages.svg.draw import draw
from bertjax.report_pages.text_table import TextTable

MOST_BARS = 25
_ON_THE_PAGE_ONLY = ("packing", "scripts")
_CLOUD_REM = (0.9, 2.2)  # sizes of the words with the lowest and the highest score


def render(findings: Findings, settings: Mapping[str, Any]) -> str:
    """The page as HTML."""
    return render_page(
        "eda.html.jinja",
        title=f"The table {shortened(findings.source, 80)}",
        found=findings,
        tiles=tiles(findings),
        sections=_sections(findings),
        repeat_rows=_repeat_rows(findings),
        pictures={name: draw(chart) for name, chart in charts(findings).items()},
        cloud=_cloud,
        most_bars=MOST_BARS,
        settings=settings,
        filters={"shown": shortened, "escapes": ascii, "percent": percent, "grouped": grouped, "decimal": decimal},
    )


def console_table(findings: Findings) -> TextTable:
    """The most important numbers, for the terminal."""
    table = TextTable("", "", title=headline_of(findings), show_header=False)
    for name, value, _ in tiles(findings):
        table.add_row(name, value)
    return table


def headline_of(findings: Findings) -> str:
    """The table and its task."""
    return f"{findings.source}, read as {findings.task.replace('_', ' ')}"


def tiles(findings: Findings) -> list[tuple[str, str, bool]]:
    """(name, value, whether someone should look) of the most important numbers."""
    repeats, lengths, balance = findings.repeats, findings.lengths, findings.balance
    sample = f" of {grouped(findings.rows)}" if findings.examined < findings.rows else ""
    found = [
        ("rows", f"{grouped(findings.examined)}{sample}", False),
        ("without text", grouped(findings.without_text), findings.without_text > 0),
    ]
    if findings.num_broken:
        found.append(("broken rows", grouped(findings.num_broken), True))
    if findings.without_label is not None:
        found.append(("without a usable label", grouped(findings.without_label), findings.without_label > 0))
    if balance:
        found.append(("labels", grouped(balance.distinct), False))
        if balance.look_alikes:
            found.append(("groups of labels that look alike", grouped(len(balance.look_alikes)), True))
    found += [
        ("duplicate rows", grouped(repeats.duplicates), repeats.duplicates > 0),
        ("near-duplicate rows", grouped(repeats.near_rows), repeats.near_rows > 0),
    ]
    if findings.without_label is not None:
        found.append(("texts with contradicting labels", grouped(repeats.contradictions), repeats.contradictions > 0))
    found += [(f"rows that leak into {side}", grouped(rows), rows > 0) for side, rows in repeats.leaks.items()]
    found += [
        (f"above {lengths.max_length} tokens", percent(lengths.longer / lengths.inputs), lengths.longer > 0),
        ("of tokens are [UNK]", percent(lengths.unknown), lengths.unknown > 0.01),
        ("real tokens when packed", percent(lengths.packed.packed_share), False),
    ]
    return found


def grouped(number: int) -> str:
    """A count with commas.

    >>> grouped(12345)
    '12,345'
    """
    return f"{number:,}"


def decimal(number: float) -> str:
    """A number with as many digits as say something.

    >>> decimal(12.345), decimal(3.0), decimal(0.01234), decimal(123456.7)
    ('12.3', '3', '0.0123', '123,457')
    """
    if number == int(number) and abs(number) < 1e15:
        return f"{int(number):,}"
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e15 else f"{number:.3g}"


def _sections(findings: Findings) -> list[tuple[str, str]]:
    present = {
        "columns": ("Columns", True),
        "labels": ("Targets" if findings.numbers else "Labels", bool(findings.balance or findings.numbers)),
        "entities": ("Entities", findings.entities is not None),
        "answers": ("Answers", findings.answers is not None),
        "lengths": ("Lengths", True),
        "repeats": ("Repeated texts", True),
        "words": ("Typical words", bool(findings.words)),
        "drift": ("Drift", findings.drift is not None),
        "scripts": ("Scripts", bool(findings.scripts)),
        "settings": ("Settings", True),
    }
    return [(anchor, name) for anchor, (name, is_there) in present.items() if is_there]


def _repeat_rows(findings: Findings) -> list[tuple[str, int]]:
    repeats = findings.repeats
    rows = [
        ("duplicates: an earlier row has the same text, letter by letter", repeats.duplicates),
        (f"near-duplicates: an earlier row shares {percent(repeats.threshold)} of its words or more",
         repeats.near_rows),
    ]  # fmt: skip
    if findings.without_label is not None:
        rows.append(("contradictions: the same text has rows with another label", repeats.contradicting_rows))
    return rows + [(f"leaks: the {side} table has the same text", count) for side, count in repeats.leaks.items()]


def _cloud(described: ClassWords) -> list[tuple[str, float]]:
    """The typical words and pairs of a class and their sizes in rem, in alphabetical order; a pair takes the place of
    its words where it says more."""
    terms = sorted([*described.words, *described.pairs], key=lambda term: -term.score)[:30]
    if not terms:
        return []
    low, high = terms[-1].score, terms[0].score
    small, large = _CLOUD_REM
    sizes = [round(small + (large - small) * (term.score - low) / ((high - low) or 1), 2) for term in terms]
    return sorted((term.word, size) for term, size in zip(terms, sizes, strict=True))


def charts(findings: Findings) -> dict[str, Chart]:
    """The charts by name: those of the page, and the names of their files."""
    lengths, packed, drift = findings.lengths, findings.lengths.packed, findings.drift
    limit = {f"--max-length {lengths.max_length}": float(lengths.max_length)}
    found: dict[str, Chart] = {
        "lengths": Columns("Inputs by tokens", lengths.histogram, "tokens", "inputs", limit),
        "packing": Bars(
            "Real tokens", {"packed": packed.packed_share, "an example a row": packed.padded_share}, "share"
        ),
        "scripts": _bars("Rows by script", {script.name: script.rows for script in findings.scripts}, "rows"),
    }
    if findings.balance:
        found["labels"] = _bars("Rows by label", {label.name: label.rows for label in findings.balance.labels}, "rows")
    for number, column in enumerate(findings.numbers or (), start=1):
        found[f"target_{number}"] = Columns("Rows by value", column.histogram, column.name, "rows")
    if findings.entities:
        entities = {kind.name: kind.entities for kind in findings.entities.types}
        found["entities"] = _bars("Entities by type", entities, "entities")
    if findings.answers and findings.answers.lengths and findings.answers.places:
        found["answer_lengths"] = Columns("Answers by words", findings.answers.lengths, "words", "answers")
        found["answer_places"] = Columns("Answers by place", findings.answers.places, "place", "answers")
    if drift:
        names, labels = [period.name for period in drift.periods], list(drift.periods[0].labels)
        found["drift"] = Stacked("Rows by period", names, {"rows": [period.rows for period in drift.periods]})
        if labels:
            shares = {label: [period.labels[label] for period in drift.periods] for label in labels}
            found["drift_labels"] = Stacked("Labels by period", names, shares, "share")
    return found


def charts_for_files(findings: Findings) -> dict[str, Chart]:
    """The charts that are worth a file of their own."""
    return {name: chart for name, chart in charts(findings).items() if name not in _ON_THE_PAGE_ONLY}


def _bars(title: str, values: Mapping[str, int], what: str) -> Bars:
    return Bars(title, dict(list(values.items())[:MOST_BARS]), "count", value_title=what)
