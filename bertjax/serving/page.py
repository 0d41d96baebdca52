"""The page for people at `GET /`: a box for each column of the model, and its answer drawn by its kind.

It is one document with its style and script inside, and asks nothing of any other server: its security policy names
both by their hashes, and allows requests only to where the page came from. What users write and what models answer
enters it as text.
"""

import base64
import hashlib
import re
from pathlib import Path
from typing import Literal, NamedTuple

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from bertjax.data.rows.cells import BadCell
from bertjax.data.task_formats import TaskFormat
from bertjax.report_pages.html_page import format_number, render_page
from bertjax.serving.model_slot import ServedModel
from bertjax.serving.service import Service
from bertjax.tasks import find_task

_INLINE = {name: re.compile(f"<{name}>(.*?)</{name}>", re.DOTALL) for name in ("style", "script")}
_HEADERS = {"Cache-Control": "no-cache", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


class Box(NamedTuple):
    """A field of the form.

    Attributes:
      name: the column, or what the field holds where the model has none.
      side: whether it belongs to the first or to the second text.
      lines: it holds a list, one item a line.
    """

    name: str
    side: Literal["first", "second"] = "first"
    lines: bool = False


_RANKED = 8  # answers, candidates or words that are shown, where the model does not give all probabilities

# What a model without columns may read, with an entry of each kind; the first that its task takes is asked for.
_PLAIN = (
    ("text", (Box("text"),)),
    (("text", "text"), (Box("first text"), Box("second text", "second"))),
    (("text", ["a", "b"]), (Box("question"), Box("candidates", "second", lines=True))),
)


def page_routes(service: Service) -> APIRouter:
    """The route of the page."""
    routes = APIRouter()

    @routes.get("/", response_class=HTMLResponse)
    async def page() -> HTMLResponse:
        """A page to try the model on."""
        model = service.model()
        return render(model, service.slot.addresses[model.name], needs_key=service.settings.api_key is not None)

    return routes


def render(model: ServedModel, address: str, needs_key: bool) -> HTMLResponse:
    """Makes the page of a model.

    Args:
      model: the model.
      address: where it was loaded from; of a path, only its last part is shown.
      needs_key: whether the server asks for an API key.
    """
    task = find_task(model.predictor.model.task)
    takes = () if task.postprocess is None else task.postprocess.takes
    has_all = task.postprocess is not None and "probabilities" in task.postprocess.columns
    html = render_page(
        "serve.html.jinja",
        title=_title(address),
        facts=_facts(model),
        boxes=_boxes(model),
        by_column=len(model.predictor.columns) > 1,  # a single column is a text
        route="embed" if task.postprocess is None else "predict",
        top_k=_RANKED if "top_k" in takes and not has_all else 0,
        takes_threshold="threshold" in takes,
        needs_key=needs_key,
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": _policy(html), **_HEADERS})


def _title(address: str) -> str:
    """A short name of a model.

    >>> _title("runs/stars/model"), _title("models:/stars@champion")
    ('stars', 'models:/stars@champion')
    """
    if address.startswith("models:"):
        return address
    folder = Path(address)
    return folder.parent.name if folder.name == "model" and folder.parent.name else folder.name


def _facts(model: ServedModel) -> list[str]:
    """What the model does, how well, and from which run it is."""
    network = model.predictor.model
    facts = [network.task.replace("_", " ")]
    if network.labels:
        facts.append(f"{len(network.labels)} label{'s' if len(network.labels) > 1 else ''}")
    metric = find_task(network.task).metric
    if metric is not None and (score := model.metrics.get(f"test/{metric.name}")) is not None:
        facts.append(f"{metric.name} {format_number(score)} on its test rows")
    return facts + ([f"run {model.run_id}"] if model.run_id else [])


def _boxes(model: ServedModel) -> tuple[Box, ...]:
    columns, table = model.predictor.columns, model.loaded.table
    if not columns:
        return _plain_boxes(find_task(model.predictor.model.task).format)
    lists = table.candidates if len(table.candidates) == 1 else ()
    return tuple(Box(name, "first" if name in table.text else "second", name in lists) for name in columns)


def _plain_boxes(task_format: TaskFormat | None) -> tuple[Box, ...]:
    if task_format is None:
        return _PLAIN[0][1]
    for entry, boxes in _PLAIN:
        try:
            task_format.plain(entry)
        except BadCell:
            continue
        return boxes
    return _PLAIN[0][1]


def _policy(html: str) -> str:
    """What a browser may do with the page: apply and run what is in it, and ask the server that it came from."""
    style, script = (_hash(pattern, html) for pattern in _INLINE.values())
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(pattern: re.Pattern[str], html: str) -> str:
    match = pattern.search(html)
    assert match is not None
    return f"sha256-{base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()}"
