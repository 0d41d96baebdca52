"""Reports as a page, as Markdown and as pictures: nothing of a user is obeyed, and nothing of a number is lost."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt

from bertjax.report_pages.blocks import (
    ColouredText,
    DataTable,
    Details,
    Figure,
    Paragraph,
    Ranged,
    Section,
    Share,
    Written,
)
from bertjax.report_pages.chart_tables import table_of
from bertjax.report_pages.charts import Bars, Columns, Dots, Heatmap, Lines, Parallel, ParallelAxis, Stacked
from bertjax.report_pages.histogram import Histogram, histogram
from bertjax.report_pages.html_report import MOST_ROWS, render_sections
from bertjax.report_pages.markdown_report import MOST_CHARACTERS, render_markdown
from bertjax.report_pages.png_charts import charts_of, write_charts
from bertjax.report_pages.svg.draw import draw

EVIL = "<script>alert(1)</script><img src=x onerror=y> \x1b[31m | *b* [l](http://x) &amp; $x$ 日本 @someone"


def charts(name: str):
    """One of each kind."""
    return [
        Bars(name, {name: 0.5, "b": 0.25}, "share", name, name),
        Columns(name, histogram(np.array([1.0, 2.0, 7.0])), name, name, {name: 3.0}),
        Stacked(name, [name, "b"], {name: [0.5, 1.0], "rest": [0.5, math.nan]}, "share", name),
        Dots(name, {name: {"0": 0.1, "1": math.nan}, "b": {"0": 0.3}}, name, "number", name, name),
        Lines(name, {name: [(0, 0.1), (1, 0.5)], "b": [(0, math.nan), (1, 0.2)]}, name, name, diagonal=True,
              marks={name: 0.5}, faint={name: [[(0, 0.3)]], "others": [[(0, 1), (1, 1)]]}),
        Lines(name, {name: [(0, 0.0), (1, 1e-5)]}, name, name, y_scale="log"),
        Parallel(name, [name, "b"], [ParallelAxis(name, [0, 1], [name, "2"], [0, 1])] * 5, [1, 0]),
        Heatmap(name, name, name, [name, "b"], [name, "b"], [[3, 1], [0, math.nan]]),
    ]  # fmt: skip


def section(name: str) -> Section:
    return Section("all", name, [
        Paragraph(name), Paragraph(name, is_note=True),
        DataTable((name, "n"), [(name, Ranged(0.5, 0.25, 0.75)), ("b", math.nan), ("c", None)], name, [(name, 1)]),
        *(Figure(chart, name) for chart in charts(name)),
        ColouredText([(name, 0.7), (" ", 0), (name, -0.4), (name, 0)], name),
        Details(name, [Paragraph(name), Details(name, [DataTable((name,), [(name,)])])]),
    ])  # fmt: skip


class Tags(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_a_page_of_hostile_text_has_no_tag_of_it():
    page = render_sections(EVIL, [section(EVIL)] * 3, EVIL, [(EVIL, Ranged(0.5, 0.1, 0.9))], [Paragraph(EVIL)])
    tags = Tags(page).found
    names = [tag for tag, _ in tags]
    assert names.count("script") == 1
    assert not {"img", "link", "iframe", "object"} & set(names)
    assert not any(key.startswith("on") or key == "src" for _, attributes in tags for key in attributes)
    assert "\x1b" not in page
    assert r"\x1b[31m" in page
    assert all("sortable" in (attributes.get("class") or "") for tag, attributes in tags if tag == "table")
    assert names.count("figcaption") >= names.count("svg") == 3 * 7


def test_markdown_of_hostile_text_has_no_markup_of_it():
    written = render_markdown(EVIL, [section(EVIL)], EVIL, [(EVIL, 0.5)], [Paragraph(EVIL)])
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(written)
    found = {tag for tag, _ in Tags(rendered).found}
    assert not {"script", "img", "a"} & found
    assert {"table", "details", "summary", "b", "i"} <= found
    assert "@someone" not in written
    assert "alert(1)" in rendered
    assert not re.search(r"^\|.*[^\\]\| \*b\*", written, re.MULTILINE)


def test_cells_sort_by_their_numbers_and_averages_are_a_body_of_their_own():
    rows = [("a", Ranged(0.5, 0.25, 0.75), Share(0.125), 12345, Written(2, "2 of 4"))]
    page = render_sections("t", [Section("s", "S", [DataTable("abcde", rows, averages=rows)])])
    cells = [attributes.get("data-sort") for tag, attributes in Tags(page).found if tag == "td"]
    assert cells == [None, "0.5", "0.125", "12345.0", "2.0"] * 2
    assert "0.5000 <small>0.2500 to 0.7500</small>" in page
    assert {"12.5%", "12,345", "2 of 4"} <= set(re.findall(r">([^<>\n]+)</td>", page))
    assert '<tbody class="averages">' in page


def test_a_large_page_is_small_and_says_what_it_leaves_out():
    names = [f"class {i}" for i in range(50)]
    counts = [[i * j for j in range(50)] for i in range(50)]
    long = DataTable(("row", "text", "label"), [(i, "long text " * 100, names[i % 50]) for i in range(1000)])
    rates = Heatmap("Rates", "true", "predicted", names, names, [[0.5] * 50] * 50, "share")
    blocks = [Figure(Heatmap("Counts", "true", "predicted", names, names, counts)), Figure(rates), long]
    page = render_sections("t", [Section("s", "S", blocks)])
    assert len(page.encode()) <= 3_000_000
    assert f"The first {MOST_ROWS} rows; {1000 - MOST_ROWS} more." in page
    written = render_markdown("t", [Section("s", "S", blocks), Section("u", "Too much", [long] * 30)])
    assert len(written) < MOST_CHARACTERS + 200
    assert "980 more rows" in written
    assert "Left out here, for length: Too much" in written


@pytest.mark.parametrize(
    "chart",
    [
        Bars("t", {}),
        Bars("t", {"a": math.nan}),
        Columns("t", Histogram((0.0, 1.0), (0,))),
        Stacked("t", [], {"a": []}),
        Stacked("t", ["a"], {}),
        Stacked("t", ["a"], {"p": [0.0]}),
        Dots("t", {"a": {"0": math.nan}}, "v"),
        Lines("t", {"a": [], "b": [(math.nan, 1.0)]}, "x", "y"),
        Parallel("t", [], [], []),
        Heatmap("t", "r", "c", [], [], []),
    ],
    ids=lambda chart: type(chart).__name__,
)
def test_a_chart_of_nothing_is_a_sentence(chart, tmp_path):
    assert draw(chart) is None
    page = render_sections("t", [Section("s", "S", [Figure(chart)])])
    assert "t: there is nothing to show." in page
    assert "<svg" not in page
    assert write_charts({"chart": chart}, tmp_path) == []


def test_every_chart_becomes_a_file_with_letters_that_no_font_has(tmp_path):
    sections = [section(EVIL), section("t")]
    found = charts_of(sections)
    assert len(found) == 16
    paths = write_charts(found, tmp_path)
    assert [path.stem for path in paths] == list(found)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_a_long_curve_has_a_table_of_some_of_its_points_with_both_ends():
    table = table_of(Lines("t", {"a": [(i, i / 2) for i in range(1000)]}, "update", "loss"))
    assert len(table.rows) == 60
    assert (table.rows[0], table.rows[-1]) == ((0, 0.0), (999, 499.5))
    assert table.caption == "60 of 1,000 points."
    two = table_of(Lines("t", {"a": [(0, 1.0)], "b": [(1, 2.0)]}, "x", "y"))
    assert (two.columns, list(two.rows)) == (("x", "a", "b"), [(0, 1.0, None), (1, None, 2.0)])


def test_shares_that_are_all_one_have_no_axis_beyond_it_and_its_last_number_is_whole():
    curve = {"kept": [(0.0, 1.0), (1.0, 1.0)]}
    picture = str(draw(Lines("thresholds", curve, "confidence", "share", "share", "share")))
    ticks = re.findall(r'<text class="quiet" x="([0-9.]+)" y="[0-9.]+" text-anchor="(\w+)">([0-9.]+)%</text>', picture)
    assert max(float(number) for _, _, number in ticks) == 100
    width_of_100_percent = 31.45  # in DejaVu Sans, a wide font, at the size of the picture's text
    last = max(float(x) for x, anchor, number in ticks if anchor == "middle" and number == "100")
    assert last + width_of_100_percent / 2 <= 360
