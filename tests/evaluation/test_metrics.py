"""Metrics equal what one computes by hand, and the page shows them."""

import numpy as np
import pytest

from bertjax.evaluation.metrics import classification_report
from bertjax.evaluation.report import console_table, render_report

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 1, 1])


@pytest.fixture
def report():
    return classification_report(LABELS, PREDICTIONS, ("<a>", "b", "c"))


def test_by_hand(report):
    assert report.accuracy == pytest.approx(4 / 6)
    assert report.by_class["<a>"] == pytest.approx((1.0, 2 / 3, 0.8, 3))
    assert report.by_class["b"] == pytest.approx((0.5, 1.0, 2 / 3, 2))
    assert report.by_class["c"] == (0.0, 0.0, 0.0, 1)
    assert report.macro.f1 == pytest.approx((0.8 + 2 / 3) / 3)
    assert report.weighted.f1 == pytest.approx((3 * 0.8 + 2 * 2 / 3) / 6)
    assert report.confusion.tolist() == [[2, 1, 0], [0, 2, 0], [0, 1, 0]]


def test_a_class_that_does_not_occur_is_in_no_average():
    report = classification_report(np.array([0, 1]), np.array([0, 1]), ("a", "b", "absent"))
    assert report.macro.f1 == 1.0
    assert report.by_class["absent"].support == 0


def test_flat_keys(report):
    flat = report.flat("test")
    assert flat["test/f1_macro"] == report.macro.f1
    assert flat["test/class/b/precision"] == 0.5


def test_page_and_table(report):
    history = [{"epoch": 1.0, "epoch/train_loss": 0.5}]
    page = render_report("model on <table>", report, report.flat("test"), history, {"epochs": 1})
    assert "model on &lt;table&gt;" in page
    assert "&lt;a&gt;" in page
    assert "<a>" not in page
    assert "http" not in page  # it needs nothing but itself
    assert console_table(report, "test").row_count == 5
