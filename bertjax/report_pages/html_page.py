"""The rendering of HTML pages that need no other file: style sheet, pictures and scripts are inside."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render_page(template: str, filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any) -> str:
    """Renders a template of the folder `templates`.

    Args:
      template: its file name, such as `report.html.jinja`.
      filters: functions that the template calls by name, beside `number`.
      **values: what the template names; text is escaped, `Markup` is not.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": format_number, **(filters or {})}
    return environment.get_template(template).render(values)


def format_number(value: float) -> str:
    """A count as it is, any other number with four decimals.

    >>> format_number(3), format_number(0.5), format_number(math.nan)
    ('3', '0.5000', 'undefined')
    """
    if math.isnan(value):
        return "undefined"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
