"""What a table promises is checked before training: every broken promise at once, with its count and first row."""

import json
import subprocess
import sys
from datetime import date
from decimal import Decimal

import pandas as pd
import pytest

from bertjax.data.table import Table
from bertjax.data.validate.contract import Contract, Finding, check, describe_broken
from bertjax.data.validate.contract_file import read_contract
from bertjax.errors import ConfigError, DataError
from tests.support.tables import splits_of

FRAME = pd.DataFrame(
    {
        "id": ["1", "2", "2", "4"],
        "text": ["a film", None, "x", "the very long plot"],
        "label": ["good", "bad", "awful", " good"],
        "sent": ["2024-01-31", "2024-02-01", "soon", None],
    },
    index=[9, 9, 3, 0],
)
TABLE = Table()
WHOLE = {
    "columns": {"id": "integer", "text": "text", "sent": "datetime"},
    "unique": [["id"], ["text", "label"]],
    "not_null": ["text"],
    "labels": ["good", "bad"],
    "min_characters": 2,
    "max_characters": 10,
    "min_rows": 5,
}


def broken(contract, frame=FRAME, table=TABLE):
    """The findings that do not hold, by their sentence."""
    return {item.expectation: item for item in check(contract, frame, table) if item.holds is not True}


def write(path, values):
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return str(path)


def test_the_default_holds_for_every_table():
    assert check(Contract(), FRAME, Table(text=("none",))) == (Finding("there is 1 row or more", True),)
    (finding,) = check(Contract(), FRAME[:0], Table())
    assert finding == ("there is 1 row or more", False, 0, ("it has 0",))


def test_a_file_becomes_a_contract(tmp_path):
    assert read_contract(write(tmp_path / "c.json", WHOLE)) == Contract(
        columns={"id": "integer", "text": "text", "sent": "datetime"},
        unique=(("id",), ("text", "label")),
        not_null=("text",),
        labels=("good", "bad"),
        min_characters=2,
        max_characters=10,
        min_rows=5,
    )
    assert read_contract(write(tmp_path / "c.json", "\ufeff{}")) == Contract()
    assert read_contract(write(tmp_path / "c.json", {"labels": [1, "2"]})).labels == ("1", "2")


def test_all_broken_expectations_are_found_at_once(tmp_path):
    findings = check(read_contract(write(tmp_path / "c.json", WHOLE)), FRAME, Table())
    assert findings == (
        ("column 'id' is there", True, 0, ()),
        ("column 'text' is there", True, 0, ()),
        ("column 'sent' is there", True, 0, ()),
        ("column 'label' is there", True, 0, ()),
        ("'id' holds integers", True, 0, ()),
        ("'text' holds text", True, 0, ()),
        ("'sent' holds datetimes", False, 1, ("row 3: 'soon'",)),
        ("'id' never repeats", False, 1, ("row 3: '2'",)),
        ("'text' and 'label' never repeat together", True, 0, ()),
        ("'text' misses no cell", False, 1, ("row 2: nan",)),
        ("'label' is one of good, bad", False, 1, ("row 3: 'awful'",)),
        ("'text' has 2 to 10 characters", False, 2, ("row 3: 'x'", "row 4: 'the very long plot'")),
        ("there are 5 rows or more", False, 0, ("it has 4",)),
    )
    assert describe_broken(findings) == (
        "'sent' holds datetimes, but not in 1 row (the first is row 3: 'soon'); "
        "'id' never repeats, but not in 1 row (the first is row 3: '2'); "
        "'text' misses no cell, but not in 1 row (the first is row 2: nan); "
        "'label' is one of good, bad, but not in 1 row (the first is row 3: 'awful'); "
        "'text' has 2 to 10 characters, but not in 2 rows (the first is row 3: 'x'); "
        "there are 5 rows or more, but it has 4"
    )


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("text", ["a", "", "5"], [5, True, ["a"], date(2024, 1, 31)]),
        ("integer", [5, "5", " -7 ", "+1", 5.0, 10**30, Decimal(3)], ["5.0", 5.5, "a", "", True, "1_0", float("inf")]),
        ("number", [5, "5", "-7.5e3", 0.1, Decimal("0.1")], ["a", "", True, "1_0", "inf", "1,5", [1]]),
        ("datetime", ["2024-01-31", "2024-01-31T08:30+02:00", date(2024, 1, 31)], ["soon", "2024-02-31", "", True]),
    ],
)
def test_types_of_cells(kind, right, wrong):
    """A missing cell is of every type."""
    contract = Contract({"c": kind})
    cells = [*right, None, float("nan"), *wrong]
    findings = check(contract, pd.DataFrame({"c": pd.Series(cells, dtype=object)}), Table())
    finding = next(item for item in findings if "holds" in item.expectation)
    assert finding.failures == len(wrong)
    assert finding.examples[0].startswith(f"row {len(right) + 3}: ")
    for cell in right:
        assert not broken(contract, pd.DataFrame({"c": pd.Series([cell], dtype=object)})), cell
    for cell in wrong:
        assert broken(contract, pd.DataFrame({"c": pd.Series([cell], dtype=object)})), cell


