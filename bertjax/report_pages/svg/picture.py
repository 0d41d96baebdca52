"""What all pictures have: their frame, their text, and axes with round numbers.

A picture is drawn for the width of a phone, in the colours of the page and with real text. The classes that elements
have, and the variables `--series-1` to `--series-9`, are those of `theme.css.jinja`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup, escape

from bertjax.report_pages.cell_text import shortened
from bertjax.report_pages.charts import Unit

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 22, 22  # of the frame of axes
PLOT_HEIGHT = 150
FOOT = TOP + PLOT_HEIGHT
NUM_COLOURS = 9
_LETTER = 5.9  # mean width of a letter, for what must not overlap
_DIGIT = 7.0  # width of a digit in the widest of the usual fonts
_TICKS = 4

Anchor = Literal["start", "middle", "end"]


class Scale(NamedTuple):
    """An axis: which numbers it has, and where they lie.

    Attributes:
      low, high: its ends, different numbers; positive on a logarithmic axis.
      ticks: numbers to write, ascending.
      start, stop: places of its ends in the picture.
      is_log: whether it is logarithmic.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    start: float
    stop: float
    is_log: bool = False

    def place(self, number: float) -> float:
        """Where a number lies; one beyond the ends lies at the nearer end."""
        number = min(max(number, self.low), self.high)
        if self.is_log:
            share = math.log(number / self.low) / math.log(self.high / self.low)
        else:
            share = (number - self.low) / (self.high - self.low)
        return self.start + (self.stop - self.start) * share


def linear_scale(numbers: Sequence[float], unit: Unit, start: float, stop: float, from_zero: bool = False) -> Scale:
    """An axis whose ends are round numbers around some finite ones, of which there is one at least.

    It begins at zero where zero is near.
    """
    low, high = min(numbers), max(numbers)
    is_share = unit == "share" and low >= 0 and high <= 1
    if from_zero or 0 <= low < high / 2:
        low = min(low, 0.0)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    if is_share:
        return _rounded(max(low, 0.0), min(high, 1.0), start, stop, whole=False, most=1.0)
    return _rounded(low, high, start, stop, whole=unit == "count")


def log_scale(numbers: Sequence[float], start: float, stop: float) -> Scale:
    """An axis of powers of ten around the positive ones of some numbers."""
    positive = [number for number in numbers if number > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    high = max(high, low + 1)
    step = -(-(high - low) // _TICKS)
    return Scale(10.0**low, 10.0**high, tuple(10.0**power for power in range(low, high + 1, step)), start, stop, True)


def _rounded(low: float, high: float, start: float, stop: float, whole: bool, most: float = math.inf) -> Scale:
    step = _round_step((high - low) / _TICKS)
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(number for i in range(first, last + 1) if (number := round(i * step, 12)) <= most)
    return Scale(ticks[0], max(ticks[-1], high), ticks, start, stop)


def _round_step(width: float) -> float:
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= width * (1 - 1e-9))


def across(scale: Scale, unit: Unit, title: str = "", foot: float = FOOT) -> list[str]:
    """A horizontal axis below a plot, its numbers as far apart as they are wide."""
    parts = [line("axis", scale.start, foot, scale.stop, foot)]
    end = -math.inf
    for number in scale.ticks:
        words, x = tick_text(number, unit), scale.place(number)
        half = _DIGIT * (len(words) + words.count("%") / 2) / 2
        x_text = min(max(x, half), WIDTH - half)
        if x_text - half > end + 6:
            parts.append(text(words, x_text, foot + 14, "middle", "quiet"))
            end = x_text + half
    return parts + ([text(short(title, 50), (scale.start + scale.stop) / 2, foot + 29, "middle")] if title else [])


def upwards(scale: Scale, unit: Unit, title: str = "") -> list[str]:
    """A vertical axis beside a plot, with lines across the plot."""
    parts = [text(short(title, 50), 0, 11)] if title else []
    for number in scale.ticks:
        y = scale.place(number)
        parts += [
            line("axis", LEFT, y, WIDTH - RIGHT, y),
            text(tick_text(number, unit), LEFT - 5, y + 4, "end", "quiet"),
        ]
    return parts


def mark(name: str, x: float, height: int = 12) -> list[str]:
    """A line across at a place, with its name beside its head."""
    anchor: Anchor = "end" if x > WIDTH / 2 else "start"
    return [
        line("mark", x, height - 8, x, FOOT, dashes="3 2"),
        text(short(name, 26), x + (4 if anchor == "start" else -4), height, anchor, "mark-text"),
    ]


def legend(names: Sequence[str], styles: Mapping[int, str], height: float) -> tuple[list[str], float]:
    """Names with a piece of their line or area, in two columns.

    Args:
      names: of the entries.
      styles: place -> attributes of its line; the others are areas in the colour of their number.
      height: where it begins.

    Returns:
      The elements, and where they end.
    """
    columns = 1 if any(len(name) > 22 for name in names) or len(names) == 1 else 2
    width, parts = WIDTH / columns, []
    for i, name in enumerate(names):
        x, y = width * (i % columns), height + 16 * (i // columns)
        if i in styles:
            parts.append(f'<line x1="{x:.4g}" y1="{y + 6:.4g}" x2="{x + 20:.4g}" y2="{y + 6:.4g}" {styles[i]}/>')
        else:
            parts.append(
                f'<rect x="{x + 5:.4g}" y="{y + 1:.4g}" width="10" height="10" rx="2" '
                f'style="fill: var(--series-{i + 1})"/>'
            )
        parts.append(text(short(name, int((width - 26) / _LETTER)), x + 25, y + 10))
    return parts, height + 16 * -(-len(names) // columns)


def svg(parts: Sequence[str], height: float, title: str, width: float = WIDTH) -> Markup:
    """The element; parts are escaped already."""
    content = "".join(parts)
    style = f' style="min-width: {width:.5g}px"' if width > WIDTH else ""
    return Markup(
        f'<svg viewBox="0 0 {width:.5g} {height:.5g}" role="img" aria-label="{escape(shortened(title))}"{style}>'
        f"<title>{escape(shortened(title))}</title>{content}</svg>"
    )


def text(words: str, x: float, y: float, anchor: Anchor = "start", kind: str = "") -> str:
    """A line of text."""
    of_kind = f' class="{kind}"' if kind else ""
    at_anchor = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text{of_kind} x="{x:.5g}" y="{y:.5g}"{at_anchor}>{escape(words)}</text>'


def line(kind: str, x1: float, y1: float, x2: float, y2: float, dashes: str = "") -> str:
    """A straight line."""
    pattern = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line class="{kind}" x1="{x1:.5g}" y1="{y1:.5g}" x2="{x2:.5g}" y2="{y2:.5g}"{pattern}/>'


def short(name: str, longest: int) -> str:
    """A name as long as there is room for."""
    return shortened(name, longest)


def tick_text(number: float, unit: Unit) -> str:
    """A number beside an axis.

    >>> tick_text(12_345, "count"), tick_text(2_500_000, "number"), tick_text(0.25, "share"), tick_text(1e-05, "number")
    ('12.3k', '2.5M', '25%', '1e-05')
    """
    if unit == "share":
        return f"{100 * number:.4g}%"
    size = abs(number)
    if size >= 1e12:
        return f"{number:.3g}"
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{number / (1e3 if letter == 'k' else limit):.3g}{letter}"
    return f"{number:.5g}"
