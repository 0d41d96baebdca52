"""`bertjax label`: a table with probabilities that finetune reads, its functions beside it, a line for a mistake."""

import json
from pathlib import Path

import pandas as pd
import pytest

import bertjax
from bertjax.cli.main import main
from bertjax.data.read.sources import read_table
from bertjax.data.table import Table
from bertjax.errors import ConfigError
from bertjax.labeling.load_functions import load_functions
from tests.support import processes
from tests.support.tables import splits_of

SOURCE = """
praise = keywords("good", "good", "great", "very good")
blame = keywords("bad", "bad", "dull", name="blame")
@labeling_function
def ends(text):
    return "bad" if text.endswith("not .") else "good" if text.endswith("great .") else None
"""
TEXTS = [
    "a good and great .",
    "dull . not .",
    "bad film",
    "what ?",
    "very good <b>book</b> 😀",
    "good . not .",
    "great .",
]


@pytest.fixture
def label(tmp_path, functions_file, capsys):
    """(flags...) -> status, stdout, stderr; the functions are those of `SOURCE` unless a source is given."""

    def label(*flags, data=None, source=SOURCE, out="weak.parquet"):
        functions = functions_file(source)
        table = data or written(tmp_path, TEXTS)
        out = str(tmp_path / out)
        status = main(["label", "--functions", str(functions), "--data", str(table), "--out", out, *flags])
        return status, *capsys.readouterr()

    return label


def written(folder: Path, texts, **columns) -> Path:
    path = folder / "texts.csv"
    pd.DataFrame({"text": texts, "id": range(len(texts)), **columns}).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["weak.parquet", "weak.csv", "weak.tsv", "weak.jsonl"])
def test_the_table_has_the_rows_their_votes_and_probabilities_that_finetune_reads(label, tmp_path, name):
    status, shown, log = label(out=name)
    assert status == 0
    frame = read_table(str(tmp_path / name)).frame
    columns = ["text", "id", "weak_label", "weak_votes", "weak_p_bad", "weak_p_good"]
    assert list(frame.columns) == columns
    covered = [text for text in TEXTS if text != "what ?"]
    assert frame.text.tolist() == covered
    assert frame.weak_label.tolist() == ["good", "bad", "bad", "good", frame.weak_label[4], "good"]
    assert frame.weak_votes.astype(int).tolist() == [2, 2, 1, 1, 2, 2]
    shares = frame[columns[4:]].astype(float)
    assert (shares.sum(axis=1) - 1).abs().max() < 1e-9
    assert "functions vote for 6 of 7 rows; the other one is left out" in log
    assert f"{tmp_path / name}: 6 rows by label model" in shown.replace("\n", "")
    table = Table(str(tmp_path / name), label_probabilities="weak_p_", test_size=2)
    rows = splits_of(table).train
    assert rows.probabilities is not None
    by_text = dict(zip(frame.text, shares.to_numpy().tolist(), strict=True))
    for text, of_row in zip(rows.texts, rows.probabilities.of_rows.tolist(), strict=True):
        assert of_row == pytest.approx(by_text[text], abs=1e-6)


def test_the_functions_are_beside_the_table_and_the_same_seed_writes_the_same_bytes(label, tmp_path):
    labelled = tmp_path / "labelled.csv"
    pd.DataFrame({"text": TEXTS, "truth": ["good", "bad", "bad", "bad", "good", "bad", "fine"]}).to_csv(labelled)
    flags = ("--labelled", str(labelled), "--label-column", "truth", "--seed", "3")
    status, shown, log = label(*flags, out="a.jsonl")
    assert status == 0
    assert "labelled.csv: no function votes for 'fine'" in log
    about = json.loads((tmp_path / "a.functions.json").read_text())
    assert about["labels"] == ["bad", "good"]
    assert sum(about["balance"].values()) == pytest.approx(1)
    assert (about["rows"], about["uncovered"], about["written"], about["method"]) == (7, 1, 6, "label_model")
    blame = next(of_function for of_function in about["functions"] if of_function["name"] == "blame")
    assert blame == {
        "name": "blame", "labels": ["bad"], "coverage": 2 / 7, "overlap": 1 / 7, "conflict": 0.0, "faults": 0,
        "labelled": 2, "accuracy": 1.0,
    }  # fmt: skip
    assert set(about["scores"]) == {"majority", "label_model"}
    assert about["scores"]["majority"]["covered"] == pytest.approx(6 / 7)
    assert "majority vote" in shown
    assert label(*flags, out="b.jsonl")[0] == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_rows_without_a_vote_are_kept_by_flag_with_the_class_balance(label, tmp_path):
    status, _, log = label("--uncovered", "keep", "--balance", "good=0.75", "bad=0.25", out="w.csv")
    assert status == 0
    frame = pd.read_csv(tmp_path / "w.csv")
    assert frame.text.tolist() == TEXTS
    row = frame[frame.text == "what ?"].iloc[0]
    assert [row.weak_votes, row.weak_p_bad, row.weak_p_good] == pytest.approx([0, 0.25, 0.75])
    assert pd.isna(row.weak_label)
    assert "the other one is kept, with the class balance as probabilities" in log


