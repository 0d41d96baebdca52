"""`TextReader`: converts a user's texts, pairs or records to preprocessed rows of the model's task."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bertjax.data.rows.cells import BadCell, shown
from bertjax.data.rows.labelled_rows import Row, Rows
from bertjax.data.rows.labelled_rows import Text as RowText
from bertjax.data.rows.preprocessing import Preprocessing
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat
from bertjax.errors import DataError

Text = str | list[str] | tuple[str, str | Sequence[str]] | Mapping[str, Any]
"""A text, a pair of texts, or a row: the cells of the columns that the model was trained on. Where words are labelled,
a list of words; of a multiple choice, a question and the list of its candidates."""


class TextReader:
    """Reads texts as training read its rows, except that it drops none: each has its answer, even one in which the
    preprocessing leaves no text.

    Attributes:
      columns: of the rows that the model was trained on; none where it was saved without them.
    """

    def __init__(self, task_format: TaskFormat, table: Table, preprocessing: Preprocessing, names: tuple[str, ...]):
        """Where `names` are those of the labels, of which a row gets a placeholder."""
        self.columns = task_format.text_columns(table) if preprocessing.text else ()
        self._format = task_format
        self._table = table
        self._preprocessing = preprocessing
        self._names = names

    def rows(self, texts: Iterable[Text] | pd.DataFrame, first: int = 1) -> Rows:
        """Preprocessed texts as rows.

        Args:
          texts: texts, pairs or rows.
          first: number of the first one in errors.

        Raises:
          DataError: something that is no text, a row without a column or without text, or texts and pairs together.
        """
        if isinstance(texts, str):
            raise DataError(f"a predictor takes a list of texts; give [{texts[:40]!r}]")
        entries = _records(texts) if isinstance(texts, pd.DataFrame) else texts
        rows = [self._row(entry, number) for number, entry in enumerate(entries, start=first)]
        pairs = [row.pair for row in rows if row.pair is not None]
        if pairs and len(pairs) < len(rows):
            raise DataError(f"{len(pairs)} of {len(rows)} texts are pairs; give pairs or single texts, not both")
        return Rows([row.text for row in rows], pairs or None, [row.label for row in rows], list(range(len(rows))))

    def _row(self, entry: Text, number: int) -> Row:
        try:
            text, pair = self._read(entry) if isinstance(entry, Mapping) else self._format.plain(entry)
            text, pair = self._prepared(text), None if pair is None else self._prepared(pair)
        except BadCell as error:
            raise DataError(f"{'row' if isinstance(entry, Mapping) else 'text'} {number} {error}") from None
        return Row(text, pair, self._format.placeholder(text, self._names))

    def _read(self, cells: Mapping[str, Any]) -> tuple[RowText, RowText | None]:
        """The texts of a row, as training made them of its columns."""
        if not self.columns:
            raise DataError("the model was saved without the names of its columns; give texts instead of rows")
        missing = [repr(column) for column in self.columns if column not in cells]
        if missing:
            raise BadCell(
                f"has no {', '.join(missing)}; the model reads {', '.join(map(repr, self.columns))} (None stands for "
                f"an empty cell)"
            )
        return self._format.read_texts(cells, self._table)

    def _prepared(self, text: RowText) -> RowText:
        """The text, preprocessed where that may change it; raises BadCell where it is no Unicode text."""
        for part in (text,) if isinstance(text, str) else text:
            if not _is_unicode(part):
                raise BadCell(f"holds {shown(part)}, in which half of a surrogate pair is no character")
        if self._format.positions:
            return text
        return self._preprocessing(text) if isinstance(text, str) else tuple(map(self._preprocessing, text))


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _records(frame: pd.DataFrame) -> list[Mapping[str, Any]]:
    return [dict(zip(map(str, frame.columns), row, strict=True)) for row in frame.itertuples(index=False, name=None)]
