"""A delimited file is read in the dialect it is written in, as pandas reads it when told so, or it is refused with the
flag that says so; whatever is chosen is said in one line, and no row vanishes without a word."""

import csv
import io
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.data.read.sources import read_table
from bertjax.data.table import Table
from bertjax.errors import ConfigError, DataError
from tests.support.tables import columns_of, splits_of

STRAY = 'text\tlabel\n"good film he said\tpos\nbad film\tneg\nlong film"\tneg\nfine\tpos\n'
"""Quotes are text: four rows, of which the second line to the fourth look like one quoted cell."""


def pandas_of(content, **options):
    """What pandas reads when it is told the dialect."""
    return pd.read_csv(io.StringIO(content), dtype=str, keep_default_na=False, **options).to_dict("list")


def filled(path):
    return {name: [cell if isinstance(cell, str) else "" for cell in cells] for name, cells in columns_of(path).items()}


TEXT, QUOTED = {"sep": "\t", "quoting": csv.QUOTE_NONE}, {"sep": "\t"}
SAID_QUOTED, SAID_TEXT = "cells in quotes are read without them", "quotes are text"
DIALECTS = {
    "tsv with stray quotes": (".tsv", STRAY, TEXT, SAID_TEXT),
    "tsv, a quote that never closes": (".tsv", 'text\tlabel\na\tx\n"open\ty\nb\tx\n', TEXT, SAID_TEXT),
    "tsv, text after a quote": (".tsv", 'text\tlabel\n"Wow" he said\tx\n"b"\ty\n', TEXT, SAID_TEXT),
    "tsv, one cell in quotes": (".tsv", 'text\tlabel\na\tx\n"b"\ty\nc\tx\n', TEXT, SAID_TEXT),
    "tsv, stray quotes around line breaks": (".tsv", 'text\tlabel\n"a\tx\n\nb"\ty\n', TEXT, SAID_TEXT),
    "tsv, many stray quotes and a doubled one": (".tsv", STRAY + '"a\tx\n' * 20 + '"b ""c"""\ty\n', TEXT, SAID_TEXT),
    "tsv, quotes inside cells": (".tsv", 'text\tlabel\nsay "hi"\tx\nb "\ty\n', TEXT, ""),
    "tsv with doubled quotes": (".tsv", 'text\tlabel\na\tx\n"say ""hi"""\ty\n', QUOTED, SAID_QUOTED),
    "tsv with quoted tabs": (".tsv", 'text\tlabel\n"a\tb"\tx\nc\ty\n', QUOTED, SAID_QUOTED),
    "tsv with quoted line breaks": (".tsv", 'text\tlabel\n"a\nb\nc"\tx\nc\ty\n', QUOTED, SAID_QUOTED),
    "tsv with a quoted header": (".tsv", '"text"\t"label"\n"a"\t"x"\nb\ty\n', QUOTED, SAID_QUOTED),
    "tsv with a column in quotes": (".tsv", 'text\tlabel\n"a"\tx\n"b"\ty\n', QUOTED, SAID_QUOTED),
    "tsv, quotes that begin late": (
        ".tsv",
        "text\tlabel\n" + "a\tx\n" * 70_000 + '"say ""hi"""\ty\n"c\nd"\tz\n',
        QUOTED,
        SAID_QUOTED,
    ),
    "csv with semicolons": (".csv", 'text;label\n"a;b";x\nc, d;y\n', {"sep": ";"}, "separated by ';'"),
    "csv with semicolons and decimal commas": (".csv", "text;label\na;0,5\nb;1,5\n", {"sep": ";"}, "separated by ';'"),
    "csv, a comma in the header": (".csv", "text, raw;label\na;x\nb;y\n", {"sep": ";"}, "separated by ';'"),
    "csv with bars": (".csv", "text|label\na, b|x\n", {"sep": "|"}, "separated by '|'"),
    "csv with tabs": (".csv", STRAY, TEXT, "separated by a tab"),
    "csv with tabs and quotes": (".csv", 'text\tlabel\n"say ""hi"""\tx\n', QUOTED, "separated by a tab"),
    "tsv with commas": (".tsv", 'text,label\n"a, b",x\nc,y\n', {}, "separated by a comma"),
    "Excel's first line": (".csv", "sep=;\ntext;label\na;x\n", {"sep": ";", "skiprows": 1}, "separated by ';'"),
    "Excel's first line, with the usual sign": (".csv", "sep=,\r\ntext,label\r\na,x\r\n", {"skiprows": 1}, ""),
    "spaces before quotes": (
        ".csv",
        'label,text\nx, "b, c"\ny,"d"\n',
        {"skipinitialspace": True},
        "spaces after delimiters are no part of the cells",
    ),
    "spaces before the last quotes": (
        ".csv",
        'text,label\na, "x"\n"b, c", "y"\n',
        {"skipinitialspace": True},
        "spaces after delimiters are no part of the cells",
    ),
    "spaces after each comma": (
        ".csv",
        "label, text\nx, a\ny, b\nz,\n",
        {"skipinitialspace": True},
        "spaces after each ',' are no part of the cells",
    ),
    "spaces in quotes": (".csv", 'text,label\n" ""a""", x\n"b, ""c""", y\n', {}, ""),
    "spaces that are text": (".csv", 'text,label\n a, x\nb, "y" z\n', {}, ""),
    "backslashes before quotes": (
        ".csv",
        'text,label\n"He said \\"hi\\", ok",x\n"b",y\n',
        {"escapechar": "\\"},
        r"\" in a quoted cell is read as a quote",
    ),
    "backslashes that are text": (".csv", 'text,label\n"C:\\dir\\",x\nC:\\b,y\n', {}, ""),
    "doubled quotes": (".csv", 'text,label\n"say ""hi, you""",x\n"a\nb",y\n', {}, ""),
    "one column": (".csv", 'text\na b\n"c, d"\n', {}, ""),
    "one column, other signs in the text": (".csv", "text\na; b\nc|d; e\n", {}, ""),
    "one column, a sign in the header": (".csv", 'a; b\nc\n"d, e"\nf\n', {}, ""),
    "no rows": (".csv", "text;label\n\na;b\n", {"sep": ";"}, "separated by ';'"),
}


