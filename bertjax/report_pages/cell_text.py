"""Cells and texts of a report as people read them, on a page and in Markdown alike."""

import math
from numbers import Integral

from bertjax.report_pages.blocks import Cell, Ranged, Share, Written
from bertjax.report_pages.charts import Unit
from bertjax.report_pages.literal_text import literal

LONGEST_CELL = 500  # characters


def cell_text(cell: Cell) -> str:
    """A cell in words.

    >>> cell_text(12345), cell_text(0.5), cell_text(Share(0.125)), cell_text(math.nan), cell_text(None)
    ('12,345', '0.5000', '12.5%', 'undefined', '')
    >>> cell_text(Ranged(0.5, 0.25, 0.75)), cell_text(Written(3, "3 of 4"))
    ('0.5000 (0.2500 to 0.7500)', '3 of 4')
    """
    if cell is None:
        return ""
    if isinstance(cell, str):
        return one_line(cell)
    if isinstance(cell, Written):
        return one_line(cell.text)
    if isinstance(cell, Ranged):
        return number_text(cell.value) if math.isnan(cell.value) else f"{number_text(cell.value)} ({range_text(cell)})"
    return number_text(cell)


def range_text(cell: Ranged) -> str:
    """An interval in words."""
    return f"{number_text(cell.low)} to {number_text(cell.high)}"


def sort_value(cell: Cell) -> float | None:
    """The number by which a cell is sorted; None for texts, and for what is empty or undefined."""
    if cell is None or isinstance(cell, str):
        return None
    number = float(cell.value if isinstance(cell, Ranged | Written) else cell)
    return None if math.isnan(number) else number


def is_text(cell: Cell) -> bool:
    """Whether a cell is written from the left, as words are."""
    return isinstance(cell, str)


def number_text(number: float) -> str:
    """A count with commas, a share in per cent, another number with four decimals, and more where it is tiny.

    >>> number_text(3), number_text(Share(0.00001)), number_text(2e-5), number_text(-12345.678)
    ('3', '<0.1%', '2e-05', '-12,345.7')
    """
    if math.isnan(number):
        return "undefined"
    if isinstance(number, Share):
        return percent(number)
    if isinstance(number, Integral):
        return f"{int(number):,}"
    if abs(number) >= 1000:
        return f"{number:,.1f}" if abs(number) < 1e15 else f"{number:.3g}"
    return f"{number:.3g}" if 0 < abs(number) < 0.0005 else f"{number:.4f}"


def unit_text(number: float, unit: Unit) -> str:
    """A number of a chart.

    >>> unit_text(1200.0, "count"), unit_text(0.25, "share"), unit_text(0.123456, "number")
    ('1,200', '25.0%', '0.1235')
    """
    return cell_text(unit_cell(number, unit))


def unit_cell(number: float, unit: Unit) -> Cell:
    """A number of a chart as a cell of its table."""
    if unit == "share":
        return Share(number)
    is_whole = unit == "count" and math.isfinite(number) and number == int(number)
    return int(number) if is_whole else float(number)


def percent(share: float) -> str:
    """A share in per cent, and never 0% of what is there.

    >>> percent(0.1234), percent(0.00001), percent(0), percent(-0.1)
    ('12.3%', '<0.1%', '0%', '-10.0%')
    """
    if not share:
        return "0%"
    return "<0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%"


def one_line(text: str) -> str:
    r"""A text in one line, without what is no sign to be read.

    >>> print(one_line(" two\n lines \x1b"))
    two lines \x1b
    """
    return literal(" ".join(text.split()))


def shortened(text: str, longest: int = LONGEST_CELL) -> str:
    """A text in one line, with the end left out where it is long."""
    line = one_line(text[: 4 * longest])
    return line if len(line) <= longest and len(text) <= 4 * longest else f"{line[: longest - 1]}…"


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
