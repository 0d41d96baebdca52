"""Tables in parquet files, and the names that Hugging Face's `datasets` stores of their classes.

`datasets` writes a class as an integer and its names into the metadata of the schema, as `ClassLabel` in a description
of all columns; -1 is a missing class.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bertjax.batch import UNLABELLED
from bertjax.data.read.content import Content, check_names, frame_of_columns
from bertjax.data.read.notes import Note
from bertjax.errors import DataError

NO_CLASS = -1


def read_parquet(content: Content) -> Iterable[pd.DataFrame]:
    """Frames of the rows of a parquet file."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(content.file)
        schema = table.schema_arrow
        check_names(schema.names, content.source)
        names = class_names(schema.metadata) if content.reading.class_names else {}
        for column, classes in names.items():
            shown = ", ".join(map(repr, classes[:3])) + (", ..." if len(classes) > 3 else "")
            content.on_note(Note(content.source, f"the integers of column {column!r} are read as its classes {shown}"))
        batches = table.iter_batches(batch_size=content.most_rows) if table.metadata.num_rows else [table.read()]
        for batch in batches:
            yield _named(_frame_of_batch(batch), names, content.source)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{content.source} cannot be read; it is cut short or no parquet file: {reason}") from None


def _frame_of_batch(batch: Any) -> pd.DataFrame:
    # Floats, which pandas would make of integers with a gap, have no room for large ones.
    frame = batch.to_pandas(integer_object_nulls=True)
    # pandas saves a named index apart from the columns; it may hold texts or labels.
    return frame.reset_index(drop=list(frame.index.names) == [None])


def class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Column -> the names of its classes, for columns of classes and of lists of classes."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):  # another program's, or none
        return {}
    found = {column: _names_of(feature) for column, feature in features.items()}
    return {column: names for column, names in found.items() if names}


def _names_of(feature: Any) -> list[str] | None:
    """The names in a feature: `{"_type": "ClassLabel", "names": [...]}`, or a list of one, as versions write it."""
    if isinstance(feature, list) and len(feature) == 1:
        return _names_of(feature[0])
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        return feature.get("names")
    return _names_of(feature["feature"]) if "feature" in feature else None


def _named(frame: pd.DataFrame, names: Mapping[str, Sequence[str]], source: str) -> pd.DataFrame:
    """The frame with class names instead of class indices.

    Raises:
      DataError: a class that has no name.
    """

    def name_of(cell: Any, column: str) -> Any:
        if isinstance(cell, str):
            return cell
        if isinstance(cell, Iterable):
            return [name_of(item, column) for item in cell]
        if pd.isna(cell) or cell == NO_CLASS:
            return None
        if cell == UNLABELLED:
            return cell
        if not 0 <= cell < len(names[column]):
            known = len(names[column])
            raise DataError(f"{source}: column {column!r} holds {cell}, but the schema names classes 0 to {known - 1}")
        return names[column][int(cell)]

    columns = {column: [name_of(cell, column) for cell in frame[column]] for column in names if column in frame}
    return frame.assign(**frame_of_columns(columns))
