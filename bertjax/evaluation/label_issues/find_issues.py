"""Label issues of labelled rows: doubtful labels, copies of a text that disagree, and texts unlike all others."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bertjax.data.rows.labelled_rows import Rows, Text, as_string
from bertjax.data.task_formats import TaskFormat
from bertjax.eda.facts.repeated_texts import find_repeats
from bertjax.evaluation.judged_rows import Finding, JudgedRows
from bertjax.evaluation.label_issues.confident_learning import Doubts, find_doubts
from bertjax.evaluation.label_issues.doubtful_rows import DoubtfulLabel, doubtful_labels
from bertjax.evaluation.label_issues.flags import LABEL_ISSUES
from bertjax.evaluation.label_issues.labelled_items import Items, check_has_items, items_of, texts_of
from bertjax.evaluation.label_issues.outlying_texts import neighbour_distances
from bertjax.report_pages.blocks import Block, DataTable, Paragraph, Section

_LISTED, _OUTLIERS = 100, 10
_LONGEST = 300  # characters of a text in a table; the file has all


class Disagreement(NamedTuple):
    """Two rows with the same text, case, width and spaces aside, and different labels; rows count from 1."""

    row: int
    label: str
    other_row: int
    other_label: str
    text: str


class Outlier(NamedTuple):
    """A text unlike all others: the mean cosine distance to its nearest ones, from 0 to 2; the row counts from 1."""

    row: int
    label: str
    distance: float
    text: str


class LabelIssues(NamedTuple):
    """What was found about the labels of some rows.

    Attributes:
      items: all that have a label.
      doubts: of them.
      texts: place of a row in its table -> its text.
      disagreements: the first two rows of each text that has several labels.
      outliers: the texts farthest from the others; None where the model makes no vectors.
    """

    items: Items
    doubts: Doubts
    texts: Mapping[int, Text]
    disagreements: tuple[Disagreement, ...]
    outliers: tuple[Outlier, ...] | None

    @property
    def num_issues(self) -> int:
        """Labels that are taken for wrong."""
        return int(self.doubts.is_issue.sum())

    def doubtful(self, most: int | None = None) -> list[DoubtfulLabel]:
        """The labels that are taken for wrong, the most doubtful first."""
        return doubtful_labels(self.items, self.doubts, self.doubts.issues()[:most], self.texts)

    def rows_of(self, ranked: np.ndarray) -> np.ndarray:
        """[k] places of the rows of ranked items, each where its first item stands."""
        rows = self.items.rows[ranked]
        return rows[np.sort(np.unique(rows, return_index=True)[1])]

    def metrics(self) -> dict[str, float]:
        """Flat numbers; nothing of what is undefined."""
        share = self.num_issues / len(self.items.given)
        counted = {} if self.doubts.undefined else {"count": self.num_issues, "share": share}
        found = counted | {"disagreements": len(self.disagreements)}
        return {f"label_issues/{name}": float(value) for name, value in found.items()}

    def lines(self) -> str:
        """All of it as JSON lines, a finding each, by its kind."""
        records: list[dict[str, Any]] = [{"kind": "label", **label.record()} for label in self.doubtful()]
        records += [{"kind": "disagreement", **pair._asdict()} for pair in self.disagreements]
        records += [{"kind": "outlier", **outlier._asdict()} for outlier in self.outliers or ()]
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def label_issues(judged: JudgedRows) -> Finding:
    """The label issues of rows that a model was not trained on.

    Raises:
      ConfigError: the task's labels are no classes, or cleanlab is not installed.
    """
    task_format = check_has_items(judged.loaded.model.task)
    doubts = find_doubts(items := items_of(judged))
    return finding_of(issues_of(items, doubts, judged.rows, task_format, neighbour_distances(judged)))


def issues_of(
    items: Items, doubts: Doubts, rows: Rows, task_format: TaskFormat, distances: np.ndarray | None
) -> LabelIssues:
    """All that is found about the labels of rows.

    Args:
      items: what has a label.
      doubts: of the items.
      rows: all rows; copies that disagree are looked for among them.
      task_format: of the rows.
      distances: [n] of each row, NaN where it is unknown, see `neighbour_distances`; None where there are none.
    """
    labels = [", ".join(task_format.names(label)) for label in rows.labels]
    texts = texts_of(rows)
    pairs = find_repeats(rows, np.arange(len(rows.texts)), task_format, {}).contradictions.tolist()

    def place(row: int) -> int:
        return rows.positions[row]

    disagreements = tuple(
        Disagreement(place(a) + 1, labels[a], place(b) + 1, labels[b], as_string(texts[place(a)])) for a, b in pairs
    )
    outliers = None
    if distances is not None:
        farthest = [i for i in np.argsort(-distances, kind="stable")[:_OUTLIERS].tolist() if distances[i] > 0]
        outliers = tuple(
            Outlier(place(i) + 1, labels[i], float(distances[i]), as_string(texts[place(i)])) for i in farthest
        )
    return LabelIssues(items, doubts, texts, disagreements, outliers)


def finding_of(issues: LabelIssues, notes: Sequence[str] = ()) -> Finding:
    """What was found, for a report.

    Args:
      issues: what was found.
      notes: further sentences of its section.
    """
    section = Section("label-issues", "Label issues", [*_doubts(issues, notes), *_copies(issues), *_outliers(issues)])
    return Finding(section, issues.metrics(), {LABEL_ISSUES: issues.lines()})


def summary(issues: LabelIssues) -> str:
    """The numbers in a sentence."""
    if issues.doubts.undefined:
        return f"label issues are undefined: {issues.doubts.undefined}"
    what = "rows" if issues.items.words is None else "words"
    found, total = issues.num_issues, len(issues.items.given)
    return f"confident learning doubts the labels of {found} of {total} {what} ({found / total:.1%})"


def _doubts(issues: LabelIssues, notes: Sequence[str]) -> list[Block]:
    blocks: list[Block] = [Paragraph(f"{_capital(summary(issues))}.", is_note=bool(issues.doubts.undefined))]
    blocks += map(Paragraph, notes)
    if issues.doubts.left_out and not issues.doubts.undefined:
        names = ", ".join(issues.doubts.left_out)
        blocks.append(Paragraph(f"Too few rows to compare have, or lack, these labels, which are left out: {names}."))
    rows = [
        (doubt.row, doubt.text[:_LONGEST], doubt.given, doubt.predicted, doubt.self_confidence, doubt.margin, doubt.why)
        for doubt in issues.doubtful(_LISTED)
    ]
    if rows:
        columns = ("row", "text", "given", "predicted", "self-confidence", "margin", "why")
        caption = "Labels that are probably wrong, the most doubtful first"
        caption += f"; the first {_LISTED} of {issues.num_issues}" if issues.num_issues > _LISTED else ""
        blocks.append(DataTable(columns, rows, caption))
    return blocks


def _copies(issues: LabelIssues) -> list[Block]:
    if not issues.disagreements:
        return [Paragraph("No text has rows with different labels.")]
    rows = [pair._replace(text=pair.text[:_LONGEST]) for pair in issues.disagreements[:_LISTED]]
    caption = f"Texts with different labels, {len(issues.disagreements)} in all: the first two rows of each that differ"
    return [DataTable(("row", "label", "other row", "its label", "text"), rows, caption)]


def _outliers(issues: LabelIssues) -> list[Block]:
    if not issues.outliers:
        return []
    rows = [outlier._replace(text=outlier.text[:_LONGEST]) for outlier in issues.outliers]
    caption = "Texts unlike all others, by the mean cosine distance of the model's vectors to the nearest ones"
    return [DataTable(("row", "label", "distance", "text"), rows, caption)]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
