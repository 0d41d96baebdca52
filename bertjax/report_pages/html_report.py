"""A report as one HTML page: sections with tables that sort, and pictures with their tables beside them.

A page of very many rows stays small: a table shows its first `MOST_ROWS` rows and says how many more there are, a cell
the first 500 characters of its text.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from markupsafe import Markup, escape

from bertjax.report_pages.blocks import Block, Cell, DataTable, Ranged, Section
from bertjax.report_pages.cell_text import (
    cell_text,
    is_text,
    number_text,
    one_line,
    range_text,
    shortened,
    sort_value,
    unit_cell,
)  # fmt: skip
from bertjax.report_pages.chart_tables import table_beside
from bertjax.report_pages.charts import Heatmap
from bertjax.report_pages.html_page import render_page
from bertjax.report_pages.literal_text import literal
from bertjax.report_pages.svg.draw import draw

MOST_ROWS = 500  # of a table
MOST_NAMES = 60  # on a side of a heat map
_DEEPEST_TINT = 55  # per cent of the colour, on which text can still be read


def render_sections(
    title: str,
    sections: Sequence[Section],
    subtitle: str = "",
    tiles: Sequence[tuple[str, Cell]] = (),
    opening: Sequence[Block] = (),
) -> str:
    """A self-contained HTML page.

    Args:
      title: of the page.
      sections: in order; their titles become the navigation.
      subtitle: a line below the title.
      tiles: name -> number of the headline.
      opening: blocks before the navigation.
    """
    return render_page(
        "report.html.jinja",
        BLOCK_FILTERS,
        title=one_line(title),
        subtitle=one_line(subtitle),
        tiles=tiles,
        opening=opening,
        sections=sections,
        **BLOCK_LIMITS,
    )


def _tinted(chart: Heatmap, most_names: int) -> Iterator[tuple[str, list[Cell], list[int]]]:
    """(name, cells, tint of each in per cent) of each row of a heat map; nothing is untinted."""
    values = [row[:most_names] for row in chart.values[:most_names]]
    most = max((abs(value) for row in values for value in row if not math.isnan(value)), default=0) or 1
    for name, row in zip(chart.row_names, values, strict=False):
        tints = [round(_DEEPEST_TINT * abs(value) / most) if not math.isnan(value) else 0 for value in row]
        yield name, [unit_cell(value, chart.unit) for value in row], tints


def _tint(weight: float) -> int:
    return max(6, round(_DEEPEST_TINT * min(1.0, abs(weight))))


def _has_words(table: DataTable, column: int) -> bool:
    return any(is_text(row[column]) for row in _all_rows(table))


def _all_rows(table: DataTable) -> Iterable[Sequence[Cell]]:
    return (*table.rows[:MOST_ROWS], *table.averages)


def _number_html(cell: Cell) -> Markup:
    """A cell that is no text; an interval is small behind its number."""
    if not isinstance(cell, Ranged) or math.isnan(cell.value):
        return escape(cell_text(cell))
    return escape(number_text(cell.value)) + Markup(" <small>{}</small>").format(range_text(cell))


def _visible(part: str) -> str:
    """A part of a text, with the white space around it."""
    return part if part.isspace() else literal(part.replace("\n", " ").replace("\t", " "))


def _kind(block: Any) -> str:
    return type(block).__name__


BLOCK_FILTERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "cell_text": cell_text,
        "drawn": draw,
        "has_words": _has_words,
        "number_html": _number_html,
        "is_heatmap": lambda chart: isinstance(chart, Heatmap),
        "is_text": is_text,
        "kind": _kind,
        "one_line": one_line,
        "shortened": shortened,
        "sort_value": sort_value,
        "table_beside": table_beside,
        "tint": _tint,
        "tinted": _tinted,
        "visible": _visible,
    }
)
"""What `blocks.html.jinja` calls, for pages that import it."""

BLOCK_LIMITS = MappingProxyType({"most_rows": MOST_ROWS, "most_names": MOST_NAMES})
"""The values that it names."""
