"""`bertjax eda`: what a table is like before anything is trained on it, and a clean copy of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from bertjax.cli.flags.parse_flags import check_replaceable, parse
from bertjax.cli.process.messages import say
from bertjax.data.table import AnswerAs, Documents, Table, TagScheme
from bertjax.eda.exploration import Drop, Exploration
from bertjax.errors import ConfigError
from bertjax.settings import LONGEST, Count, Positive, Range, flatten
from bertjax.storage.folder_lock import locked_folder
from bertjax.training.settings.finetune_config import FineTuneConfig

if TYPE_CHECKING:
    from bertjax.eda.clean import Cleaned
    from bertjax.eda.explore import Explored
    from bertjax.tracking.tracker import Tracker

PAGE, NUMBERS = "eda.html", "eda.json"
_WRITTEN = re.compile(rf"{re.escape(PAGE)}|{re.escape(NUMBERS)}|tracking\.json.*|\w+\.png")
# Flag -> the setting of a table that it is.
_TABLE = {
    "data": "train",
    "text_columns": "text",
    "pair_columns": "text_pair",
    "label_column": "label",
    "label_columns": "labels",
}


@dataclass(frozen=True)
class Arguments:
    """Look at a table before training: labels, lengths, repeated and contradicting texts, typical words, drift.

    Writes a page (eda.html) and its numbers (eda.json); --write-clean writes the table without the rows that --drop
    names.
    """

    data: str
    """The table: a file, a pattern of several, an address, or a data set of the catalog."""

    validation: str | None = None
    """Validation rows, to find texts that stand on both sides."""

    test: str | None = None
    """Test rows, to find texts that stand on both sides."""

    task: str = FineTuneConfig.task
    """Task to read the rows for, as in finetune."""

    text_columns: tuple[str, ...] = Table.text
    """Columns with the text, joined by a space."""

    pair_columns: tuple[str, ...] = Table.text_pair
    """Columns with the second text of a pair."""

    label_column: str = Table.label
    """Column with the label; without it, what needs no labels is shown."""

    label_columns: tuple[str, ...] = Table.labels
    """Columns with one label each."""

    label_delimiter: str | None = Table.label_delimiter
    """What stands between the labels of a cell."""

    labels_as: Literal["names", "flags"] | None = Table.labels_as
    """What a list in the label column holds: labels, or a 0 or 1 for each of --label-names."""

    label_names: tuple[str, ...] | None = Table.label_names
    """Labels of the places of such a list, in their order."""

    tag_scheme: TagScheme | None = Table.tag_scheme
    """How the labels of words mark entities; default: as the labels show."""

    candidates: tuple[str, ...] = Table.candidates
    """Columns with the candidates of a multiple choice."""

    answer_as: AnswerAs | None = Table.answer_as
    """How the label column names the right candidate."""

    label_scale: Positive = Table.label_scale
    """Similarity scores of two texts are divided by this."""

    encoding: str = Table.encoding
    """Encoding of text files."""

    delimiter: str | None = Table.delimiter
    """What separates the cells of a csv or tsv file."""

    quoting: Literal["on", "off"] | None = Table.quoting
    """Whether cells of a csv or tsv file may be in quotes."""

    escape: str | None = Table.escape
    """Character of a csv or tsv file after which a quote or a delimiter is text."""

    documents: Documents = Table.documents
    """What a row of plain text is: a line, or the whole of a file."""

    on_bad_row: Literal["stop", "skip"] = "skip"
    """What a row that cannot be read does: be left out, counted and listed, or end with its line."""

    model: str = FineTuneConfig.model
    """The model whose word pieces are counted: a folder, a hub id, a name of the catalog, or models:/NAME@ALIAS."""

    max_length: Annotated[int, Range(3, LONGEST)] = FineTuneConfig.max_length
    """Longest example, in tokens."""

    batch_size: Count = FineTuneConfig.batch_size
    """Examples of a batch, to see what packing makes of them."""

    exploration: Exploration = field(default_factory=Exploration)

    write_clean: Path | None = None
    """File to write the table to, without the rows that --drop names; what was dropped and why is in a file
    `.dropped.jsonl` beside it."""

    drop: tuple[Drop, ...] = ()
    """Rows to leave out: those that are empty, that leak into --validation or --test, whose text has contradicting
    labels, and duplicates and near-duplicates of earlier rows."""

    experiment: str | None = None
    """MLflow experiment in which to record page, numbers and charts as a run; default: none."""

    out: Path | None = None
    """Folder to write; default: a new one under runs/."""

    overwrite: bool = False
    """Replace the folder, and the file of --write-clean, if they are there."""


def main(arguments: Sequence[str]) -> int:
    """Prints the most important numbers."""
    parsed = parse(Arguments, arguments, "bertjax eda")
    _check_cleaning(parsed)
    from bertjax.training.run.run_folder import new_folder

    out = parsed.out or new_folder(f"{Path(parsed.data).name.split('.')[0] or 'table'}-eda")
    with locked_folder(out):
        return _look(parsed, out)


def _check_cleaning(parsed: Arguments) -> None:
    """Raises ConfigError where the flags of cleaning contradict one another."""
    if parsed.drop and parsed.write_clean is None:
        raise ConfigError("--drop needs --write-clean, the file to write the other rows to")
    if parsed.write_clean is not None and not parsed.drop:
        raise ConfigError("--write-clean needs --drop, what to leave out: near_duplicates, contradictions, ...")
    if "leaks" in parsed.drop and not (parsed.validation or parsed.test):
        raise ConfigError("--drop leaks needs --validation or --test, the tables that rows may leak into")


def _look(parsed: Arguments, out: Path) -> int:
    check_replaceable(out, parsed.overwrite, _WRITTEN)
    from bertjax.eda.clean import clean
    from bertjax.eda.explore_table import explore_table
    from bertjax.eda.findings import headline
    from bertjax.eda.write_table import check_cleaned_file, write_cleaned
    from bertjax.report_pages.text_table import print_table
    from bertjax.stage_progress import stages_for_stderr

    table = _table(parsed)
    if parsed.write_clean is not None:
        check_cleaned_file(parsed.write_clean, table, parsed.overwrite)
    tracker = None if parsed.experiment is None else _tracker(parsed.experiment)
    explored = explore_table(
        table,
        task=parsed.task,
        model=parsed.model,
        max_length=parsed.max_length,
        batch_size=parsed.batch_size,
        settings=parsed.exploration,
        all_rows=parsed.write_clean is not None,
        progress=stages_for_stderr(),
    )
    cleaned = None if parsed.write_clean is None else clean(explored, parsed.drop)
    if parsed.write_clean is not None and cleaned is not None:
        dropped = (row._asdict() for row in cleaned.dropped)
        write_cleaned(parsed.write_clean, explored.observed.table, explored.sample.frame, cleaned.kept, dropped)
    _write(parsed, out, explored, cleaned, tracker)
    print_table(explored.table())
    say(f"{headline(explored.findings)}; the page is {out / PAGE}")
    if cleaned is not None:
        counts = {reason: sum(row.reason == reason for row in cleaned.dropped) for reason in parsed.drop}
        listed = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in counts.items())
        say(f"{len(cleaned.kept)} rows are in {parsed.write_clean}, without {listed}")
    return 0


def _tracker(experiment: str) -> "Tracker":
    """The tracker of an experiment, checked before anything is read."""
    from bertjax.tracking.mlflow_tracker import MlflowTracker

    tracker = MlflowTracker(experiment)
    tracker.check()
    return tracker


def _table(parsed: Arguments) -> Table:
    """The settings of the table."""
    names = [item for item in Table.__dataclass_fields__ if item in Arguments.__dataclass_fields__]
    own = {name: getattr(parsed, name) for name in names}
    return Table(**own, **{setting: getattr(parsed, flag) for flag, setting in _TABLE.items()})


def _write(
    parsed: Arguments, out: Path, explored: "Explored", cleaned: "Cleaned | None", tracker: "Tracker | None"
) -> None:
    """Writes the folder, and records it where there is a tracker."""
    from bertjax.eda.findings import plain
    from bertjax.eda.table_page import charts_for_files
    from bertjax.report_pages.png_charts import write_charts
    from bertjax.storage.atomic_write import replaced_folder, write_json
    from bertjax.tracking.tracker import tracked_run

    settings = {name: value for name, value in flatten(parsed).items() if value not in (None, [], ())}
    settings = {name: ", ".join(value) if isinstance(value, list) else str(value) for name, value in settings.items()}
    numbers = plain(explored.findings)
    if cleaned is not None:
        numbers["cleaned"] = {"kept": len(cleaned.kept), "dropped": len(cleaned.dropped)}
    with replaced_folder(out) as scratch:
        (scratch / PAGE).write_text(explored.html(settings), encoding="utf-8")
        write_json(scratch / NUMBERS, numbers)
        charts = charts_for_files(explored.findings) if tracker is not None else {}
        pictures = [path.name for path in write_charts(charts, scratch)]
    if tracker is not None:
        with tracked_run(tracker):
            tracker.start(out.name, settings, out)
            tracker.log_metrics(explored.metrics(), 0)
            for name in (PAGE, NUMBERS, *pictures):
                tracker.log_artifact(out / name)
