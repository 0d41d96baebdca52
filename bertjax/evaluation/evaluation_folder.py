"""The output folder of an evaluation, and its record in MLflow."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bertjax.evaluation.label_issues.flags import LABEL_ISSUES
from bertjax.evaluation.look_settings import EXPLANATIONS
from bertjax.evaluation.slices.slice_settings import SLICES
from bertjax.report_pages.blocks import CHARTS, MARKDOWN, REPORT, Page
from bertjax.storage.atomic_write import replaced_folder
from bertjax.tracking import event_log

if TYPE_CHECKING:
    from bertjax.evaluation.judged_rows import Finding
    from bertjax.tasks.postprocess import Prediction
    from bertjax.tracking.tracker import Dataset, Tracker

METRICS, PREDICTIONS, DISAGREEMENTS, BEHAVIOUR = (
    "metrics.json", "predictions.jsonl", "disagreements.jsonl", "behaviour.json",
)  # fmt: skip
_FILES = (METRICS, REPORT, MARKDOWN, PREDICTIONS, DISAGREEMENTS, BEHAVIOUR, SLICES, EXPLANATIONS, LABEL_ISSUES)
WRITTEN = re.compile("|".join([*map(re.escape, (*_FILES, CHARTS)), rf"{re.escape(event_log.FILE)}.*"]))
_LONGEST_NAME = 200  # of a run in MLflow


class Evaluation(NamedTuple):
    """What an evaluation has to show.

    Attributes:
      page: the report.
      metrics: flat.
      findings: whose files are written; their metrics are among the others.
      predictions: one a row, where the task says something of each.
    """

    page: Page
    metrics: Mapping[str, float]
    findings: "Sequence[Finding]"
    predictions: "Sequence[Prediction]" = ()

    def write(self, folder: Path) -> None:
        """Writes a folder in one step, replacing an existing one."""
        from bertjax.evaluation.run_report import write_page

        with replaced_folder(folder) as scratch:
            (scratch / METRICS).write_text(json.dumps(dict(self.metrics), indent=2) + "\n", encoding="utf-8")
            write_page(scratch, self.page)
            for finding in self.findings:
                for name, content in finding.files.items():
                    (scratch / name).write_text(content, encoding="utf-8")
            if self.predictions:
                lines = (json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in self.predictions)
                (scratch / PREDICTIONS).write_text("".join(lines), encoding="utf-8")

    def record(
        self,
        tracker: "Tracker",
        folder: Path,
        settings: Mapping[str, Any],
        tags: Mapping[str, str],
        dataset: "Dataset | None" = None,
    ) -> None:
        """Records a folder that was written as a run: its settings, numbers, files, and pictures.

        Args:
          tracker: checked.
          folder: of the evaluation.
          settings: flat.
          tags: further facts.
          dataset: the rows.

        Raises:
          ConfigError: the tracker cannot be reached.
        """
        from bertjax.report_pages.png_charts import charts_of
        from bertjax.tracking.tracker import tracked_run

        files = sorted(path for path in folder.iterdir() if path.is_file())
        with tracked_run(tracker):
            tracker.start(self.page.title[:_LONGEST_NAME], settings, folder, tags)
            if dataset is not None:
                tracker.log_dataset(dataset)
            tracker.log_metrics(self.metrics, 0)
            for path in files:
                tracker.log_artifact(path)
            tracker.log_charts(charts_of(self.page.sections), folder / CHARTS)
