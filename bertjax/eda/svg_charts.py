"""Charts as SVG text: drawn for the width of a phone, in the colours of the page, with real text.

The classes that elements have, and the variables `--series-1` to `--series-9`, are those of `shared/theme.css.jinja`.
"""

from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from bertjax.report_pages.histogram import Histogram

_WIDTH = 360
_BAR_HEIGHT, _BAR_STEP = 14, 22
_NAME_WIDTH, _VALUE_WIDTH = 118, 56
_LONGEST_NAME = 18
_PLOT_HEIGHT = 150
_LEFT, _TOP, _BOTTOM = 40, 18, 22


def bars(names: Sequence[str], values: Sequence[float], shown: Sequence[str], title: str) -> Markup:
    """Horizontal bars from zero, each with its name before it and its value behind it.

    Args:
      names: of the bars, shortened where they are long.
      values: their lengths, none below 0.
      shown: the values in words.
      title: of the chart, for readers who do not see it.
    """
    most = max(values, default=0) or 1
    room = _WIDTH - _NAME_WIDTH - _VALUE_WIDTH
    parts = []
    for i, (name, value, text) in enumerate(zip(names, values, shown, strict=True)):
        top, length = i * _BAR_STEP, max(1.0, room * value / most)
        parts.append(
            f'<text x="{_NAME_WIDTH - 6}" y="{top + 11}" text-anchor="end">{escape(_short(name))}</text>'
            f'<rect class="bar" x="{_NAME_WIDTH}" y="{top}" width="{length:.1f}" height="{_BAR_HEIGHT}" rx="2">'
            f"<title>{escape(name)}: {escape(text)}</title></rect>"
            f'<text class="quiet" x="{_NAME_WIDTH + length + 5:.1f}" y="{top + 11}">{escape(text)}</text>'
        )
    return _svg(parts, len(names) * _BAR_STEP, title)


def columns(histogram: Histogram, title: str, limit: tuple[float, str] | None = None) -> Markup:
    """A histogram, with a line at a limit where that lies inside it: its place and its name."""
    low, high = histogram.bounds[0], histogram.bounds[-1]
    most = max(histogram.counts) or 1

    def place(number: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 10) * (number - low) / ((high - low) or 1)

    parts = _frame(most)
    for count, start, stop in zip(histogram.counts, histogram.bounds, histogram.bounds[1:], strict=False):
        height = _PLOT_HEIGHT * count / most
        parts.append(
            f'<rect class="bar" x="{place(start) + 0.5:.1f}" y="{_TOP + _PLOT_HEIGHT - height:.1f}" '
            f'width="{max(0.5, place(stop) - place(start) - 1):.1f}" height="{height:.1f}">'
            f"<title>{_number(start)} to {_number(stop)}: {count}</title></rect>"
        )
    for number, anchor in ((low, "start"), ((low + high) / 2, "middle"), (high, "end")):
        parts.append(
            f'<text class="quiet" x="{place(number):.1f}" y="{_TOP + _PLOT_HEIGHT + 15}" text-anchor="{anchor}">'
            f"{_number(number)}</text>"
        )
    if limit is not None and low <= limit[0] <= high:
        x = place(limit[0])
        anchor = "end" if x > _WIDTH / 2 else "start"
        parts.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{_TOP + _PLOT_HEIGHT}" stroke-dasharray="3 2"/>'
            f'<text class="mark-text" x="{x + (4 if anchor == "start" else -4):.1f}" y="12" text-anchor="{anchor}">'
            f"{escape(limit[1])}</text>"
        )
    return _svg(parts, _TOP + _PLOT_HEIGHT + _BOTTOM, title)


def periods(names: Sequence[str], counts: Sequence[int], title: str) -> Markup:
    """A column for each period."""
    most = max(counts, default=0) or 1
    return _stacked(names, [[count / most] for count in counts], title, most, lambda i, _: f"{names[i]}: {counts[i]}")


def shares(names: Sequence[str], parts: Sequence[Sequence[float]], labels: Sequence[str], title: str) -> Markup:
    """A column for each period, of the shares of its labels, which sum to 1."""
    return _stacked(names, parts, title, "100%", lambda i, j: f"{names[i]}, {labels[j]}: {100 * parts[i][j]:.1f}%")


def _stacked(
    names: Sequence[str],
    columns_of: Sequence[Sequence[float]],
    title: str,
    most: int | str,
    described: Callable[[int, int], str],
) -> Markup:
    step = (_WIDTH - _LEFT - 10) / max(1, len(names))
    parts = _frame(most)
    for i, column in enumerate(columns_of):
        bottom = _TOP + float(_PLOT_HEIGHT)
        for j, part in enumerate(column):
            height = _PLOT_HEIGHT * part
            bottom -= height
            if height > 0:
                parts.append(
                    f'<rect style="fill: var(--series-{j + 1})" x="{_LEFT + i * step + 0.5:.1f}" y="{bottom:.1f}" '
                    f'width="{max(0.5, step - 1):.1f}" height="{height:.1f}"><title>{escape(described(i, j))}</title>'
                    "</rect>"
                )
    ends = [(0, "start"), (len(names) - 1, "end")] if len(names) > 1 else [(0, "start")]
    for i, anchor in ends:
        x = _LEFT + (i + (anchor == "end")) * step
        parts.append(
            f'<text class="quiet" x="{x:.1f}" y="{_TOP + _PLOT_HEIGHT + 15}" text-anchor="{anchor}">'
            f"{escape(names[i])}</text>"
        )
    return _svg(parts, _TOP + _PLOT_HEIGHT + _BOTTOM, title)


def _frame(most: int | str) -> list[str]:
    """The axes of columns, with the value of the highest one."""
    bottom = _TOP + _PLOT_HEIGHT
    return [
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{bottom}" y2="{bottom}"/>'
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{_TOP}" y2="{_TOP}"/>'
        f'<text class="quiet" x="{_LEFT - 5}" y="{_TOP + 4}" text-anchor="end">{_compact(most)}</text>'
        f'<text class="quiet" x="{_LEFT - 5}" y="{bottom + 4}" text-anchor="end">0</text>'
    ]


def _svg(parts: Sequence[str], height: float, title: str) -> Markup:
    content = "".join(parts)
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{content}</svg>"
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _number(number: float) -> str:
    return f"{number:.4g}" if abs(number) < 10_000 and number != int(number) else f"{number:.7g}"


def _compact(number: int | str) -> str:
    """A count in five characters.

    >>> _compact(950), _compact(12_345), _compact(2_500_000)
    ('950', '12.3k', '2.5M')
    """
    if isinstance(number, str) or number < 10_000:
        return str(number)
    return f"{number / 1e3:.3g}k" if number < 1_000_000 else f"{number / 1e6:.3g}M"
