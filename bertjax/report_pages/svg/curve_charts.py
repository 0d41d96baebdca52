"""Charts of curves: over a common axis, or across several ones."""

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from bertjax.report_pages.cell_text import shortened, unit_text
from bertjax.report_pages.charts import Lines, Parallel, Point
from bertjax.report_pages.svg.picture import (
    FOOT,
    LEFT,
    NUM_COLOURS,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    across,
    legend,
    line,
    linear_scale,
    log_scale,
    mark,
    short,
    svg,
    text,
    upwards,
)  # fmt: skip

_MOST_POINTS = 300  # a picture is no wider in pixels
_MOST_DOTS = 12
_DASHES = ("", "7 3", "2 3", "8 3 2 3", "4 2")  # so that lines differ in grey too
_GREY = "stroke: var(--quiet)"
_AXIS_WIDTH = 92


def lines(chart: Lines) -> Markup:
    """Curves with a legend below them."""
    series = {name: points for name, given in chart.series.items() if (points := _finite(given))}
    faint = {name: [points for given in curves if (points := _finite(given))] for name, curves in chart.faint.items()}
    points = [
        point for curve in (*series.values(), *(c for curves in faint.values() for c in curves)) for point in curve
    ]
    x, y = _scales(chart, points)
    drawn = list(series)[:NUM_COLOURS]
    parts = upwards(y, chart.y_unit, chart.y_title) + across(x, chart.x_unit, chart.x_title)
    entries: dict[str, str] = {}
    if chart.diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        parts.append(line("diagonal", x.place(low), y.place(low), x.place(high), y.place(high), dashes="4 3"))
        entries["x = y"] = f'style="{_GREY}" stroke-dasharray="4 3"'
    for name, curves in faint.items():
        colour = f"stroke: var(--series-{drawn.index(name) + 1})" if name in drawn else _GREY
        parts += [f'<polyline class="faint" style="{colour}" points="{_path(c, x, y)}"/>' for c in curves]
        if name not in drawn and curves:
            entries[name] = f'class="faint" style="{_GREY}"'
    for i, name in enumerate(drawn):
        style = f'class="curve" style="stroke: var(--series-{i + 1})"'
        dashes = f' stroke-dasharray="{_DASHES[i % len(_DASHES)]}"' if i % len(_DASHES) else ""
        entries[name] = style + dashes
        parts.append(f'<polyline {style}{dashes} points="{_path(series[name], x, y)}"/>')
        parts += _points(name, series[name], i, chart, x, y)
    for number, (name, place) in enumerate(chart.marks.items()):
        if x.low <= place <= x.high:
            parts += mark(name, x.place(place), height=TOP + 10 + 13 * number)
    end: float = FOOT + 34
    if len(entries) > 1 or len(series) > len(drawn):
        named, end = legend([*entries], dict(enumerate(entries.values())), end + 4)
        parts += named
    if len(series) > len(drawn):
        parts.append(text(f"{len(series) - len(drawn)} more in the table", 0, end + 10, kind="quiet"))
        end += 16
    return svg(parts, end, chart.title)


def parallel(chart: Parallel) -> Markup:
    """Lines across axes; as wide as the axes need."""
    width = max(WIDTH, _AXIS_WIDTH * len(chart.axes))
    step = width / len(chart.axes)
    at = [step * (i + 0.35) for i in range(len(chart.axes))]
    height = Scale(0, 1, (), FOOT + 20, 8)
    parts = [line("axis", x, height.place(0), x, height.place(1)) for x in at]
    for i in reversed(range(len(chart.names))):
        path = " ".join(f"{x:.5g},{height.place(axis.places[i]):.5g}" for x, axis in zip(at, chart.axes, strict=True))
        style = "stroke: var(--series-2)" if i == 0 else f"stroke-opacity: {0.15 + 0.7 * chart.strengths[i]:.2f}"
        kind = "curve" if i == 0 else "trial"
        parts.append(
            f'<polyline class="{kind}" style="{style}" points="{path}"><title>{escape(shortened(chart.names[i]))}'
            "</title></polyline>"
        )
    for x, axis in zip(at, chart.axes, strict=True):
        for place in axis.labelled:
            words = short(axis.values[list(axis.places).index(place)], 11)
            parts.append(text(words, x + 4, height.place(place) + 4, kind="quiet on-paper"))
        for row, piece in enumerate(_in_rows(axis.name, 14)):
            parts.append(text(piece, x, FOOT + 36 + 13 * row, "middle" if x > 40 else "start"))
    return svg(parts, FOOT + 36 + 13 * 2 + 4, chart.title, width)


def _scales(chart: Lines, points: Sequence[Point]) -> tuple[Scale, Scale]:
    numbers = [y for _, y in points]
    ends = [x for x, _ in points]
    if chart.diagonal and chart.x_unit == chart.y_unit == "share":
        numbers, ends = [*numbers, 0.0, 1.0], [*ends, 0.0, 1.0]
    y = log_scale(numbers, FOOT, TOP) if chart.y_scale == "log" else linear_scale(numbers, chart.y_unit, FOOT, TOP)
    round_x = linear_scale(ends, chart.x_unit, LEFT, WIDTH - RIGHT)
    low, high = min(ends), max(ends)
    if low == high:
        return round_x, y
    ticks = tuple(tick for tick in round_x.ticks if low <= tick <= high)
    return Scale(low, high, ticks if len(ticks) > 1 else (low, high), LEFT, WIDTH - RIGHT), y


def _finite(points: Iterable[Point]) -> list[Point]:
    """The points that can be drawn, some of them where there are very many."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(finite) <= _MOST_POINTS:
        return finite
    return [finite[round(i * (len(finite) - 1) / (_MOST_POINTS - 1))] for i in range(_MOST_POINTS)]


def _path(points: Sequence[Point], x: Scale, y: Scale) -> str:
    return " ".join(f"{x.place(at):.5g},{y.place(number):.5g}" for at, number in points)


def _points(name: str, points: Sequence[Point], number: int, chart: Lines, x: Scale, y: Scale) -> list[str]:
    """Dots of a curve that has few of them; a single point has no line."""
    if len(points) > _MOST_DOTS:
        return []
    of_series = f"{shortened(name)}: " if name else ""
    return [
        f'<circle style="fill: var(--series-{number + 1})" cx="{x.place(at):.5g}" cy="{y.place(value):.5g}" r="2.6">'
        f"<title>{escape(of_series)}{escape(unit_text(at, chart.x_unit))}, {escape(unit_text(value, chart.y_unit))}"
        "</title></circle>"
        for at, value in points
    ]


def _in_rows(name: str, longest: int) -> list[str]:
    """A dotted name in two rows at most."""
    if len(name) <= longest:
        return [name]
    head, dot, tail = name.rpartition(".")
    return [short(f"{head}{dot}", longest), short(tail, longest)] if head else [short(name, longest)]
