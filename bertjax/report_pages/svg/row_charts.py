"""Charts of names, one a row: bars and dots."""

import math

from markupsafe import Markup, escape

from bertjax.report_pages.cell_text import shortened, unit_text
from bertjax.report_pages.charts import Bars, Dots
from bertjax.report_pages.svg.picture import NUM_COLOURS, RIGHT, WIDTH, across, line, linear_scale, short, svg, text

_NAME_WIDTH, _VALUE_WIDTH = 118, 56
_LONGEST_NAME = 18
_BAR_HEIGHT, _BAR_STEP, _DOT_STEP = 14, 22, 30
MOST_BARS = 40  # in a picture; its table has all


def bars(chart: Bars) -> Markup:
    """Horizontal bars, each with its name before it and its value behind it."""
    shown = {name: value for name, value in chart.values.items() if math.isfinite(value)}
    drawn = dict(list(shown.items())[:MOST_BARS])
    most = max(drawn.values()) or 1
    room = WIDTH - _NAME_WIDTH - _VALUE_WIDTH
    parts = []
    for i, (name, value) in enumerate(drawn.items()):
        top, length, words = i * _BAR_STEP, max(1.0, room * value / most), unit_text(value, chart.unit)
        parts += [
            text(short(name, _LONGEST_NAME), _NAME_WIDTH - 6, top + 11, "end"),
            f'<rect class="bar" x="{_NAME_WIDTH}" y="{top}" width="{length:.4g}" height="{_BAR_HEIGHT}" rx="2">'
            f"<title>{escape(shortened(name))}: {escape(words)}</title></rect>",
            text(words, _NAME_WIDTH + length + 5, top + 11, kind="quiet"),
        ]
    height = len(drawn) * _BAR_STEP
    if len(drawn) < len(shown):
        parts.append(text(f"{len(shown) - len(drawn):,} more in the table", _NAME_WIDTH, height + 11, kind="quiet"))
        height += _BAR_STEP
    return svg(parts, height, chart.title)


def dots(chart: Dots) -> Markup:
    """A row a group, with a dot for each number, a bar at their mean, and lines between dots of one name."""
    groups = {
        name: {dot: value for dot, value in values.items() if math.isfinite(value)}
        for name, values in chart.groups.items()
    }
    numbers = [value for values in groups.values() for value in values.values()]
    scale = linear_scale(numbers, chart.unit, _NAME_WIDTH + 6, WIDTH - RIGHT, chart.from_zero)
    foot = len(groups) * _DOT_STEP
    parts, joined = [], dict[str, list[str]]()
    for i, (name, values) in enumerate(groups.items()):
        y, colour = i * _DOT_STEP + _DOT_STEP / 2, i % NUM_COLOURS + 1
        parts.append(text(short(name, _LONGEST_NAME), _NAME_WIDTH - 6, y + 4, "end"))
        if values:
            mean = scale.place(sum(values.values()) / len(values))
            parts.append(
                f'<line class="curve" style="stroke: var(--series-{colour})" '
                f'x1="{mean:.5g}" y1="{y - 9:.5g}" x2="{mean:.5g}" y2="{y + 9:.5g}"/>'
            )
        for dot, value in values.items():
            x = scale.place(value)
            joined.setdefault(dot, []).append(f"{x:.5g},{y:.5g}")
            described = f"{shortened(name)}, {shortened(f'{chart.dot_title} {dot}')}: {unit_text(value, chart.unit)}"
            parts.append(
                f'<circle style="fill: var(--series-{colour})" cx="{x:.5g}" cy="{y:.5g}" r="3.5">'
                f"<title>{escape(described)}</title></circle>"
            )
    between = [f'<polyline class="axis" points="{" ".join(points)}"/>' for points in joined.values() if points[1:]]
    grid = [line("axis", scale.place(tick), 0, scale.place(tick), foot) for tick in scale.ticks]
    axis = across(scale, chart.unit, chart.value_title, foot)
    return svg([*grid, *between, *axis, *parts], foot + 34, chart.title)
