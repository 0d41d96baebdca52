"""The page of a table in a browser: no error, no sideways scroll, no empty picture, and tables that sort."""

import json
import re

import pytest

from bertjax.cli.main import main
from tests.support import browser
from tests.support.tables import TABLES

pytestmark = pytest.mark.skipif(not browser.FOUND, reason="no Chromium or Chrome")


@pytest.fixture(scope="module")
def window():
    with browser.chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("eda")
    rows = [row | {"day": f"2024-{i % 12 + 1:02}-01"} for i, row in enumerate(TABLES["classification"])]
    rows += [{"text": "<b>x</b>" + "long" * 100, "label": "عربي " * 20, "day": None}] * 3
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["eda", "--model", str(tiny_model), "--data", str(folder / "table.jsonl"), "--max-length", "40"]
    assert main([*command, "--date-column", "day", "--out", str(folder / "out")]) == 0
    return (folder / "out" / "eda.html").as_uri()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_readable(window, address, width, dark):
    window.open(address, width=width, dark=dark)
    assert window.complaints() == []
    assert window.value("document.documentElement.scrollWidth") <= width
    pictures = window.value("[...document.querySelectorAll('svg')].map((s) => [s.getBBox().width, s.clientWidth])")
    assert len(pictures) == 6
    assert all(drawn > 50 and shown > 200 for drawn, shown in pictures)
    colours = (window.value(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    ink, paper = (sum(map(int, re.findall(r"\d+", str(colour)))) for colour in colours)
    assert (ink > paper) == dark


def test_a_click_sorts_a_table(window, address):
    window.open(address)
    table = "document.querySelectorAll('#labels ~ .beside table')[0]"
    column = f"[...{table}.tBodies[0].rows].map((row) => Number(row.cells[1].innerText))"
    button = f"{table}.querySelectorAll('th button')[1].click()"
    assert window.value(column) == [16, 16, 16, 3]
    window.value(button)  # numbers: the largest first
    window.value(button)
    assert window.value(column) == [3, 16, 16, 16]
