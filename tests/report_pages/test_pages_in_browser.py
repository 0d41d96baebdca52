"""Every page in a browser: no error, no sideways scroll, no empty picture, a table beside each, and readable colours.

A new page needs a function here that makes a small one, and a line in `PAGES`.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bertjax.baselines.compare.comparison_report import render_comparison
from bertjax.baselines.compare.summary import Failure, summarise
from bertjax.baselines.runners.runner_result import RunResult
from bertjax.cli.main import main
from bertjax.data.table import Table
from bertjax.evaluation.label_issues.confident_learning import find_doubts
from bertjax.evaluation.label_issues.find_issues import finding_of, issues_of
from bertjax.evaluation.label_issues.labelled_items import Items
from bertjax.evaluation.report_sections import settings_section
from bertjax.report_pages.blocks import ColouredText, DataTable, Details, Figure, Page, Paragraph, Ranged, Section
from bertjax.report_pages.charts import Bars, Heatmap, Lines, Stacked
from bertjax.report_pages.html_report import render_sections
from bertjax.sweeps.ledger import Trial
from bertjax.sweeps.results.sweep_report import render_report
from bertjax.sweeps.results.sweep_results import Results, TrialResult
from bertjax.sweeps.search_space import Choice
from bertjax.sweeps.sweep_config import Sweep
from bertjax.tasks import Metric, find_format
from bertjax.training.multi.learning_curve import curve_finding
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support import browser
from tests.support.tables import TABLES, rows_of

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not browser.FOUND, reason="no Chromium or Chrome")]

EVIL = "<script>alert(1)</script> عربي " + "long" * 60
# Every picture with its table: they share a parent, the picture's figure aside.
PICTURES = """[...document.querySelectorAll('svg')].map((svg) => [svg.getBBox().width, svg.getBBox().height,
  svg.clientWidth, svg.closest('figure') ? svg.closest('.beside')?.querySelectorAll('table').length ?? 0 : 0])"""
# The lowest contrast of text against the ground that it stands on (WCAG 2.2), with the text.
CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  let worst = [21, ''];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest('script, title') || !element.getClientRects().length)
      continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(channels(element.closest('svg') ? style.fill : style.color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, walker.currentNode.textContent.trim().slice(0, 60)];
  }
  return worst;
})()"""


def report(folder: Path) -> Path:
    """All that a report can show."""
    names = ["ABBR", "DESC", EVIL]
    curve = [(step, 3 * math.exp(-step / 30)) for step in range(200)]
    blocks = [
        Paragraph(EVIL, is_note=True),
        DataTable(("label", "F1", "rows"), [(name, Ranged(0.1 * i, 0, 0.9), 4 - i) for i, name in enumerate(names)],
                  averages=[("macro", 0.2, None)]),
        Figure(Bars("F1 by class", dict.fromkeys(names, 0.5), "share")),
        Figure(Lines("Loss", {EVIL: curve, "b": curve[:9]}, "update", "loss", marks={EVIL: 50}, diagonal=True)),
        Figure(Stacked("Parts", names, {name: [0.3] * 3 for name in names}, "share")),
        Figure(Heatmap("Confusion", "true", "predicted", names, names, [[9, 1, 4], [0, 5, 2], [3, 0, 7]])),
        Figure(Bars("Nothing", {})),
        ColouredText([("For", 1.0), (" ", 0), ("against", -1.0), (" ", 0), (EVIL, 0.5)], "Blue for, orange against."),
        Details(EVIL, [DataTable(("text",), [(EVIL * 3,)] * 20)], is_open=True),
    ]  # fmt: skip
    return written(folder, render_sections(EVIL, [Section(f"s{i}", "A section", blocks) for i in range(3)], EVIL,
                                           [("F1", Ranged(0.5, 0.4, 0.6)), (EVIL, 3)]))  # fmt: skip


