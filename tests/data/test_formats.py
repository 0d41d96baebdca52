"""Each format is read as it was written; what is broken is told with the line of the file it is in."""

import csv
import gzip
import io
import json
import zipfile

import openpyxl
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.data.read.bad_rows import BadRow
from bertjax.data.read.sources import read_table
from bertjax.errors import DataError
from tests.support.tables import columns_of, zipped

ROWS = {"text": ["a b", "NA", 'say "hi",\nthen null', "é 中 😀"], "label": ["01", "1", "null", "x"]}
HEADER = "text,label\n"


def delimited(columns, separator=",", quoting=csv.QUOTE_MINIMAL):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=separator, quoting=quoting)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return buffer.getvalue().encode()


def binary(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def json_lines(columns):
    return "\n".join(json.dumps(row) for row in records(columns)).encode()


def records(columns):
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


WRITERS = {
    ".csv": delimited,
    ".tsv": lambda columns: delimited(columns, "\t"),
    ".json": lambda columns: json.dumps(records(columns), ensure_ascii=False).encode(),
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".parquet": lambda columns: binary(pd.DataFrame(columns, dtype="str").to_parquet),
    ".xlsx": lambda columns: binary(lambda buffer: pd.DataFrame(columns).to_excel(buffer, index=False)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_rows(save, kind):
    assert columns_of(save(f"t{kind}", WRITERS[kind](ROWS))) == ROWS


TABLES = st.lists(st.tuples(st.text(), st.text()), min_size=1)


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != ".xlsx"])
@given(TABLES)
def test_any_string_survives_writing_and_reading(tmp_path_factory, kind, rows):
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    path = tmp_path_factory.getbasetemp() / f"any{kind}"
    # A tsv has quotes if its header has; fewer of them may be text.
    path.write_bytes(delimited(columns, "\t", csv.QUOTE_ALL) if kind == ".tsv" else WRITERS[kind](columns))
    found = read_table(str(path)).frame
    # A csv has one way to write both an empty cell and a missing one.
    found = found.fillna("") if kind in (".csv", ".tsv") else found
    assert found.to_dict("list") == columns


@given(st.lists(st.text(), min_size=1))
def test_csv_of_one_column_skips_blank_lines(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "one.csv"
    path.write_bytes(delimited({"text": texts}))
    assert read_table(str(path)).frame.fillna("").to_dict("list") == {"text": texts}


@pytest.mark.parametrize(
    "text",
    [
        'text,label\r\n"a\r\nb",x\r\nc,y\r\n',
        'text,label\r"a\r\nb",x\rc,y\r',
        'text,label\n"a\r\nb",x\nc,y',
        '\n\ntext,label\n"a\r\nb",x\n\n \nc,y\n\n   \n\n',
        '\ufefftext,label\n"a\r\nb",x\nc,y\n',
    ],
    ids=["crlf", "old mac", "no last line end", "blank lines", "byte order mark"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_line_ends_blank_lines_and_byte_order_marks(save, text, encoding):
    assert columns_of(save("t.csv", text.encode(encoding)), encoding) == {"text": ["a\r\nb", "c"], "label": ["x", "y"]}


@pytest.mark.parametrize(("name", "text"), [("t.jsonl", '{"a": "é"}\r\n\r\n{"a": "b"}\r'), ("t.csv", "a\né\nb")])
def test_a_named_encoding(save, name, text):
    assert columns_of(save(name, text.encode("latin-1")), "latin-1") == {"a": ["é", "b"]}


def test_a_cell_as_long_as_a_book(save):
    book = "word " * 100_000
    before = csv.field_size_limit(1000)
    try:
        assert columns_of(save("t.csv", f"{HEADER}{book},x\n"))["text"] == [book]
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)


def test_an_index_that_pandas_wrote(save):
    frame = pd.DataFrame(ROWS)
    assert list(read_table(save("t.csv", frame.to_csv())).frame.columns) == ["Unnamed: 0", "text", "label"]
    named = binary(frame.set_index("text").to_parquet)
    filtered = binary(frame[frame["label"] != "1"].to_parquet)
    assert columns_of(save("named.parquet", named)) == ROWS
    assert list(columns_of(save("filtered.parquet", filtered))) == ["text", "label"]


def test_json_as_an_object_of_columns(save):
    assert columns_of(save("t.json", json.dumps(ROWS))) == ROWS
    frame = read_table(save("t.json", pd.DataFrame(ROWS).to_json())).frame
    assert frame.to_dict("list") == ROWS
    assert frame.index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_json_keeps_what_a_cell_holds(save, name):
    rows = [{"label": 2**53 + 1, "text": "2024-01-31"}, {"text": "NA"}, {"text": 5, "label": None}]
    content = json.dumps(rows) if name == "t.json" else "\n".join(map(json.dumps, rows))
    assert columns_of(save(name, content)) == {"label": [2**53 + 1, None, None], "text": ["2024-01-31", "NA", 5]}


def sheet(rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("second").append(["other"])
    return binary(book.save)


def test_cells_of_a_sheet_are_text(save):
    rows = [["text", "label", None], [], ["01", 1], [2.0, 0.5], ["NA", True], ["null", None], [None, None]]
    found = read_table(save("t.xlsx", sheet(rows))).frame
    assert found.fillna("").to_dict("list") == {"text": ["01", "2", "NA", "null"], "label": ["1", "0.5", "True", ""]}
    assert found["label"].isna().tolist() == [False, False, False, True]


def test_xlsx_without_styles_gives_no_warning(save):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sheet([["text"], ["a"]]))) as made, zipfile.ZipFile(buffer, "w") as other:
        for name in made.namelist():
            bare = b'<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"/>'
            other.writestr(name, bare if name == "xl/styles.xml" else made.read(name))
    assert columns_of(save("t.xlsx", buffer.getvalue())) == {"text": ["a"]}


QUOTED = 'text,label\n"two\nlines",x\r\n"three\r\nmore\rlines",y\n\n'
"""Rows on lines 2 and 4, a blank line 7: the next row is on line 8."""


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,b,c", r"line 8 has 3 fields, the header has 2 \(a cell with the separator in it needs quotes\)"),
        ("cut off", "line 8 has 1 field, the header has 2"),
        ('"two\nlines"', "line 8 has 1 field, the header has 2"),
        ('"say "hi"",x', r"line 8 has text after a quoted cell \(a quote inside a cell is written twice; .*\)"),
    ],
)
@pytest.mark.parametrize("compression", ["", ".gz"])
def test_the_line_of_a_broken_row(save, row, reason, compression):
    content = f"{QUOTED}{row}\nlast,z\n".encode()
    path = save(f"t.csv{compression}", gzip.compress(content) if compression else content)
    with pytest.raises(DataError, match=rf"^[^\n]*t.csv{compression}: {reason}; mend it, .*--on-bad-row skip\)$"):
        read_table(path)
    read = read_table(path, on_bad_row="skip")
    assert read.frame["text"].tolist() == ["two\nlines", "three\r\nmore\rlines", "last"]
    assert [(row.source, row.line) for row in read.skipped] == [(path, 8)]


