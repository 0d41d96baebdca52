"""Slices: which rows are in them, and what is wrong with a file of them."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bertjax.cli.main import main
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.rows.table_cells import TableCells
from bertjax.data.table import Table
from bertjax.errors import ConfigError
from bertjax.evaluation.evaluate_table import encode_records
from bertjax.evaluation.judged_rows import JudgedRows
from bertjax.evaluation.slices import slice_scores as scores_module
from bertjax.evaluation.slices.slice_finding import find_slices
from bertjax.evaluation.slices.slice_functions import load_slice_functions, slice_function
from bertjax.evaluation.slices.slice_scores import alike_rows
from bertjax.evaluation.slices.slice_settings import SliceSettings
from bertjax.evaluation.slices.sliced_rows import quantile_slices, slices_of_column, slices_of_functions
from bertjax.inference.loaded_model import LoadedModel
from bertjax.metrics.reports import Report
from bertjax.tasks import make_model
from bertjax.tracking.metric_names import is_valid
from tests.support.models import TINY
from tests.support.slices import of_first, weighted_of
from tests.support.tables import COLUMNS, TABLES, rows_of

HOLDOUT = Path(os.environ.get("BERTJAX_DATA") or "none") / "projects" / "holdout.csv"


@pytest.mark.parametrize("parts", [2, 4, 10])
def test_quantiles_are_those_of_pandas(parts):
    values = np.random.default_rng(parts).permutation(200).astype(float)
    codes = pd.qcut(values, parts, labels=False)
    slices = quantile_slices("length", "length", values, parts)
    assert [slice_.members.tolist() for slice_ in slices] == [(codes == i).tolist() for i in range(parts)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1, 1, 1], []),
        ([1, 1, 1, 5], ["n 1 of 2 (1)", "n 2 of 2 (5)"]),
        ([np.nan, 1, 2, 2.5], ["n 1 of 3 (1)", "n 2 of 3 (2)", "n 3 of 3 (2.5)"]),
        ([np.nan] * 4, []),
    ],
    ids=["one value", "two values", "missing", "no value"],
)
def test_equal_numbers_stay_together(values, expected):
    slices = quantile_slices("n", "column", np.array(values, float), 4)
    assert [f"{slice_.name} ({slice_.meaning})" for slice_ in slices] == expected


def judged_rows(task="classification", records=None, cells=None, tiny_model=None, **columns):
    """Rows that a model has scored with nothing but zeros."""
    records = records or TABLES[task]
    names = {"classification": ("x", "y", "z"), "multi_label": ("odd", "third"), "regression": ("label",)}
    names["token_classification"] = ("B-FILM", "I-FILM", "O")
    model = make_model(TINY, task, names.get(task, ()))
    loaded = LoadedModel(model, {}, load_tokenizer(tiny_model), max_length=40)
    fields = {
        "label": next((name for name in ("label", "labels", "tags", "answers", "answer") if name in records[0]), "")
    }
    if task == "token_classification":
        fields["text"] = ("tokens",)
    if task == "question_answering":
        fields |= {"text": ("question",), "text_pair": ("context",)}
    if task == "multiple_choice":
        fields["candidates"] = ("choices",)
    loaded = loaded._replace(table=Table(**{**fields, **COLUMNS.get(task, {}), **columns}))
    rows, examples = encode_records(loaded, records, "t.jsonl")
    size = examples.offsets[-1] if examples.labels_of == "tokens" or task == "question_answering" else len(rows.texts)
    width = 2 if task == "question_answering" else max(len(model.labels), 1)
    scores = np.zeros((size, width), np.float32)
    return JudgedRows(loaded, rows, examples, scores, Report("", [], {}), "t.jsonl", cells)


EXPECTED = {
    "classification": {"length", "label"},
    "multi_label": {"length", "label"},
    "regression": {"length"},
    "token_classification": {"length", "entities"},
    "question_answering": {"length", "answer"},
}


@pytest.mark.parametrize("task", EXPECTED)
def test_automatic_slices_are_what_makes_sense(task, tiny_model):
    finding = find_slices(judged_rows(task, tiny_model=tiny_model), SliceSettings())
    slices = json.loads(finding.files["slices.json"])
    assert EXPECTED[task] <= {slice_["kind"] for slice_ in slices}
    assert all(slice_["count"] for slice_ in slices)
    lengths = [slice_["rows"] for slice_ in slices if slice_["name"].startswith("length")]
    assert sorted(row for rows in lengths for row in rows) == list(range(1, 49))
    assert all(is_valid(key, 250) for key in finding.metrics)


def test_labels_tags_and_unknown_words(tiny_model):
    judged = judged_rows(tiny_model=tiny_model)
    names = {slice_["name"]: slice_["rows"] for slice_ in _found(judged, SliceSettings())}
    assert names["label x"] == list(range(1, 49, 3))
    records = [{"text": text, "label": "x"} for text in ("the film", "the qqq", "qqq qqq", "qqq the qqq")]
    unknown = {slice_["name"]: slice_["rows"] for slice_ in _found(judged_rows(records=records, tiny_model=tiny_model))}
    by_share = {name.removeprefix("unknown words: "): rows for name, rows in unknown.items() if "unknown" in name}
    assert by_share == {"none": [1], "some": [2], "most": [3, 4]}
    tagged = {
        slice_["name"]: slice_["count"] for slice_ in _found(judged_rows("token_classification", tiny_model=tiny_model))
    }
    assert tagged["entities: 1"] == 48
    several = judged_rows("multi_label", tiny_model=tiny_model)
    by_label = {slice_["name"]: slice_["count"] for slice_ in _found(several)}
    assert (by_label["label odd"], by_label["label third"], by_label["no label"]) == (24, 32, 8)
    few = find_slices(judged, SliceSettings(slice_values=2))
    assert any("of 3 labels, the 2 most frequent" in getattr(block, "text", "").lower() for block in few.section.blocks)


def _found(judged, settings=SliceSettings()):  # noqa: B008 (frozen)
    return json.loads(find_slices(judged, settings).files["slices.json"])


CELLS = {
    "texts": (["web", "app", "web", None], ["c: web", "c: app", "c missing"]),
    "whole numbers beside a missing one": ([2019.0, 2020.0, float("nan"), 2020.0], ["c: 2020", "c: 2019", "c missing"]),
    "truth values": ([True, False, True, True], ["c: True", "c: False"]),
    "lists": ([[1], [2], [1], [1]], ["c: [1]", "c: [2]"]),
    "nothing at all": ([None, None, None, ""], ["c missing"]),
    "many numbers": ([1, 2, 3, 4], ["c 1 of 4", "c 2 of 4", "c 3 of 4", "c 4 of 4"]),
    "many texts": (["a", "b", "c", "b"], ["c: b", "c: a"]),
}


@pytest.mark.parametrize("case", CELLS)
def test_slices_of_a_column(case, tiny_model):
    cells, expected = CELLS[case]
    judged = judged_rows(
        records=TABLES["classification"][:4], cells=TableCells({"c": cells}, []), tiny_model=tiny_model
    )
    slices, note = slices_of_column("c", judged, 2)
    assert [slice_.name for slice_ in slices] == expected
    assert note == (
        "column 'c' has 3 values; the 2 most frequent are slices, the other 1, of 1 rows, are not"
        if case == "many texts"
        else ""
    )


def test_rows_give_their_cells_and_what_the_model_read(tiny_model):
    records = [{"text": "the film", "label": "x"}, {"text": "a book", "label": "y"}]
    cells = TableCells({"year": [1999, 2001], "label": [7, 8], "two words": ["p", "q"]}, ["row 1", "row 2"])
    judged = judged_rows(records=records, cells=cells, tiny_model=tiny_model)
    functions = [
        slice_function(lambda row: row.year < 2000, name="attribute"),
        slice_function(lambda row: row["two words"] == "q" and "year" in row, name="item"),
        slice_function(lambda row: row.text == "the film" and row.label == 7, name="cells win"),
        slice_function(lambda row: row.get("nothing", ""), name="falsy"),
        slice_function(lambda row: setattr(row, "year", 0) or row.year == 0, name="changes its own row"),
    ]
    found = slices_of_functions(functions, judged, "slices.py")
    assert [slice_.members.tolist() for slice_ in found] == [
        [True, False], [False, True], [True, False], [False, False], [True, True],
    ]  # fmt: skip
    without = slices_of_functions(functions[2:3], judged._replace(cells=None), "slices.py")
    assert without[0].members.tolist() == [False, False]


def test_a_function_that_raises_is_told_and_the_others_go_on(tiny_model, tmp_path, caplog):
    path = tmp_path / "slices.py"
    path.write_text(
        "from bertjax import slice_function\n@slice_function\ndef broken(row):\n    return row.stars > 3\n"
        "@slice_function\ndef array(row):\n    import numpy\n    return numpy.ones(2)\n"
        "@slice_function\ndef nothing(row):\n    return False\n@slice_function\ndef all(row):\n    return 1\n"
    )
    judged = judged_rows(tiny_model=tiny_model)
    slices = {s["name"]: s for s in _found(judged, SliceSettings(slices=path, automatic_slices=False))}
    found = {name: (slice_["count"], slice_["failed"]) for name, slice_ in slices.items()}
    assert found == {"broken": (0, 48), "array": (0, 48), "nothing": (0, 0), "all": (48, 0)}
    told = caplog.text
    assert f"t.jsonl: row 1: slice 'broken' raised {path} line 4: AttributeError" in told
    assert "slice 'broken' raised for 48 rows, of which 3 are shown" in told
    assert "no row is in slice 'nothing'" in told


def test_snorkels_functions_are_slices(tmp_path, tiny_model):
    pytest.importorskip("snorkel")
    path = tmp_path / "slices.py"
    path.write_text(
        "from snorkel.slicing import slicing_function\nfrom snorkel.preprocess import preprocessor\n"
        "@preprocessor(memoize=True)\ndef counted(x):\n    x.words = len(x.text.split())\n    return x\n"
        "@slicing_function(pre=[counted])\ndef short(x):\n    return x.words < 3\n"
        "@slicing_function(name='films')\ndef f(x):\n    return 'film' in x.text\n"
    )
    functions = load_slice_functions(path)
    judged = judged_rows(tiny_model=tiny_model)
    short, films = slices_of_functions(functions, judged, str(path))
    assert short.name == "short"
    assert films.name == "films"
    assert short.members.tolist() == [len(text.split()) < 3 for text in judged.rows.texts]
    assert films.members.tolist() == ["film" in text for text in judged.rows.texts]


HEAD = "from bertjax import slice_function\n"
WRONG = {
    "no function": ("x = 1\n", "has no slice; write one as a function that takes a row"),
    "two of one name": (
        f"{HEAD}@slice_function\ndef a(row): ...\n@slice_function(name='a')\ndef b(row): ...\n",
        "has two slices named 'a'",
    ),
    "a name that MLflow refuses": (
        f"{HEAD}@slice_function(name='a=b')\ndef a(row): ...\n",
        "line 2: a slice cannot be",
    ),
    "no row": (f"{HEAD}@slice_function\ndef a(): ...\n", "line 2: a() does not take a row"),
    "a generator": (f"{HEAD}@slice_function\ndef a(row):\n    yield 1\n", "line 2: a is a coroutine or a generator"),
    "no list": ("SLICES = 3\n", "SLICES is no list; make it one of slices"),
    "no function in a list": ("SLICES = [3]\n", "SLICES: 3 is no slice"),
    "no Python": ("def\n", "line 1: SyntaxError"),
    "an error": ("\n1 / 0\n", "line 2: ZeroDivisionError"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_file(case, tmp_path):
    source, complaint = WRONG[case]
    (tmp_path / "slices.py").write_text(source)
    with pytest.raises(ConfigError) as error:
        load_slice_functions(tmp_path / "slices.py")
    assert complaint in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "slices.py"))
    assert "\n" not in str(error.value)


def test_a_list_of_plain_functions(tmp_path):
    (tmp_path / "slices.py").write_text("def a(row): return 1\ndef b(row): return 0\nSLICES = [b, a]\n")
    assert [function.name for function in load_slice_functions(tmp_path / "slices.py")] == ["b", "a"]


def test_groups_of_alike_rows_have_the_metrics_of_the_rows(monkeypatch, tiny_model):
    """The rows of a draw are counted by true and predicted label, which gives the same numbers."""
    judged = judged_rows(tiny_model=tiny_model)
    scores = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)

    def evaluate(scores, examples, names):
        return Report("", [], {}, weighted=weighted_of(examples.labels, scores.argmax(axis=-1)))

    monkeypatch.setattr(scores_module, "find_evaluator", lambda task: evaluate)
    judged = judged._replace(scores=scores, report=evaluate(scores, judged.examples, ()))
    alike = alike_rows(judged, judged.predictions())
    labels = judged.examples.labels.tolist()
    assert alike.num_groups == len(set(zip(labels, scores.argmax(axis=-1).tolist(), strict=True)))
    weights = np.random.default_rng(1).integers(3, size=48)
    of_groups = alike.weighted(np.bincount(alike.group_of, weights)[None])
    of_rows = judged.report.weighted(weights[None])
    for key, values in of_rows.items():
        assert of_groups[key] == pytest.approx(values)


def test_errors_of_numbers_are_means_over_rows(tiny_model):
    judged = judged_rows("regression", tiny_model=tiny_model)
    report = Report("", [], {"mae": 1.0}, weighted=lambda weights: {})
    alike = alike_rows(judged._replace(report=report), judged.predictions())
    labels = judged.examples.labels[:7].ravel()
    errors = alike.weighted(np.stack([of_first(7, 48), np.zeros(48)]).astype(float))
    assert errors["mae"][0] == pytest.approx(np.abs(labels).mean())
    assert errors["mse"][0] == pytest.approx((labels.astype(float) ** 2).mean())
    assert np.isnan(errors["mae"][1])


def test_the_command(finished_run, reviews, tmp_path, capsys):
    path, out = tmp_path / "slices.py", tmp_path / "judged"
    path.write_text(f"{HEAD}@slice_function\ndef of_films(row):\n    return 'film' in row.title\n")
    frame = pd.read_csv(reviews).assign(source=["web/x", "app?"] * 30)
    frame.to_csv(tmp_path / "t.csv", index=False)
    command = ["evaluate", "--model", str(finished_run.model_dir), "--data", str(tmp_path / "t.csv")]
    assert main([*command, "--slices", str(path), "--slice-columns", "source", "--out", str(out)]) == 0
    assert "the worst slices and your own" in capsys.readouterr().out.lower()
    slices = {slice_["name"]: slice_ for slice_ in json.loads((out / "slices.json").read_text())}
    assert slices["of_films"]["rows"] == (np.flatnonzero(frame["title"].str.contains("film")) + 1).tolist()
    assert slices["source: web/x"]["rows"] == list(range(1, 61, 2))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test/slice/of_films/rows"] == 24
    assert metrics["test/slice/source: app_/rows"] == 30
    for flags, complaint in {
        ("--slice-columns", "nowhere"): f"{tmp_path}/t.csv has no column 'nowhere' to slice by; its columns are title,",
        ("--slices", str(tmp_path / "none.py")): "none.py cannot be read",
        ("--slice-min-rows", "0"): "slice_min_rows must be 1 or more",
    }.items():
        assert main([*command, *flags]) == 2
        shown = capsys.readouterr().err
        assert complaint in shown.splitlines()[-1]
        assert shown.count("bertjax:") == 1


@pytest.mark.skipif(not HOLDOUT.is_file(), reason="BERTJAX_DATA names no folder with the projects table")
def test_the_slices_that_the_projects_table_is_known_by(tiny_model):
    path = Path(__file__).parents[2] / "experiments" / "projects.py"
    frame = pd.read_csv(HOLDOUT)
    cells = TableCells(frame.to_dict("list"), [f"row {i + 1}" for i in range(len(frame))])
    judged = JudgedRows(*[None] * 5, "holdout.csv", cells)._replace(rows=rows_of([""] * 191, None, [""] * 191))
    counts = {s.name: int(s.members.sum()) for s in slices_of_functions(load_slice_functions(path), judged, str(path))}
    assert counts == {"nlp_llm": 28, "short_text": 7}
