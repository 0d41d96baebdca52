"""The run of a fold: trains a model on the other rows, and predicts those of the fold.

OUT/tables/fold-0-train.jsonl, fold-0-test.jsonl  its rows
OUT/fold-0/       its run, a run folder like any other; the model and checkpoints go when the fold has ended
OUT/fold-0.npz    what its model says of its rows, written last
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bertjax.data.table import Table
from bertjax.eda.write_table import write_frame
from bertjax.errors import RunFolderError, writing
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.evaluation.label_issues.labelled_items import Items, items_of
from bertjax.evaluation.label_issues.outlying_texts import neighbour_distances
from bertjax.tracking.tracker import NullTracker
from bertjax.training.loop.progress import Progress
from bertjax.training.run import run_folder
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig

TABLES = "tables"


class FoldScores(NamedTuple):
    """What a model says of the rows that it was not trained on.

    Attributes:
      items: their labels, by the places of the rows in the whole table.
      rows: [m] these places.
      distances: [m] how far each row is from the others of the fold; None where the model makes no vectors.
    """

    items: Items
    rows: np.ndarray
    distances: np.ndarray | None

    def write(self, path: Path) -> None:
        """Writes a file in one step."""
        items, scratch = self.items, path.with_name(f".{path.name}.tmp")
        arrays: dict[str, Any] = {
            "names": np.array(items.names),
            "given": items.given,
            "probabilities": items.probabilities,
        }
        arrays |= {"probabilities": items.probabilities, "item_rows": items.rows, "rows": self.rows}
        optional = {"words": items.words, "distances": self.distances}
        arrays |= {name: values for name, values in optional.items() if values is not None}
        with writing(path, "free some space, and start again with --resume"):
            with scratch.open("wb") as file:
                np.savez(file, **arrays)
            scratch.replace(path)

    @classmethod
    def read(cls, path: Path) -> "FoldScores":
        """The inverse of `write`.

        Raises:
          RunFolderError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            names = tuple(arrays["names"].tolist())
            given, probabilities, item_rows = (arrays[name] for name in ("given", "probabilities", "item_rows"))
            items = Items(names, given, probabilities, item_rows, arrays.get("words"))
            return cls(items, arrays["rows"], arrays.get("distances"))
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(f"{path} is damaged ({error}); remove it, and --resume makes it again") from None


class FoldRows(NamedTuple):
    """The rows of a fold, as places in the frame of the table."""

    number: int
    train: np.ndarray
    held_out: np.ndarray


def scores_file(out: Path, fold: int) -> Path:
    """The file of a fold that has ended."""
    return out / f"fold-{fold}.npz"


def run_fold(
    config: FineTuneConfig,
    out: Path,
    fold: FoldRows,
    frame: pd.DataFrame,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> FoldScores:
    """Trains on the rows outside a fold, and judges those inside; a run that was stopped goes on, one that has ended is
    read.

    Args:
      config: the settings; of its table, the columns have been found.
      out: folder of all folds.
      fold: the rows.
      frame: of the whole table.
      progress, should_stop: as in `finetune`.

    Raises:
      UserError: as `finetune`.
    """
    ended, folder = scores_file(out, fold.number), out / f"fold-{fold.number}"
    if ended.exists():
        return FoldScores.read(ended)
    table = _with_tables(config.data, out, fold, frame)
    begun = (folder / run_folder.CONFIG).is_file()
    result = finetune(
        replace(config, data=table),
        folder,
        if_exists="resume" if begun else "error",
        tracker=NullTracker(),
        progress=progress,
        should_stop=should_stop,
    )
    assert table.test is not None
    judged = evaluate(str(result.model_dir), table.test, execution=config.execution).judged
    rows = fold.held_out[np.array(judged.rows.positions, np.int64)]
    scores = FoldScores(items_of(judged).at_rows(fold.held_out), rows, neighbour_distances(judged))
    scores.write(ended)
    for part in (run_folder.CHECKPOINTS, run_folder.MODEL):
        shutil.rmtree(folder / part, ignore_errors=True)
    return scores


def _with_tables(table: Table, out: Path, fold: FoldRows, frame: pd.DataFrame) -> Table:
    """The settings for a fold, whose tables are written unless they are there."""
    folder = out / TABLES
    with writing(folder, "free some space, or choose another --out"):
        folder.mkdir(exist_ok=True)
        paths = {side: folder / f"fold-{fold.number}-{side}.jsonl" for side in ("train", "test")}
        for side, rows in (("train", fold.train), ("test", fold.held_out)):
            if not paths[side].exists():
                scratch = folder / f"tmp-{paths[side].name}"
                write_frame(scratch, frame.iloc[rows].reset_index(drop=True), table)
                scratch.replace(paths[side])
    return replace(table, train=str(paths["train"]), test=str(paths["test"]), contract=None)