def comparison(folder: Path) -> Path:
    """Two frameworks, three seeds and a failure."""
    noise, counts = np.random.default_rng(0), {"examples": 400, "real_tokens": 6000, "computed_tokens": 8000}
    measured = {"memory_before_bytes": 2**20, "memory_peak_bytes": 3 * 2**20, "evaluation_seconds": 2.0,
                "evaluation_examples": 4, "seconds_to_first_step": 3.0, **counts}  # fmt: skip
    results = []
    for seed in range(3):
        losses = 2 * np.exp(-np.arange(120) / 30) + 0.1 * noise.random(120)
        for framework, other in (("jax", 0.0), ("torch", 1e-6)):
            results.append(RunResult(
                framework, seed, "classification", ("a", "b"), {"test/f1_macro": 0.9 + noise.random() / 50},
                measured | {"seconds": 5 + 3 * noise.random()}, "cpu", {"jax": "1"}, {},
                losses + other * noise.random(120), np.eye(2, dtype=np.float32)[[0, 1, 1, 0]], np.arange(5),
            ))  # fmt: skip
    summary = summarise(results, [Failure("trainer", 0, EVIL)], ["jax", "torch"], Metric("f1_macro"), dropout=False)
    return written(folder, render_comparison("MiniLM on projects", summary, results, {"epochs": 3, "text": EVIL}))


def sweep(folder: Path) -> Path:
    """Twelve trials and one that failed."""
    noise = np.random.default_rng(0)
    space = {
        "optimizer.learning_rate": Choice((1e-5, 1e-3)),
        "batch_size": Choice((8, 32)),
        "model": Choice(("a", "b")),
    }
    trials = []
    for number in range(12):
        values = {"optimizer.learning_rate": float(10 ** noise.uniform(-5, -3)), "batch_size": 8 * (number % 3 + 1),
                  "model": EVIL if number % 2 else "b"}  # fmt: skip
        score = 0.7 + 0.2 * float(noise.random())
        curve = tuple((20 * step, score - 0.2 / step) for step in range(1, 6))
        trials.append(TrialResult(Trial(number, {}, values, status="finished"), curve, score, -score, {}))
    failed = Trial(12, {}, {"batch_size": 8, "model": "a"}, status="failed", cause=EVIL)
    trials.append(TrialResult(failed, (), None, np.inf, {}))
    settings = Sweep(FineTuneConfig(data=Table("table.csv", validation_size=0.2)), space)
    seeds = {seed: {"test/f1_macro": 0.8 + seed / 50} for seed in range(2)}
    return written(folder, render_report(Results(Path(EVIL[:40]), settings, "f1_macro", tuple(trials), seeds)))


def eda(folder: Path, model: Path) -> Path:
    """A table with dates, in which a label repeats and texts are long."""
    rows = [row | {"day": f"2024-{i % 12 + 1:02}-01"} for i, row in enumerate(TABLES["classification"])]
    rows += [{"text": "<b>x</b>" + "long" * 100, "label": "عربي " * 20, "day": None}] * 3
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["eda", "--model", str(model), "--data", str(folder / "table.jsonl"), "--max-length", "40"]
    assert main([*command, "--date-column", "day", "--out", str(folder / "out")]) == 0
    return folder / "out" / "eda.html"


def evaluation(folder: Path, model: Path, table: Path) -> Path:
    """What `bertjax evaluate` writes of all that it can look at."""
    command = ["evaluate", "--model", str(model), "--data", str(table), "--out", str(folder / "out"), "--intervals"]
    command += ["--threshold", "0.6", "--explain", "1", "--label-issues"]
    assert main(command) == 0
    return folder / "out" / "report.html"


def learning_curve(folder: Path) -> Path:
    """Two models, three sizes, two seeds."""
    runs = {
        size: {seed: {"f1_macro": 0.9 - 1 / size + seed / 50, "beside/tfidf/f1_macro": 0.7} for seed in (0, 1)}
        for size in (4, 16, 64)
    }
    settings = settings_section(f"bertjax finetune {EVIL}", {"model": EVIL}, {"jax": "1"})
    sections = [curve_finding(runs, Metric("f1_macro")).section, settings]
    return written(folder, render_sections(*Page(EVIL, sections)))


