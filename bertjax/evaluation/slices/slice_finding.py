"""Evaluates all slices: the section of the report, the metrics, and the file of their rows."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertjax.data.split.labelled_table import count_of
from bertjax.errors import ConfigError
from bertjax.evaluation.judged_rows import Finding, JudgedRows
from bertjax.evaluation.slices.automatic_slices import automatic_slices
from bertjax.evaluation.slices.slice_functions import load_slice_functions
from bertjax.evaluation.slices.slice_scores import TITLES, SliceScores, SliceTable, alike_rows, slice_scores
from bertjax.evaluation.slices.slice_settings import SLICES, SliceSettings
from bertjax.evaluation.slices.sliced_rows import Slice, slices_of_column, slices_of_functions
from bertjax.report_pages.blocks import Block, Cell, DataTable, Details, Figure, Paragraph, Ranged, Section, Share
from bertjax.report_pages.charts import Bars
from bertjax.tracking.metric_names import DistinctNames

_LONGEST_NAME = 210
_SHOWN = 10
_DRAWS = 1000
_SEED = 0  # of the bootstrap


def find_slices(judged: JudgedRows, settings: SliceSettings) -> Finding | None:
    """Judges the slices.

    Args:
      judged: the rows.
      settings: which slices.

    Returns:
      The section, `slice/NAME/f1_weighted` and the like, and a file with the rows of each slice; None where there is no
      slice.

    Raises:
      UserError: a file or a column that cannot be used, or two slices of one name.
    """
    predictions = judged.predictions()
    slices, notes = list[Slice](), list[str]()
    if settings.slices is not None:
        slices += slices_of_functions(load_slice_functions(settings.slices), judged, str(settings.slices))
    for column in dict.fromkeys(settings.slice_columns):
        of_column, note = slices_of_column(column, judged, settings.slice_values)
        slices, notes = slices + of_column, [*notes, *filter(None, [note])]
    if settings.automatic_slices:
        automatic, more = automatic_slices(judged, predictions, settings.slice_min_rows, settings.slice_values)
        slices, notes = slices + automatic, notes + more
    if not slices:
        return None
    _check_distinct(slices)
    table = slice_scores(slices, alike_rows(judged, predictions), settings.slice_min_rows, _DRAWS, _SEED)
    return Finding(
        section=_section(table, notes, len(judged.rows.texts), settings.slice_min_rows),
        metrics=_metrics(table),
        files={SLICES: json.dumps(_file(table, judged), ensure_ascii=False, indent=1) + "\n"},
    )


def _check_distinct(slices: Sequence[Slice]) -> None:
    names = [part.name for part in slices]
    if twice := next((part for part in slices if names.count(part.name) > 1), None):
        raise ConfigError(f"two slices are named {twice.name!r}; give the function another name=")


def _metrics(table: SliceTable) -> dict[str, float]:
    """Flat metrics of the slices that have rows, under names that MLflow takes."""
    names = DistinctNames(_LONGEST_NAME).add([scores.part.name for scores in table.slices])
    metrics: dict[str, float] = {}
    for scores in table.slices:
        key = f"slice/{names[scores.part.name]}"
        values = {metric: ranged.value for metric, ranged in scores.metrics.items()}
        metrics |= {f"{key}/rows": float(scores.rows)}
        metrics |= {f"{key}/{metric}": value for metric, value in values.items() if not np.isnan(value)}
    return metrics


def _file(table: SliceTable, judged: JudgedRows) -> list[dict[str, Any]]:
    """What the file says of each slice; rows have the numbers that they have in predictions.jsonl."""
    numbers = np.array(judged.rows.positions) + 1
    return [
        {
            "name": scores.part.name,
            "kind": scores.part.kind,
            "meaning": scores.part.meaning,
            "count": scores.rows,
            "failed": scores.part.failed,
            "rank": scores.rank,
            "metrics": {key: _plain(ranged) for key, ranged in scores.metrics.items()},
            "difference": _plain(scores.difference),
            "rows": numbers[scores.part.members].tolist(),
        }
        for scores in table.slices
    ]


def _plain(ranged: Ranged) -> list[float | None]:
    """A value and its interval, as JSON has them."""
    return [None if np.isnan(number) else number for number in ranged]


def _section(table: SliceTable, notes: Sequence[str], num_rows: int, min_rows: int) -> Section:
    """The worst slices and the user's own ones; all of them, with all metrics, are folded away."""
    failed = [
        f"slice {scores.part.name!r} raised for {count_of(scores.part.failed, 'row')}, which are not in it"
        for scores in table.slices
        if scores.part.failed
    ]
    ranks = [scores for scores in table.slices if scores.part.kind == "file" or (scores.rank or np.inf) <= _SHOWN]
    shown = ranks if table.main is not None else table.slices[:_SHOWN]
    blocks: list[Block] = [Paragraph(_explained(table, min_rows))]
    blocks += [Paragraph(f"{note[:1].upper()}{note[1:]}.", is_note=True) for note in (*failed, *notes)]
    if table.main is not None:
        blocks.append(Figure(_bars(table), "The worst slices beside all rows."))
    main = list(table.whole)[:1]
    blocks.append(_data_table("The worst slices and your own", table._replace(slices=shown), main, num_rows, min_rows))
    every = _data_table("Slices, the worst first", table, list(table.whole), num_rows, min_rows)
    blocks.append(Details(f"All {count_of(len(table.slices), 'slice')}", [every]))
    return Section("slices", "Slices", blocks)


