"""One definition of a missing cell in all formats: nothing, in a file without types; null, in one with types."""

import io
import json
import math

import openpyxl
import pandas as pd
import pytest

from bertjax.data.read.sources import read_table
from bertjax.data.table import Table
from bertjax.errors import DataError
from tests.support.tables import splits_of

ROWS = [
    {"text": "a", "label": "x"},
    {"text": "NA", "label": "null"},
    {"text": "nan", "label": None},
    {"text": None, "label": "y"},
    {"text": " ", "label": "None"},
    {"text": "b", "label": "N/A"},
]
MISSING = {"text": [False, False, False, True, False, False], "label": [False, False, True, False, False, False]}


def sheet():
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    for row in [("text", "label"), *(tuple(row.values()) for row in ROWS)]:
        book.active.append(row)
    book.save(buffer)
    return buffer.getvalue()


def parquet():
    buffer = io.BytesIO()
    pd.DataFrame(ROWS, dtype="str").to_parquet(buffer)
    return buffer.getvalue()


def lines(rows):
    return "\n".join(map(json.dumps, rows))


FILES = {
    "csv": ("t.csv", pd.DataFrame(ROWS).to_csv(index=False)),
    "csv with quotes": ("t.csv", 'text,label\n"a","x"\n"NA","null"\n"nan",""\n"","y"\n" ","None"\n"b","N/A"\n'),
    "tsv": ("t.tsv", pd.DataFrame(ROWS).to_csv(index=False, sep="\t")),
    "json": ("t.json", json.dumps(ROWS)),
    "json, keys that are not there": (
        "t.json",
        json.dumps([{name: cell for name, cell in row.items() if cell is not None} for row in ROWS]),
    ),
    "json, columns": ("t.json", json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]})),
    "json lines": ("t.jsonl", lines(ROWS)),
    "json lines, not a number": ("t.jsonl", lines([ROWS[0], ROWS[1], {**ROWS[2], "label": math.nan}, *ROWS[3:]])),
    "parquet": ("t.parquet", parquet()),
    "xlsx": ("t.xlsx", sheet()),
}


@pytest.mark.parametrize(("name", "content"), FILES.values(), ids=FILES)
def test_the_same_cells_are_missing_in_every_format(save, name, content):
    path = save(name, content)
    frame = read_table(path).frame
    assert frame.isna().to_dict("list") == MISSING
    with pytest.raises(DataError, match="row 3 has no label in column 'label'"):
        splits_of(Table(path))
    rows = splits_of(Table(path, test=path, leaks="report", on_bad_row="skip")).train
    assert (rows.texts, rows.labels) == (["a", "NA", "b"], ["x", "null", "N/A"])
