"""A report as Markdown that GitHub shows, such as in a pull request: short, with a picture's numbers as a table.

What users wrote stays text: markup is escaped, and nobody is mentioned.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import chain

from bertjax.report_pages.blocks import Block, Cell, ColouredText, DataTable, Details, Figure, Paragraph, Section
from bertjax.report_pages.cell_text import cell_text, is_text, one_line, shortened
from bertjax.report_pages.chart_tables import table_beside
from bertjax.report_pages.literal_text import markdown

MOST_CHARACTERS = 60_000  # GitHub takes 65,536 in a comment
_MOST_ROWS = 20
_LONGEST_CELL = 160
_PALE = 0.2  # a weight below which a word is not marked
_REFERENCE = re.compile(r"[@#](?=\w)")


def render_markdown(
    title: str,
    sections: Sequence[Section],
    subtitle: str = "",
    tiles: Sequence[tuple[str, Cell]] = (),
    opening: Sequence[Block] = (),
) -> str:
    """The Markdown of a report; the arguments are those of `html_report.render_sections`.

    A table has its first 20 rows, and says how many more there are; so does the whole, of sections that would make it
    longer than a comment may be.
    """
    headline = DataTable(("", ""), tiles)
    parts = [f"# {_text(title)}", *([_text(subtitle)] if subtitle else []), *([_table(headline)] if tiles else [])]
    parts += _written(opening)
    written = "\n\n".join(parts)
    left_out = []
    for section in sections:
        text = render_section(section)
        if len(written) + len(text) > MOST_CHARACTERS:
            left_out.append(section.title)
        else:
            written = f"{written}\n\n{text}"
    if left_out:
        written += f"\n\n*Left out here, for length: {', '.join(map(_text, left_out))}. The page has all.*"
    return f"{written}\n"


def render_section(section: Section) -> str:
    """The Markdown of one section, with its title."""
    return "\n\n".join((f"## {_text(section.title)}", *_written(section.blocks)))


def _written(blocks: Iterable[Block]) -> list[str]:
    return list(chain.from_iterable(map(_block, blocks)))


def _block(block: Block) -> list[str]:
    match block:
        case Paragraph(text, is_note):
            return [f"> {_text(text)}" if is_note else _text(text)]
        case DataTable():
            return [_table(block)]
        case Figure(chart, caption):
            table = table_beside(block)
            named = f"**{_text(chart.title)}**" + (f": {_text(caption)}" if caption else "")
            return [named, _table(table)] if table.rows else [f"{named}: there is nothing to show."]
        case ColouredText():
            return [_coloured(block)]
        case Details(summary, inner):
            return [f"<details><summary>{_html(summary)}</summary>", *_written(inner), "</details>"]


def _table(table: DataTable) -> str:
    are_words = [
        any(is_text(row[column]) for row in chain(table.rows[:_MOST_ROWS], table.averages))
        for column in range(len(table.columns))
    ]
    lines = [
        _row(_text(shortened(name, _LONGEST_CELL)) or " " for name in table.columns),
        _row(":--" if words else "--:" for words in are_words),
        *(_row(map(_cell, row)) for row in chain(table.rows[:_MOST_ROWS], table.averages)),
    ]
    left_out = len(table.rows) - _MOST_ROWS
    said = [_text(table.caption)] if table.caption else []
    said += [f"{left_out:,} more rows."] if left_out > 0 else []
    return "\n".join(lines) + (f"\n\n*{' '.join(said)}*" if said else "")


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    return _text(shortened(cell, _LONGEST_CELL)) if isinstance(cell, str) else cell_text(cell)


def _coloured(text: ColouredText) -> str:
    """Words for something are bold, words against it italic, each with its weight."""
    parts = []
    for part, weight in text.parts:
        word = _text(part)
        if part.strip() and abs(weight) >= _PALE:
            tag = "b" if weight > 0 else "i"
            word = f"<{tag}>{word}</{tag}><sub>{weight:+.2f}</sub>"
        parts.append(" " if part.isspace() else word)
    written = "".join(parts).strip()
    return f"{written}\n\n*{_text(text.caption)}*" if text.caption else written


def _text(text: str) -> str:
    """A text of users in a line of Markdown."""
    return _unreferenced(markdown(one_line(text)))


def _html(text: str) -> str:
    """A text of users in a block of HTML, where Markdown is not read."""
    return _unreferenced(escape(one_line(text)))


def _unreferenced(text: str) -> str:
    """Without mentions of people and numbers of issues, which GitHub would link and tell."""
    return _REFERENCE.sub(lambda sign: f"{sign[0]}<!-- -->", text)