def _data_table(caption: str, table: SliceTable, keys: Sequence[str], num_rows: int, min_rows: int) -> DataTable:
    titles = [TITLES[key] for key in keys]
    has_notes = any(_note(scores, min_rows) for scores in table.slices)
    columns = ["slice", "by", "rows", "share", *titles[:1], *["difference"] * bool(keys), *titles[1:]]
    rows = [
        [
            _name(scores), scores.part.kind, scores.rows, Share(scores.rows / num_rows),
            *_scores(scores.metrics, keys, scores.difference), *[_note(scores, min_rows)] * has_notes,
        ]
        for scores in table.slices
    ]  # fmt: skip
    whole: list[Cell] = ["all rows", "", num_rows, Share(1), *_scores(table.whole, keys, None), *[""] * has_notes]
    return DataTable([*columns, *["note"] * has_notes], rows, caption, [whole])


def _scores(metrics: Any, keys: Sequence[str], difference: Ranged | None) -> list[Cell]:
    """The main metric, the difference, and the other metrics."""
    if not keys:
        return []
    cells: list[Cell] = [_cell(metrics[key]) for key in keys]
    return [cells[0], None if difference is None else _cell(difference), *cells[1:]]


def _cell(ranged: Ranged) -> Cell:
    return ranged if not np.isnan(ranged.low) else ranged.value


def _name(scores: SliceScores) -> str:
    return f"{scores.part.name} ({scores.part.meaning})" if scores.part.meaning else scores.part.name


def _note(scores: SliceScores, min_rows: int) -> str:
    notes = [f"raised for {count_of(scores.part.failed, 'row')}"] if scores.part.failed else []
    if not scores.rows:
        notes.append("no row")
    elif scores.rows < min_rows:
        notes.append("too few rows to rank")
    return "; ".join(notes)


def _explained(table: SliceTable, min_rows: int) -> str:
    if table.main is None:
        return "Parts of the rows. The task has no metrics of parts."
    return (
        f"Parts of the rows, which may overlap, with 95% intervals of {table.draws} bootstrap draws. The difference is "
        f"that of {TITLES[table.main]} to all rows. Slices that are certainly worse than all rows by most come first: "
        f"what counts is the end of the difference's interval that is nearest to no difference. Slices of fewer than "
        f"{min_rows} rows are not ranked."
    )


def _bars(table: SliceTable) -> Bars:
    assert table.main is not None
    worst = [scores for scores in table.slices if scores.rank is not None][:_SHOWN]
    values = {_name(scores): scores.metrics[table.main].value for scores in worst}
    values = {"all rows": table.whole[table.main].value} | values
    shown = {name: value for name, value in values.items() if not np.isnan(value)}
    unit: Any = "share" if max(shown.values(), default=0) <= 1 and table.main not in ("mae", "mse") else "number"
    return Bars("Worst slices", shown, unit, "slice", TITLES[table.main])