@pytest.mark.parametrize(("suffix", "content", "options", "said"), DIALECTS.values(), ids=DIALECTS)
def test_a_file_is_read_in_its_own_dialect(save, caplog, suffix, content, options, said):
    """Read as pandas reads it with the right options."""
    with caplog.at_level(logging.INFO):
        found = filled(save(f"t{suffix}", content))
    assert found == pandas_of(content, **options)
    assert said in " ".join(caplog.messages)
    assert bool(caplog.messages) == bool(said)


@pytest.mark.parametrize("separator", "\t,;|")
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_whatever_pandas_writes_is_read(save, separator, quoting):
    frame = pd.DataFrame({"text": ["a", 'say "hi"', "b\nc\nd", ' "e"', "f;g|h", "\ti"], "label": list("xyzxyz")})
    content = frame.to_csv(index=False, sep=separator, quoting=quoting)
    assert columns_of(save("t.csv", content)) == frame.to_dict("list")
    assert columns_of(save("t.tsv", content)) == frame.to_dict("list")


@pytest.mark.parametrize("seed", range(20))
def test_no_row_of_a_tsv_with_stray_quotes_vanishes(save, seed):
    rng = np.random.default_rng(seed)
    marks = np.array(["", "", "", '"'])
    lines = ["{}film {}all{} {}was{}\t{}".format(*rng.choice(marks, 5), rng.choice(["pos", "neg"])) for _ in range(120)]
    content = "\n".join(["text\tlabel", *lines, ""])
    assert columns_of(save("t.tsv", content)) == pandas_of(content, **TEXT)


@pytest.mark.parametrize("seed", range(20))
def test_no_row_of_a_csv_with_stray_quotes_vanishes_without_a_word(save, caplog, seed):
    """Each quote opens a cell or ends one: a row that is read from several lines is counted and shown."""
    rng = np.random.default_rng(seed)
    words = [str(rng.choice(['"film', 'film"'])) if i % 10 == 0 else "film" for i in range(120)]
    lines = [f"{word},pos" for word in words]
    path = save("t.csv", "\n".join(["text,label", *lines, ""]))
    found = read_or_refusal(path)
    said = found if isinstance(found, str) else caplog.text
    assert "--quoting off" in said or len(found["text"]) == 120


CELLS = st.text(st.sampled_from('ab ",\t\n\\;|'), max_size=6)


