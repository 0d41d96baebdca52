"""The Arrow types of input columns, for an output whose format has types: one type for all rows, decided beforehand.

A column has the type of its cells. Where they have none in common, such as numbers and texts in json lines, or where an
integer is too large for 64 bits, every cell of the column is written as JSON text.
"""

import base64
from typing import Any

import pandas as pd

from bertjax.inference.batch.plain_values import json_text, plain_cells

_AS_JSON = {b"cells": b"json"}  # metadata of a column that is written as JSON text


class ColumnTypes:
    """Learns the types of columns frame by frame; `schema` has what is known."""

    def __init__(self) -> None:
        import pyarrow

        self.schema = pyarrow.schema([])
        self._inexact: set[str] = set()  # columns with integers that no float is

    def add(self, frame: pd.DataFrame) -> None:
        """Takes the cells of a frame into account."""
        import pyarrow

        for name in frame.columns:
            known = self.schema.get_field_index(name)
            if known >= 0 and self.schema.field(known).metadata == _AS_JSON:
                continue
            try:
                found = _array(frame[name])
                field = pyarrow.field(name, found.type)
                if self._is_inexact(found):
                    self._inexact.add(name)
                if known >= 0:
                    field = self._merged(self.schema.field(known), field)
            except (pyarrow.ArrowException, OverflowError):
                field = pyarrow.field(name, pyarrow.string(), metadata=_AS_JSON)
            self.schema = self.schema.append(field) if known < 0 else self.schema.set(known, field)

    def _merged(self, one: Any, other: Any) -> Any:
        import pyarrow

        if {one.type, other.type} == {pyarrow.int64(), pyarrow.float64()} and one.name not in self._inexact:
            return one.with_type(pyarrow.float64())
        return pyarrow.unify_schemas([pyarrow.schema([one]), pyarrow.schema([other])]).field(0)

    @staticmethod
    def _is_inexact(found: Any) -> bool:
        import pyarrow

        if found.type != pyarrow.int64():
            return False
        try:
            found.cast(pyarrow.float64())
        except pyarrow.ArrowInvalid:
            return True
        return False


def typed_array(column: pd.Series, field: Any) -> Any:
    """The cells of a column as an Arrow array of its field's type."""
    import pyarrow

    if field.metadata == _AS_JSON:
        cells = [None if cell is None else json_text(cell) for cell in plain_cells(column)]
        return pyarrow.array(cells, pyarrow.string())
    return _array(column, field.type)


def schema_text(schema: Any) -> str:
    """A schema as text that `schema_of_text` reads."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def schema_of_text(text: str) -> Any:
    """The inverse of `schema_text`."""
    import pyarrow

    return pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(text)))


def _array(column: pd.Series, kind: Any = None) -> Any:
    """Cells as an array of a type, or of the type that they have; plain values where pandas has no type for them."""
    import pyarrow

    if isinstance(column.dtype, pd.DatetimeTZDtype):  # pyarrow's own way makes pandas 3.1 warn
        found = pyarrow.timestamp(column.dtype.unit, str(column.dtype.tz))
        return pyarrow.array(column.dt.tz_convert(None), from_pandas=True).cast(found).cast(kind or found)
    has_type = not (pd.api.types.is_object_dtype(column) or isinstance(column.dtype, pd.CategoricalDtype))
    return pyarrow.array(column if has_type else plain_cells(column), kind, from_pandas=True)