def test_fewer_than_three_functions_are_a_majority_vote_which_is_said(label, tmp_path):
    source = "a = keywords('good', 'good')\nb = keywords('bad', 'dull')\nc = keywords('bad', 'nowhere')\n"
    status, _, log = label(source=source, out="w.csv")
    assert status == 0
    assert "no row is covered by 'keywords: nowhere'" in log
    assert "needs 3 functions that vote, and 2 do; the labels are those of the majority vote" in log
    assert set(pd.read_csv(tmp_path / "w.csv").weak_p_good) == {0.0, 1.0}


def test_equal_votes_are_of_the_more_frequent_class(label, tmp_path):
    source = "a = keywords('a', 'good', name='a')\nb = keywords('b', 'good', name='b')\n"
    assert label("--balance", "a=0.2", "b=0.8", source=source, out="w.csv")[0] == 0
    assert set(pd.read_csv(tmp_path / "w.csv").weak_label) == {"b"}


def test_one_row_and_labels_of_emoji_and_markup(label, tmp_path):
    source = 'a = keywords("<b>bad</b>", "x")\nb = keywords("😀", "film")\nc = regex("😀", "f")\nd = regex("😀", "m")\n'
    status, shown, _ = label(data=written(tmp_path, ["<i>film</i>"]), source=source, out="w.parquet")
    assert status == 0
    assert "😀" in shown
    assert "<b>bad</b>" in shown
    row = pd.read_parquet(tmp_path / "w.parquet").iloc[0]
    assert (row.text, row.weak_label) == ("<i>film</i>", "😀")
    assert row["weak_p_😀"] > row["weak_p_<b>bad</b>"]


def test_a_function_that_fails_is_counted_and_the_command_succeeds(label, tmp_path):
    source = SOURCE + "@labeling_function\ndef fails(text):\n    return 'ok'[5]\n"
    status, shown, log = label(source=source, out="w.csv")
    assert status == 0
    assert "texts.csv: row 1: labelling function 'fails' raised" in log
    assert "line 10: IndexError: string index out of range" in log
    about = json.loads((tmp_path / "w.functions.json").read_text())
    assert about["functions"][-1]["faults"] == 7


def refused(result, folder, *kept) -> str:
    status, _, stderr = result
    assert status == 2
    assert {path.name for path in folder.iterdir()} <= {"functions.py", "texts.csv", "__pycache__", *kept}
    return processes.complaint(stderr)


@pytest.mark.parametrize(
    ("flags", "options", "message"),
    [
        ((), {"source": "def f(\n"}, "functions.py line 2: SyntaxError: '(' was never closed"),
        ((), {"source": ""}, "has no labelling function"),
        ((), {"source": "a = keywords('a', 'nowhere')\nb = keywords('b', 'none')"}, "no function of"),
        ((), {"source": "a = keywords('a', 'good')"}, "know one class alone, 'a'; write one for another class"),
        ((), {"data": "none.csv"}, "none.csv does not exist"),
        (("--text-columns", "body"), {}, "texts.csv has no column 'body'; its columns are text, id"),
        (("--balance", "good=1"), {}, "--balance has no share of 'bad'"),
        (("--labelled", "none.csv"), {}, "none.csv does not exist"),
        ((), {"out": "weak.xlsx"}, "weak.xlsx must end with .parquet, .csv, .tsv, .jsonl"),
        (("--uncovered", "guess"), {}, "invalid choice"),
        ((), {"source": "f = model_votes('none/such')"}, "none/such"),
    ],
    ids=["syntax", "no function", "no vote", "one class", "no table", "no column", "balance", "no labelled table",
         "format", "flag", "no model"],
)  # fmt: skip
def test_a_mistake_is_one_line_and_writes_nothing(label, tmp_path, flags, options, message):
    assert message in refused(label(*flags, **options), tmp_path)


def test_what_is_there_stays_unless_it_may_be_replaced(label, tmp_path):
    (tmp_path / "w.csv").write_text("mine")
    assert "w.csv is there already; --overwrite" in refused(label(out="w.csv"), tmp_path, "w.csv")
    assert (tmp_path / "w.csv").read_text() == "mine"
    assert label("--overwrite", out="w.csv")[0] == 0
    assert len(pd.read_csv(tmp_path / "w.csv")) == 6


def test_columns_of_weak_labels_are_not_written_over(label, tmp_path):
    table = written(tmp_path, TEXTS, weak_label="x")
    assert "has a column 'weak_label' already" in refused(label(data=table), tmp_path)


def test_a_row_without_text_stops_or_is_left_out(label, tmp_path):
    table = written(tmp_path, [*TEXTS[:3], None])
    assert "row 4 has no text in text" in refused(label(data=table), tmp_path)
    status, _, log = label("--on-bad-row", "skip", data=table, out="w.csv")
    assert status == 0
    assert "left out 1 broken row" in log
    assert pd.read_csv(tmp_path / "w.csv").id.tolist() == [0, 1, 2]


def test_from_python_a_list_of_functions_labels_as_their_file_does(label, tmp_path):
    assert label()[0] == 0
    functions = load_functions(tmp_path / "functions.py").functions
    weak = bertjax.weak_labels(functions, bertjax.Table(str(tmp_path / "texts.csv")))
    written = pd.read_parquet(tmp_path / "weak.parquet")
    pd.testing.assert_frame_equal(weak.table, written, check_dtype=False)
    with pytest.raises(ConfigError, match="the list of functions has no labelling function"):
        bertjax.weak_labels([], bertjax.Table(str(tmp_path / "texts.csv")))