@pytest.mark.parametrize("on_bad_row", ["stop", "skip"])
@pytest.mark.parametrize(
    ("row", "line"), [('"open,x\nc,z\n', 8), ('"clo\nsed","open\nc,z', 9), ('a,"', 8), ('a,b\nc,"d', 9)]
)
def test_a_quote_that_is_never_closed_stops(save, on_bad_row, row, line):
    path = save("t.csv", QUOTED + row)
    with pytest.raises(
        DataError,
        match=f"t.csv: the quote that opens in line {line} is never closed; where quotes are text: --quoting off$",
    ):
        read_table(path, on_bad_row=on_bad_row)


def test_the_first_broken_row_is_reported(save):
    path = save("t.csv", f'{HEADER}a\nb,"open\n')
    with pytest.raises(DataError, match="t.csv: line 2 has 1 field, the header has 2"):
        read_table(path)


def test_unclosed_quote_loses_one_line_only(save):
    path = save("t.csv", f'{QUOTED}"open,x\nb,y\nc,z\n"d",w\n')
    with pytest.raises(DataError, match="t.csv: line 8 has text after a quoted cell that closes in line 11"):
        read_table(path)
    read = read_table(path, on_bad_row="skip")
    assert read.frame["text"].tolist()[2:] == ["b", "c", "d"]
    assert [row.line for row in read.skipped] == [8]


