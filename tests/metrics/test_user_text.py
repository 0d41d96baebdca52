"""What users call their labels, files and settings is shown as it is, though it may look like markup."""

import html
import io
import logging

import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from rich.console import Console

from bertjax.baselines.compare.comparison_report import console_table as comparison_table
from bertjax.baselines.compare.summary import Side, Summary
from bertjax.cli.main import main, run
from bertjax.data.table import Table
from bertjax.data.validate.data_report import DataReport
from bertjax.errors import DataError
from bertjax.evaluation.run_report import RunReport, console_table
from bertjax.metrics.aggregate import Aggregate, aggregate_table
from bertjax.metrics.classification_report import classification_report, multi_label_report
from bertjax.metrics.regression_report import regression_report
from bertjax.model_folder.model_card import model_card
from bertjax.report_pages.literal_text import figure_text, literal
from bertjax.report_pages.text_table import print_table
from bertjax.sweeps.ledger import Trial
from bertjax.sweeps.results.sweep_report import console_table as sweep_table
from bertjax.sweeps.results.sweep_results import Results, TrialResult
from bertjax.sweeps.search_space import Choice
from bertjax.sweeps.sweep_config import Sweep
from bertjax.tasks import make_model
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support.models import TINY

# What the user has written -> what is to be seen.
HOSTILE = {
    text: text
    for text in (
        "[spam]", "[/b]", "[red]", "[/]", "[link=https://example.org]x[/link]", "[@click=app.quit]x", ":warning:",
        r"\[b]",
        "$x^$ and $", "a|b", "*bold*", "`code`", "<b>&amp;", "_x_", "# title", "- item", "1. item", "https://example.org/x",
        "3.14", "'quoted'", "日本", "é👍", "{x}", "%s", "trailing\\",
    )
} | {"\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m", "two\nlines": r"two\nlines", "bell\a\r\b": r"bell\x07\r\x08",
     "\x9b31m": r"\x9b31m", "\ud800": r"\ud800", "a\u2028b": r"a\u2028b", "\x00": r"\x00"}  # fmt: skip
hostile = pytest.mark.parametrize(("text", "seen"), HOSTILE.items(), ids=map(ascii, HOSTILE))


def of_classes(text):
    return console_table(classification_report(np.array([0, 1]), np.array([0, 1]), (text, "other")), text)


def of_labels(text):
    labels = np.array([[1, 0], [0, 1]])
    return console_table(multi_label_report(labels, labels, (text, "other")), "test")


def of_columns(text):
    values = np.array([[0.1, 0.2], [0.3, 0.5], [0.5, 0.4]])
    return console_table(regression_report(values, values, (text, "other")), "test")


def of_seeds(text):
    return aggregate_table(text, {0: {text: 0.5}, 1: {text: 0.7}}, {text: {text: 0.6}})


def of_a_sweep(text):
    base = FineTuneConfig(data=Table(validation_size=0.2))
    sweep = Sweep(base, {"model": Choice((text, "other"))})
    trial = Trial(0, {}, {"model": text}, status="failed", cause=text)
    return sweep_table(Results("folder", sweep, text, (TrialResult(trial, ((1, 0.5),), 0.5, 0.5, {}),)))


def of_a_comparison(text):
    side = Side("jax", (0,), {text: Aggregate(0.5, None)}, 1.0, 1.0, 0.1, 1.0, 1.0, 1.0, None)
    return comparison_table(Summary(text, [side], [], []))


TABLES = [of_classes, of_labels, of_columns, of_seeds, of_a_sweep, of_a_comparison]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
@hostile
def test_tables(capsys, table, text, seen):
    print_table(table(text), width_of_a_log=600)
    ours = capsys.readouterr().out
    assert seen in ours
    # Whoever prints the table with a console of their own sees the same.
    theirs = io.StringIO()
    Console(file=theirs, width=600).print(table(text))
    assert theirs.getvalue() == ours
    on_a_terminal = io.StringIO()
    Console(file=on_a_terminal, width=600, force_terminal=True, color_system=None).print(table(text))
    assert seen in on_a_terminal.getvalue()


@hostile
def test_errors_and_logs(capsys, text, seen):
    def fails():
        logging.getLogger("bertjax.data").info("labels: %s", f"<{text}>")
        raise DataError(f"no column <{text}>")

    assert run(fails) == 2
    logged, error = capsys.readouterr().err.splitlines()
    assert logged == f"labels: <{seen}>"
    assert error.replace(" ", "") == f"bertjax: no column <{literal(' '.join(text.split()))}>".replace(" ", "")


@hostile
def test_flags(capsys, text, seen):
    assert main(["finetune", "--epochs", text]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bertjax: ")
    assert "\x1b" not in line


@hostile
def test_a_model_card(text, seen):
    """A renderer of Markdown shows the label."""
    card = model_card(make_model(TINY, "classification", (text, "other")), {f"test/{text}": 0.5})
    _, _, body = card.partition("\n---\n")
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    inline = [token for token in tokens if token.type == "inline"]
    shown = ["".join(child.content for child in token.children if child.type == "text") for token in inline]
    assert seen in shown
    assert f"test/{seen}" in shown
    assert shown[-1] == "0.5"


@hostile
def test_a_page(text, seen):
    report = classification_report(np.array([0, 1]), np.array([0, 1]), (text, "other"))
    page = RunReport(text, report, {text: 1.0}, {text: text}, DataReport(()), [{text: 1.0}]).html()
    line = literal(" ".join(text.split()))
    assert html.escape(line) in page.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")
    if "<" in text:
        assert text not in page


@hostile
@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_figures(text, seen):
    axes = Figure().subplots()
    axes.set_ylabel(figure_text(text))
    assert axes.yaxis.label._preprocess_math(axes.yaxis.label.get_text()) == (seen, False)
