"""Charts of columns: histograms, and parts that lie on one another."""

from markupsafe import Markup, escape

from bertjax.report_pages.cell_text import shortened, unit_text
from bertjax.report_pages.charts import Columns, Stacked
from bertjax.report_pages.svg.picture import (
    BOTTOM,
    FOOT,
    LEFT,
    NUM_COLOURS,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    across,
    legend,
    linear_scale,
    mark,
    short,
    svg,
    text,
    tick_text,
    upwards,
)  # fmt: skip


def histogram(chart: Columns) -> Markup:
    """A column a bin, with lines at the marks."""
    bounds, counts = chart.histogram
    low, high = bounds[0], bounds[-1]
    middle = (low + high) / 2
    places = Scale(low, high, (low, middle, high), LEFT, WIDTH - RIGHT)
    heights = linear_scale((0, max(counts)), "count", FOOT, TOP)
    parts = upwards(heights, "count", "" if chart.marks else chart.y_title)
    for count, start, stop in zip(counts, bounds, bounds[1:], strict=False):
        left, top = places.place(start) + 0.5, heights.place(count)
        described = f"{tick_text(start, 'number')} to {tick_text(stop, 'number')}: {count:,}"
        parts.append(
            f'<rect class="bar" x="{left:.5g}" y="{top:.5g}" width="{max(0.5, places.place(stop) - left - 0.5):.5g}" '
            f'height="{FOOT - top:.5g}"><title>{escape(described)}</title></rect>'
        )
    parts += across(places, "number", chart.x_title)
    for name, place in chart.marks.items():
        if low <= place <= high:
            parts += mark(name, places.place(place))
    return svg(parts, FOOT + BOTTOM + (14 if chart.x_title else 0), chart.title)


def stacked(chart: Stacked) -> Markup:
    """A column a name, of parts in their colours; a legend where there are several parts."""
    sizes_of = {part: [size if size > 0 else 0.0 for size in sizes] for part, sizes in chart.parts.items()}
    totals = [sum(sizes) for sizes in zip(*sizes_of.values(), strict=True)]
    heights = linear_scale((0, 1 if chart.unit == "share" else max(totals)), chart.unit, FOOT, TOP)
    step = (WIDTH - LEFT - RIGHT) / len(chart.names)
    parts = upwards(heights, chart.unit)
    for i, name in enumerate(chart.names):
        below = 0.0
        for j, (part, sizes) in enumerate(sizes_of.items()):
            if not sizes[i]:
                continue
            bottom, top = heights.place(below), heights.place(below + sizes[i])
            below += sizes[i]
            words = ": ".join([", ".join(filter(None, (shortened(name), shortened(part)))),
                               unit_text(sizes[i], chart.unit)])  # fmt: skip
            parts.append(
                f'<rect style="fill: var(--series-{j % NUM_COLOURS + 1})" x="{LEFT + i * step + 0.5:.5g}" '
                f'y="{top:.5g}" width="{max(0.5, step - 1):.5g}" height="{bottom - top:.5g}">'
                f"<title>{escape(words)}</title></rect>"
            )
    parts.append(text(short(chart.names[0], 20), LEFT, FOOT + 14, kind="quiet"))
    if chart.names[1:]:
        parts.append(text(short(chart.names[-1], 20), WIDTH - RIGHT, FOOT + 14, "end", "quiet"))
    end: float = FOOT + BOTTOM
    if len(chart.parts) > 1:
        entries, end = legend([*chart.parts], {}, end + 2)
        parts += entries
    return svg(parts, end, chart.title)