@pytest.mark.parametrize("separator", ",;|")
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5).filter(lambda rows: any(map(str.strip, rows[0]))))
def test_a_csv_is_read_as_it_was_written(tmp_path_factory, separator, rows):
    """Whatever of spaces, escapes and other separators its cells hold."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=separator).writerows([("text", "label"), *rows])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(buffer.getvalue().encode())
    assert list(zip(*filled(str(path)).values(), strict=True)) == rows


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_a_tsv_is_read_as_it_was_written_or_its_lines_are(tmp_path_factory, rows):
    """Read with quotes or without, as the csv module reads it one of these ways, or refused."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter="\t").writerows([("text", "label"), *rows])
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    path.write_bytes(buffer.getvalue().encode())
    found = read_or_refusal(str(path))
    if isinstance(found, str):
        assert "--quoting" in found or "field" in found
        return
    lines = csv.reader(io.StringIO(buffer.getvalue(), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    assert list(zip(*found.values(), strict=True)) in (rows, [tuple(line) for line in lines if line][1:])


def read_or_refusal(path):
    try:
        return filled(path)
    except DataError as error:
        return str(error)


SWALLOWING = {
    "one row of three lines": (STRAY.replace("\t", ","), "1 of 1 rows", "(lines 2-4)"),
    "two": (STRAY.replace("\t", ",") + '"a,x\nb",y\n', "2 of 2 rows", "(lines 2-4, 6-7)"),
    "among others": ('text,label\n"a\nb\nc",x\n"d,x\ne",y\n', "1 of 2 rows", "(lines 5-6)"),
    "with a blank line": ('text,label\n"d,x\n\ne",y\n', "1 of 1 rows", "(lines 2-4)"),
    "a tsv that has quotes": ('"text"\t"label"\n"d\tx\ne"\ty\n', "1 of 1 rows", "(lines 2-3)"),
}


@pytest.mark.parametrize(("content", "count", "lines"), SWALLOWING.values(), ids=SWALLOWING)
def test_a_quoted_cell_that_swallows_rows_is_told(save, caplog, content, count, lines):
    read_table(save("t.tsv" if "\t" in content else "t.csv", content))
    (message,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert count in message
    assert lines in message
    assert message.endswith("where quotes are text: --quoting off")


def test_one_broken_row_of_a_tsv_with_quotes_is_left_out(save):
    path = save("t.tsv", "text\tlabel\n" + '"say ""hi"""\tx\n' * 20 + '"Wow" he said\ty\n"a\tb"\tz\n')
    with pytest.raises(DataError, match="line 22 has text after a quoted cell .*--quoting off"):
        read_table(path)
    found = columns_of(path, on_bad_row="skip")
    assert found == {"text": ['say "hi"'] * 20 + ["a\tb"], "label": ["x"] * 20 + ["z"]}


def test_line_breaks_in_cells_are_not_told(save, caplog):
    read_table(save("t.csv", 'text,label\n"a, b, c\nd",x\n"e\n\nf, g\nh",x\n"i\nj",y\n'))
    assert not caplog.messages


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
REFUSED = {
    "quotes of both kinds": (
        ".tsv",
        'text\tlabel\n"say ""hi"""\tx\n"open\ty\n',
        "line 2 has a cell in quotes, and in line 3 a quote may be text; say which holds: --quoting on or ",
    ),
    "a line break in a single column": (
        ".tsv",
        'text\n"a\nb"\nc\n',
        r"line 2 .* line 2 .*: --quoting on or --quoting off$",
    ),
    "two separators": (
        ".csv",
        "text;label|x\na;b|c\nd;e|f\n",
        r"its cells may be separated by ';' or '\|'; name the right one: --delimiter$",
    ),
    "another separator": (
        ".csv",
        "text~label\na~x\n",
        "--delimiter names what separates them$",
    ),
    "a space in a name": (
        ".csv",
        "text, label\na,x\nb,y\n",
        "; ' label' has spaces around it$",
    ),
    "text after a quoted cell": (
        ".csv",
        'text,label\n"a" b,x\n',
        r"; where quotes are text: --quoting off\)",
    ),
    "a quote that never closes": (
        ".csv",
        'text,label\n"a,x\n',
        "never closed; where quotes are text: --quoting off$",
    ),
    "an escaped separator": (".csv", "text,label\na\\, b,x\n", r"where \\ is before a separator .*: --escape '\\'\)"),
    "a quoted tab among stray quotes": (".tsv", f'{STRAY}"a\tb"\tx\n', r"--quoting on or --quoting off$"),
    "UTF-16 without a mark": (".csv", "text,label\na,x\n".encode("utf-16-le"), "name its --encoding utf-16-le$"),
    "UTF-16 of the other order": (".tsv", "text\tlabel\na\tx\n".encode("utf-16-be"), "name its --encoding utf-16-be$"),
    "parquet": (".csv", b"PAR1\x15\x04", "is a parquet file; name it .parquet$"),
    "an old Excel": (".csv", b"\xd0\xcf\x11\xe0\xa1", "is a file of an old Excel; save its sheet as .xlsx or .csv$"),
    "Git LFS": (".csv", POINTER, "is only a pointer of Git LFS to the file; .* git lfs pull$"),
    "Git LFS, json": (".json", POINTER, "is only a pointer of Git LFS"),
    "nothing": (".tsv", "", "is empty; it needs a header and rows$"),
    "only a header": (".tsv", "text\tlabel\n", "has no rows$"),
    "only a header, with semicolons": (".csv", "text;label\n", "has no rows$"),
    "only Excel's first line": (".csv", "sep=;\n", "is empty; it needs a header and rows$"),
}


@pytest.mark.parametrize(("suffix", "content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_can_be_read_in_two_ways_or_in_none_is_refused(save, suffix, content, message):
    with pytest.raises(DataError, match=message) as caught:
        splits_of(Table(save(f"t{suffix}", content)))
    assert "\n" not in str(caught.value)


SETTINGS = {
    "a delimiter": ("text~label\na~x\nb,c~y\n", {"delimiter": "~"}, {"sep": "~"}),
    "a tab, as a shell writes it": ("text\tlabel\na\tx\nb\ty\n", {"delimiter": r"\t"}, {"sep": "\t"}),
    "a delimiter that fits as well": (
        "text;label|x\na;b|c\nd;e|f\n",
        {"delimiter": "|", "text": ("text;label",), "label": "x"},
        {"sep": "|", "names": ["text", "label"], "header": 0},
    ),
    "no quotes": ('text,label\n"a,x\nb",y\n', {"quoting": "off"}, {"quoting": csv.QUOTE_NONE}),
    "quotes": ('text\tlabel\na\tx\n"b"\ty\n', {"delimiter": "\t", "quoting": "on"}, {"sep": "\t"}),
    "an escape": ('text,label\na\\, b,x\nc,y\n"d\\"e",x\n', {"escape": "\\"}, {"escapechar": "\\"}),
    "an escape without quotes": (
        'text,label\na\\, b,x\n"c,y\n',
        {"escape": "\\", "quoting": "off"},
        {"escapechar": "\\", "quoting": csv.QUOTE_NONE},
    ),
}


@pytest.mark.parametrize(("content", "settings", "options"), SETTINGS.values(), ids=SETTINGS)
def test_what_the_user_says_holds(save, content, settings, options):
    expected = pandas_of(content, **options)
    read = splits_of(Table(save("t.csv", content), test=save("test.csv", content), leaks="report", **settings))
    assert (read.train.texts, read.train.labels) == (expected["text"], expected["label"])


def test_no_escape_can_be_said(save):
    """`\\"` is no quote where the user says that nothing is escaped."""
    path = save("t.csv", 'text,label\n"He said \\"hi\\", ok",x\n')
    with pytest.raises(DataError, match="line 2 has text after a quoted cell"):
        splits_of(Table(path, escape=""))


@pytest.mark.parametrize(
    "settings", [{"delimiter": "::"}, {"delimiter": '"'}, {"delimiter": ""}, {"escape": "ab"}, {"escape": '"'}]
)
def test_settings_that_are_no_characters(settings):
    with pytest.raises(ConfigError, match=f"^{next(iter(settings))} must be one character"):
        Table(**settings)


def test_files_of_one_pattern_have_their_own_dialects_and_one_note(save, caplog, tmp_path):
    save("a.csv", "text,label\na,x\n")
    save("b.csv", "text;label\nb;y\n")
    save("c.csv", "label;text\nz;c\n")
    with caplog.at_level(logging.INFO):
        found = columns_of(f"{tmp_path}/*.csv")
    assert found == {"text": ["a", "b", "c"], "label": ["x", "y", "z"]}
    assert caplog.messages == [
        f"{tmp_path}/b.csv and 1 other file: cells are separated by ';' (--delimiter names another one)"
    ]


@pytest.mark.parametrize("kind", ["csv", "tsv", "xlsx"])
def test_rows_that_repeat_the_header_are_left_out_counted_and_listed(save, caplog, tmp_path, kind):
    frame = pd.DataFrame({"text": ["a", "text", "b", "text", "text"], "label": ["x", "label", "y", "label", "z"]})
    path = str(tmp_path / f"t.{kind}")
    if kind == "xlsx":
        frame.to_excel(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    assert columns_of(path) == {"text": ["a", "b", "text"], "label": ["x", "y", "z"]}
    assert caplog.messages == [f"{path}: left out 2 rows that repeat the header (lines 3, 5)"]


def test_a_text_that_is_the_name_of_its_only_column_stays(save, caplog):
    assert columns_of(save("t.csv", "text\na\ntext\n")) == {"text": ["a", "text"]}
    assert not caplog.messages