JSON_LINES = (
    '{"text": "a"}\n\n{"text": "cut\n[1]\n"b"\n{"text": "c"}\n{"text": "\\ud83d"}\n{"text": "\\ud83d\\ude00"}\n'
)


def test_json_lines_that_are_no_objects(save):
    path = save("t.jsonl", JSON_LINES)
    with pytest.raises(DataError, match="t.jsonl: line 3 is no JSON object: Invalid control character at"):
        read_table(path)
    read = read_table(path, on_bad_row="skip")
    assert read.frame["text"].tolist() == ["a", "c", "😀"]
    assert read.skipped[1:] == (
        BadRow(path, 4, "is no JSON object but an array (name a file that is one array .json)"),
        BadRow(path, 5, "is no JSON object but a string"),
        BadRow(path, 7, "is no JSON object: a \\u escape is half of a surrogate pair"),
    )
    assert (read.skipped[0].source, read.skipped[0].line) == (path, 3)


PARQUET = WRITERS[".parquet"](ROWS)


TWICE = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["text", "text"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "is empty; it needs a header and rows"),
        ("t.csv", "\n \n\n", "is empty; it needs a header and rows"),
        ("t.csv", HEADER, "has no rows$"),
        ("t.csv", "text,label,text,id,id\n", "has two columns or more of the name 'id', 'text'; rename all but one"),
        ("t.csv", '"text"s,label\n', "t.csv: line 1 has text after a quoted cell"),
        ("t.csv", "text,label\na,x\ncafé,y\n".encode("latin-1"), "is not utf-8: byte 0xe9 in line 3 .*--encoding"),
        ("t.json", "", "is empty; it needs an array of objects"),
        ("t.json", "[]", "has no rows$"),
        ("t.json", "{}", "has no rows$"),
        ("t.json", '"text"', "is no table; it must hold an array of objects, or an object of columns"),
        ("t.json", '{"text": "a"}', "is no table; it must hold an array of objects, or an object of columns"),
        ("t.json", '{"text": ["a"], "label": []}', "is no table: its columns have different rows"),
        ("t.json", '{"text": {"0": "a"}, "label": {"1": "x"}}', "is no table: its columns have different rows"),
        ("t.json", '[{"text": "a"}, null]', "is no table: item 2 of its array is null, no object"),
        ("t.json", '[\n{"text": 1', "cannot be read as JSON: line 2: Expecting"),
        ("t.json", '{"text": 1}\n{"text": 2}', "line 2: Extra data; name a file with one object a line .jsonl"),
        ("t.json", "[" * 100_000, "cannot be read: nested too deeply"),
        ("t.json", r'[{"text": "\ud83d"}]', r"cannot be read: a \\u escape is half of a surrogate pair"),
        ("t.jsonl", "\n\n", "is empty; it needs one JSON object a line"),
        ("t.parquet", PARQUET[:-20], "cannot be read; it is cut short or no parquet file: "),
        ("t.parquet", PARQUET[:100] + PARQUET[300:], "cannot be read; it is cut short or no parquet file: "),
        ("t.parquet", b"", "cannot be read; it is cut short or no parquet file: "),
        (
            "t.parquet",
            binary(lambda b: pyarrow.parquet.write_table(TWICE, b)),
            "two columns or more of the name 'text'",
        ),
        ("t.xlsx", b"no zip", "cannot be read; it is damaged or no xlsx file: File is not a zip file"),
        ("t.xlsx", zipped(b"", "a"), "cannot be read; it is damaged or no xlsx file: "),
        ("t.xlsx", sheet([]), "is empty: its first sheet has no cells"),
        ("t.xlsx", sheet([["text", "label"]]), "has no rows$"),
        ("t.xlsx", sheet([["text", "text"], ["a", "b"]]), "has two columns or more of the name 'text'"),
    ],
    ids=lambda value: "bytes" if isinstance(value, bytes) else None,
)
def test_files_that_are_no_tables(save, name, content, message):
    path = save(name, content)
    with pytest.raises(DataError, match=message) as caught:
        read_table(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)