def test_types_of_columns():
    columns = {
        "integer": pd.array([1, None], "Int64"),
        "number": [1.5, None],
        "datetime": pd.to_datetime(["2024-01-31", None]),
        "text": ["a", None],
    }
    frame = pd.DataFrame(columns)
    assert not broken(Contract({kind: kind for kind in columns}), frame)
    assert len(broken(Contract(dict(zip(columns, ["datetime", "text", "integer", "number"], strict=True))), frame)) == 4
    assert not broken(
        Contract({kind: kind for kind in columns}), pd.DataFrame({kind: [None, None] for kind in columns})
    )


def test_unique_keys_of_several_columns_and_of_lists():
    frame = pd.DataFrame({"a": ["x", "x", None, None], "b": [[1], [2], [2], [2]], "c": [1, 1, 2, 3]})
    assert not broken(Contract(unique=(("a", "c", "b"),)), frame)
    frame["d"] = range(4)
    found = broken(Contract(unique=(("a", "b"), ("b",), ("a",)), not_null=("d",)), frame)
    assert found["'a' and 'b' never repeat together"][2:] == (1, ("row 4: nan, [2]",))
    assert found["'b' never repeats"][2:] == (2, ("row 3: [2]", "row 4: [2]"))
    assert found["'a' never repeats"][2:] == (2, ("row 2: 'x'", "row 4: nan"))


def test_labels_are_compared_as_the_rows_have_them():
    frame = pd.DataFrame({"stars": [1.0, 2.0, None, 3.5]})
    table = Table(label="stars")
    assert broken(Contract(labels=("1", "2")), frame, table)["'stars' is one of 1, 2"].examples == ("row 4: 3.5",)


@pytest.mark.parametrize(
    ("bounds", "sentence", "rows"),
    [
        ({"min_characters": 3}, "3 or more characters", ["row 1: 'ab'"]),
        ({"max_characters": 2}, "0 to 2 characters", ["row 2: 'abc'", "row 3: 'naïve'"]),
        ({"min_characters": 3, "max_characters": 4}, "3 to 4 characters", ["row 1: 'ab'", "row 3: 'naïve'"]),
    ],
)
def test_lengths_are_of_each_text_column(bounds, sentence, rows):
    frame = pd.DataFrame(
        {"a": ["ab", "abc", "naïve", None], "b": ["abc"] * 4, "other": [""] * 4, "c": ["ab\u0301c"] * 4}
    )
    found = broken(Contract(**bounds), frame, Table(text=("a", "b"), text_pair=("c",)))
    assert list(found[f"'a' has {sentence}"].examples) == rows
    assert not any("'other'" in name for name in found)
    assert (f"'c' has {sentence}" in found) == (bounds == {"max_characters": 2})


def test_a_missing_column_is_one_error():
    contract = Contract({"who": "text", "id": "integer"}, unique=(("who", "id"), ("id",)), not_null=("who",))
    findings = {item.expectation: item for item in check(contract, FRAME, Table())}
    assert findings["column 'who' is there"] == (
        "column 'who' is there", False, 0, ("the columns are id, text, label, sent",),
    )  # fmt: skip
    for sentence in ("'who' holds text", "'who' and 'id' never repeat together", "'who' misses no cell"):
        assert findings[sentence].holds is None
    assert describe_broken(findings.values()) == (
        "column 'who' is there, but the columns are id, text, label, sent; "
        "'id' never repeats, but not in 1 row (the first is row 3: '2')"
    )
    assert "the columns are id" in describe_broken(check(Contract(labels=("x",)), FRAME, Table(label="none")))


def test_examples_of_broken_rows_are_few_and_short():
    frame = pd.DataFrame({"text": ["line\n" * 100] * 50})
    finding = broken(Contract(max_characters=5), frame)["'text' has 0 to 5 characters"]
    assert (finding.failures, len(finding.examples)) == (50, 3)
    assert len(finding.examples[0]) < 80
    assert "\n" not in describe_broken([finding])


