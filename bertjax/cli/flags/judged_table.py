"""The flags of a table to evaluate or predict: how it differs from the model's training rows."""

from dataclasses import dataclass
from typing import Any, Literal

from bertjax.data.table import AnswerAs, Table, TagScheme

# Flag -> the setting of a table that it changes.
COLUMNS = {
    "text_columns": "text",
    "pair_columns": "text_pair",
    "label_column": "label",
    "label_columns": "labels",
    "label_delimiter": "label_delimiter",
    "labels_as": "labels_as",
    "label_names": "label_names",
    "label_spelling": "label_spelling",
    "tag_scheme": "tag_scheme",
    "candidates": "candidates",
    "answer_as": "answer_as",
}
_DIALECT = ("delimiter", "quoting", "escape")


@dataclass(frozen=True)
class JudgedTable:
    """How the rows of --data are read."""

    text_columns: tuple[str, ...] | None = None
    """Columns with the text; default: those of the training rows."""

    pair_columns: tuple[str, ...] | None = None
    """Columns with the second text of a pair; default: those of the training rows."""

    label_column: str | None = None
    """Column with the label; default: that of the training rows."""

    label_columns: tuple[str, ...] | None = None
    """Columns with one label each; default: those of the training rows."""

    label_delimiter: str | None = None
    """What stands between the labels of a cell; default: as in the training rows."""

    labels_as: Literal["names", "flags"] | None = None
    """What a list in the label column holds: labels (`names`), or a 0 or 1 for each of --label-names (`flags`);
    default: as in the training rows."""

    label_names: tuple[str, ...] | None = None
    """Labels of the places of such a list, in their order; default: as in the training rows."""

    label_spelling: Literal["merge", "keep"] | None = None
    """Labels that look alike (1 and 1.0) are one (`merge`) or several (`keep`); default: as in the training rows."""

    tag_scheme: TagScheme | None = None
    """How the labels of words mark entities; default: as in the training rows."""

    candidates: tuple[str, ...] | None = None
    """Columns with the candidates of a multiple choice; default: those of the training rows."""

    answer_as: AnswerAs | None = None
    """How the label column names the right candidate: by its text, its letter, or its number from 0 or from 1; default:
    as in the training rows."""

    encoding: str = Table.encoding
    """Encoding of text files."""

    delimiter: str | None = None
    """What separates the cells of a csv or tsv file; default: as its suffix and its first lines say."""

    quoting: Literal["on", "off"] | None = None
    """Whether cells of a csv or tsv file may be in quotes; off: quotes are text. Default: as for training rows."""

    escape: str | None = None
    """Character of a csv or tsv file after which a quote or a delimiter is text."""

    on_bad_row: Literal["stop", "skip"] = Table.on_bad_row
    """What a broken row does: end with its line, or be left out, counted and listed."""

    def columns(self) -> dict[str, Any]:
        """Fields of `Table` that the flags give, and the dialect."""
        given = {setting: getattr(self, flag) for flag, setting in COLUMNS.items() if getattr(self, flag) is not None}
        if self.label_column is not None:
            given.setdefault("labels", ())
        return given | {setting: getattr(self, setting) for setting in _DIALECT}
