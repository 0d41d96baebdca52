"""Settings of reading rows that a model folder stores, so that other tables are read as the training table was.

The text columns are not among them: the stored preprocessing, which joins them, has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bertjax.data.table import Masking, Table
from bertjax.settings import flatten, override

_STORED = (
    "data.label", "data.labels", "data.label_delimiter", "data.labels_as", "data.label_names", "data.label_spelling",
    "data.tag_scheme", "data.label_scale", "data.candidates", "data.answer_as", "data.doc_stride",
    "data.documents", "data.split_seed", "masking.mask_share", "masking.whole_words",
)  # fmt: skip


@dataclass(frozen=True)
class TableReading:
    """How a table becomes rows."""

    data: Table = field(default_factory=Table)
    """Columns and labels."""

    masking: Masking = field(default_factory=Masking)
    """How words are hidden."""

    def stored(self) -> dict[str, Any]:
        """The settings that differ from their defaults, by dotted path; `data` has the columns that were found."""
        used, default = flatten(self), flatten(TableReading())
        return {path: used[path] for path in _STORED if used[path] != default[path]}

    @staticmethod
    def of(stored: Mapping[str, Any]) -> "TableReading":
        """The inverse of `stored`: the defaults with these settings.

        Raises:
          ConfigError: an unknown setting.
        """
        return override(TableReading(), stored)