def test_a_contract_is_checked_where_pandera_is_turned_off():
    from pandera.config import config_context

    with config_context(validation_enabled=False, validation_depth="SCHEMA_ONLY"):
        assert broken(Contract(not_null=("text",)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON: "),
        ("[]", "must hold a JSON object, got list"),
        ({"colums": {}}, "unknown 'colums'; there are columns, unique, not_null, labels, min_"),
        (
            {"columns": ["a"]},
            r"'columns' must be an object of columns and their types \(text, integer, .* got \[\"a\"\]",
        ),
        ({"columns": {"a": "int"}}, r"'columns' must be .*, got {\"a\": \"int\"}"),
        ({"columns": {"a": ["text"]}}, "'columns' must be"),
        ({"unique": ["id"]}, r"'unique' must be a list of keys, each a list of columns, got \[\"id\"\]"),
        ({"unique": [[]]}, "'unique' must be"),
        ({"unique": [[1]]}, "'unique' must be"),
        ({"unique": "id"}, "'unique' must be"),
        ({"not_null": "id"}, "'not_null' must be a list of columns"),
        ({"not_null": [1]}, "'not_null' must be a list of columns"),
        ({"labels": []}, "'labels' must be a list of labels, strings or integers"),
        ({"labels": {"a": 1}}, "'labels' must be"),
        ({"labels": ["a", None]}, "'labels' must be"),
        ({"min_rows": -1}, "'min_rows' must be a count, got -1"),
        ({"min_characters": 1.5}, "'min_characters' must be a count, got 1.5"),
        ({"max_characters": True}, "'max_characters' must be a count, got true"),
        ({"max_characters": None}, "'max_characters' must be a count, got null"),
        ({"min_characters": 3, "max_characters": 2}, "max_characters 2 is below min_characters 3"),
    ],
)
def test_files_that_are_no_contract(tmp_path, content, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_contract(write(tmp_path / "c.json", content))
    assert str(tmp_path / "c.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none.json cannot be read: No such file"):
        read_contract(str(tmp_path / "none.json"))
    (tmp_path / "c.json").write_bytes(b'{"labels": ["caf\xe9"]}')
    with pytest.raises(ConfigError, match="is not valid JSON"):
        read_contract(str(tmp_path / "c.json"))


def test_every_table_of_a_run_is_checked(tmp_path):
    rows = "".join(f"text {i},{'xy'[i % 2]}\n" for i in range(20))
    train = write(tmp_path / "t.csv", f"text,label\n{rows}")
    validation = write(tmp_path / "v.csv", "text,label\na,x\nb,z\n")
    test = write(tmp_path / "u.csv", "label\nx\n")
    contract = write(tmp_path / "c.json", {"labels": ["x"], "not_null": ["text"], "min_rows": 3})
    with pytest.raises(DataError) as caught:
        splits_of(Table(train, validation=validation, test=test, contract=contract))
    assert str(caught.value) == (
        f"{train} breaks the contract {contract}: 'label' is one of x, but not in 10 rows (the first is row 2: 'y'); "
        f"{validation} breaks the contract {contract}: "
        "'label' is one of x, but not in 1 row (the first is row 2: 'z'); "
        f"{test} breaks the contract {contract}: column 'text' is there, but the columns are label"
    )

    contract = write(tmp_path / "c.json", {"labels": ["x", "y"], "unique": [["text"]], "min_rows": 20})
    validation = write(tmp_path / "v.csv", "text,label\na,x\nb,y\n")
    tables = splits_of(Table(train, validation=validation, contract=contract)).data_report.contract_report()
    assert [(of["source"], of["rows"]) for of in tables] == [(train, 20), (validation, 2)]
    assert {item["holds"] for of in tables for item in of["expectations"]} == {True}
    assert json.loads(json.dumps(tables[0]["expectations"][0])) == {
        "expectation": "column 'text' is there", "holds": True, "failures": 0, "examples": [],
    }  # fmt: skip


def test_a_contract_comes_before_what_the_rows_need(tmp_path):
    train = write(tmp_path / "t.csv", "text,label\na,x\n,x\n")
    contract = write(tmp_path / "c.json", {"not_null": ["text"]})
    with pytest.raises(DataError, match="breaks the contract"):
        splits_of(Table(train, contract=contract))


def test_nothing_waits_for_pandera_without_a_contract(tmp_path):
    train = write(tmp_path / "t.csv", "text,label\n" + "".join(f"text {i},{'xy'[i % 2]}\n" for i in range(20)))
    code = (
        "import sys\nfrom bertjax.data.split.read_splits import read_splits\nfrom bertjax.data.table import Table\n"
        "from bertjax.data.task_formats.sequence_formats import CLASSIFICATION\n"
        f"read_splits(Table({train!r}), CLASSIFICATION)\nassert 'pandera' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_labels_in_lists_are_checked_one_by_one():
    contract = Contract(labels=("a", "b"))
    lists = pd.DataFrame({"text": ["x", "y"], "label": [["a", "b"], ["a", "c"]]})
    (finding,) = [item for item in check(contract, lists, Table()) if "is one of" in item.expectation]
    assert (finding.holds, finding.failures) == (False, 1)
    text = pd.DataFrame({"text": ["x", "y"], "label": ["a|b", "b"]})
    assert all(item.holds for item in check(contract, text, Table(label_delimiter="|")))
