"""The page for people at `GET /`: a box for each column of the model, and its answer drawn by kind.

It is one document with its style and script inside, and asks nothing of any other server: its security policy names
both by hash, and allows requests to where the page came from. What users write and models answer is text to it.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from bertjax.report_pages.html_page import render_page

_INLINE = {name: re.compile(f"<{name}>(.*?)</{name}>", re.DOTALL) for name in ("style", "script")}


class Box(NamedTuple):
    """A field of the form.

    Attributes:
      name: the column, or what stands in its place.
      side: whether it belongs to the first or to the second text.
      lines: it holds a list, one item a line.
      short: it mostly holds a line or two.
    """

    name: str
    side: Literal["first", "second"] = "first"
    lines: bool = False
    short: bool = False


class Page(NamedTuple):
    """The document, and the headers that protect it."""

    html: str
    headers: Mapping[str, str]


def make_page(
    title: str, task: str, facts: Sequence[str], boxes: Sequence[Box], by_column: bool, key_header: tuple[str, str] | None
) -> Page:
    """Makes the page of a model.

    Args:
      title: name of the model.
      task: what it does.
      facts: shown below the title.
      boxes: the fields, in their order.
      by_column: whether the names of the boxes are columns; else they stand for a text, or a pair.
      key_header: name of the header that carries the API key, and what comes before the key in it; None where the
        server asks for none.
    """
    html = render_page(
        "serve.html.jinja",
        title=title,
        task=task.replace("_", " "),
        facts=facts,
        boxes=boxes,
        by_column=by_column,
        key_header=key_header,
    )
    return Page(html, {"Content-Security-Policy": _policy(html), "Referrer-Policy": "no-referrer"})


def _policy(html: str) -> str:
    """What a browser may do with the page: run and apply what is in it, and ask the server that it came from."""
    style, script = (_hash(pattern, html) for pattern in _INLINE.values())
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(pattern: re.Pattern[str], html: str) -> str:
    match = pattern.search(html)
    assert match is not None
    return f"sha256-{base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()}"
