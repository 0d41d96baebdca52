"""The page of a table: findings in words, tables and charts; one file, which needs no other."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from bertjax.eda import svg_charts
from bertjax.eda.explore import Findings
from bertjax.eda.facts.typical_words import ClassWords
from bertjax.report_pages.html_page import render_page
from bertjax.report_pages.literal_text import literal
from bertjax.report_pages.text_table import TextTable

MOST_BARS = 25
_CLOUD_REM = (0.9, 2.2)  # sizes of the words with the lowest and the highest score


def render(findings: Findings, settings: Mapping[str, Any]) -> str:
    """The page as HTML."""
    return render_page(
        "eda.html.jinja",
        title=f"The table {shown(findings.source, 80)}",
        found=findings,
        tiles=tiles(findings),
        sections=_sections(findings),
        repeat_rows=_repeat_rows(findings),
        charts=_charts(findings),
        cloud=_cloud,
        most_bars=MOST_BARS,
        settings=settings,
        filters={"shown": shown, "escapes": ascii, "percent": percent, "grouped": grouped, "decimal": decimal},
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


def shown(text: str, longest: int = 60) -> str:
    """A text of users as the page has it: in one line, control characters as escapes, shortened."""
    line = literal(" ".join(text[: 4 * longest].split()))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def percent(share: float) -> str:
    """A share in per cent, and never 0% of what is there.

    >>> percent(0.1234), percent(0.00001), percent(0)
    ('12.3%', '<0.1%', '0%')
    """
    if not share:
        return "0%"
    return "<0.1%" if share < 0.0005 else f"{100 * share:.1f}%"


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


def _charts(findings: Findings) -> dict[str, Markup | list[Markup] | None]:
    lengths, drift = findings.lengths, findings.drift
    packed = lengths.packed
    charts: dict[str, Markup | list[Markup] | None] = {
        "lengths": svg_charts.columns(
            lengths.histogram, "Inputs by tokens", (lengths.max_length, f"--max-length {lengths.max_length}")
        ),
        "packing": _bars({"packed": packed.packed_share, "an example a row": packed.padded_share}, "Real tokens", True),
        "scripts": _bars({script.name: script.rows for script in findings.scripts[:MOST_BARS]}, "Rows by script"),
    }
    if findings.balance:
        counts = {label.name: label.rows for label in findings.balance.labels[:MOST_BARS]}
        charts["balance"] = _bars(counts, "Rows by label")
    if findings.numbers:
        charts["numbers"] = [svg_charts.columns(column.histogram, "Rows by value") for column in findings.numbers]
    if findings.entities:
        counts = {kind.name: kind.entities for kind in findings.entities.types[:MOST_BARS]}
        charts["entities"] = _bars(counts, "Entities by type")
    if findings.answers and findings.answers.lengths and findings.answers.places:
        charts["answer_lengths"] = svg_charts.columns(findings.answers.lengths, "Answers by words")
        charts["answer_places"] = svg_charts.columns(findings.answers.places, "Answers by place")
    if drift:
        names, labels = [period.name for period in drift.periods], list(drift.periods[0].labels)
        charts["drift_rows"] = svg_charts.periods(names, [period.rows for period in drift.periods], "Rows by period")
        shares = [list(period.labels.values()) for period in drift.periods]
        charts["drift_labels"] = svg_charts.shares(names, shares, labels, "Labels by period") if labels else None
    return charts


def _bars(values: Mapping[str, float], title: str, are_shares: bool = False) -> Markup:
    written = [percent(value) if are_shares else grouped(int(value)) for value in values.values()]
    return svg_charts.bars([shown(name) for name in values], list(values.values()), written, title)