def label_issues(folder: Path) -> Path:
    """Doubtful labels, copies that disagree, and outliers."""
    noise = np.random.default_rng(0)
    given = noise.integers(0, 2, 60)
    sure = np.eye(2)[np.where(np.arange(60) % 9, given, 1 - given)] * 0.9 + 0.05
    texts = [f"{EVIL} {i}" for i in range(58)] + ["twice", "twice"]
    rows = rows_of(texts, None, [("a", EVIL)[i] for i in [*given[:58], 0, 1]])
    items = Items(("a", EVIL), given, sure, np.arange(60))
    found = issues_of(items, find_doubts(items), rows, find_format("classification"), noise.random(60))
    sections = [finding_of(found, [EVIL]).section, settings_section("", {"data.train": EVIL}, {})]
    return written(folder, render_sections(*Page(f"Label issues of {EVIL}", sections)))


def written(folder: Path, page: str) -> Path:
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    return path


# Page -> the number of its pictures, where that is for the test to say.
PAGES = {"report": 9, "comparison": 4, "sweep": 3, "eda": 6, "evaluation": None, "run": None,
         "learning curve": 1, "label issues": 0}  # fmt: skip


@pytest.fixture(scope="module")
def window() -> Iterator[browser.Browser]:
    with browser.chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def page_of(tmp_path_factory, tiny_model, finished_run, reviews) -> Callable[[str], Path]:
    """name -> its page, made once."""
    makers: dict[str, Callable[[Path], Path]] = {
        "report": report,
        "comparison": comparison,
        "sweep": sweep,
        "eda": lambda folder: eda(folder, tiny_model),
        "evaluation": lambda folder: evaluation(folder, finished_run.model_dir, reviews),
        "learning curve": learning_curve,
        "label issues": label_issues,
        "run": lambda _: finished_run.model_dir.parent / "report.html",
    }
    made: dict[str, Path] = {}

    def page(name: str) -> Path:
        if name not in made:
            made[name] = makers[name](tmp_path_factory.mktemp(name))
        return made[name]

    return page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_readable(window, page_of, name, width, dark):
    window.open(page_of(name).as_uri(), width=width, dark=dark)
    assert window.complaints() == []
    assert window.value("performance.getEntriesByType('resource').map((entry) => entry.name)") == []
    assert window.value("document.documentElement.scrollWidth") <= width
    pictures = window.value(PICTURES)
    assert PAGES[name] in (None, len(pictures))
    assert all(wide > 50 and high > 8 and seen > 200 and tables for wide, high, seen, tables in pictures)
    ratio, text = window.value(CONTRAST)
    assert ratio >= 4.5, text
    is_dark = "matchMedia('(prefers-color-scheme: dark)').matches"
    assert window.value(is_dark) == dark


@pytest.mark.parametrize("name", PAGES)
def test_every_table_sorts_by_each_of_its_columns(window, page_of, name):
    window.open(page_of(name).as_uri())
    unsorted = window.value("""[...document.querySelectorAll('table.sortable')].flatMap((table) =>
      [...table.tHead.rows[0].cells].flatMap((header, column) => {
        const before = table.tBodies[0].rows.length;
        header.querySelector('button').click();
        const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]);
        const values = cells.map((cell) => cell.dataset.sort ?? cell.textContent.trim())
          .filter((text) => text !== '' && text !== 'undefined');
        const numbers = values.map(Number), down = header.ariaSort === 'descending';
        const inOrder = numbers.some(Number.isNaN) || numbers.every((n, i) => !i || (down ? numbers[i - 1] >= n
          : numbers[i - 1] <= n));
        return inOrder && cells.length === before && header.ariaSort ? [] : [header.textContent];
      }))""")
    assert unsorted == []


def test_a_click_sorts_by_number_and_leaves_averages_last(window, page_of):
    window.open(page_of("report").as_uri())
    table = "document.querySelector('table')"
    column = f"[...{table}.querySelectorAll('tbody tr')].map((row) => row.cells[2].innerText)"
    assert window.value(column) == ["4", "3", "2", ""]
    for expected in (["4", "3", "2", ""], ["2", "3", "4", ""]):  # numbers: the largest first
        window.driver.execute_script(f"{table}.querySelectorAll('th button')[2].click()")
        assert window.value(column) == expected
