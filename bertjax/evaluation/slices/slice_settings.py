"""The flags of slices; the command line reads them before anything heavy is imported."""

from dataclasses import dataclass
from pathlib import Path

from bertjax.settings import Count, check_ranges

SLICES = "slices.json"


@dataclass(frozen=True)
class SliceSettings:
    """Which parts of the rows are judged by themselves."""

    slices: Path | None = None
    """A Python file with slices: functions of a row, under @slice_function, that say whether it is in the slice."""

    slice_columns: tuple[str, ...] = ()
    """Columns of the table whose values are slices; numbers of many values are cut into quarters."""

    automatic_slices: bool = True
    """Leave out the slices by length, true label, confidence, unknown words, and what else the task has."""

    slice_values: Count = 20
    """Values of a column that become slices, at most; the most frequent."""

    slice_min_rows: Count = 5
    """Rows that a slice needs to be ranked; smaller ones are listed below the others."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def reads_cells(self) -> bool:
        """Whether the cells of all columns are needed."""
        return self.slices is not None or bool(self.slice_columns)
