"""Labelling functions: what each kind votes for, and what becomes of one that fails."""

import json

import numpy as np
import pytest

from bertjax.errors import ConfigError, DataError
from bertjax.inference.predictor import Predictor
from bertjax.labeling import gazetteer, keywords, regex, similar_to
from bertjax.labeling.labeling_functions import LabelingFunction
from bertjax.labeling.load_functions import load_functions


def said(votes, function=0):
    """The label that a function votes for in each row, or None."""
    return [None if code < 0 else votes.labels[code] for code in votes.hard[:, function]]


@pytest.mark.parametrize(
    ("words", "text", "is_found"),
    [
        (["film"], "A FILM!", True),
        (["film"], "films and filmmakers", False),
        (["not good"], "this is not  good", True),
        (["not good"], "good, not bad", False),
        (["c++"], "Written in C++.", True),
        (["STRASSE"], "die Straße", True),
        (["cafe\u0301"], "a caf\u00e9", True),
        (["电影"], "这部电影很好", True),
        (["영화"], "이 영화를 봤다", True),
        (["หนัง"], "ดูหนังกัน", True),
        (["سيئ"], "فيلم سيئ جدا", True),
        (["سيئ"], "سيئة", False),
        (["😀"], "great😀film", True),
        (["<br>"], "a<br>b", True),
    ],
    ids=["case", "part of a word", "phrase", "other order", "signs", "folded", "composed", "Chinese", "Korean with a "
         "particle", "Thai", "Arabic", "part of an Arabic word", "emoji", "markup"],
)  # fmt: skip
def test_keywords_are_whole_words_in_any_case_and_script(words, text, is_found):
    assert keywords("yes", *words)(text) == ("yes" if is_found else None)


def test_a_gazetteer_votes_for_the_label_of_more_terms_and_abstains_from_a_tie(tmp_path):
    terms = {"Paris": "place", "New York": "place", "Ada": "person"}
    (tmp_path / "terms.tsv").write_text("".join(f"{term}\t{label}\n" for term, label in terms.items()))
    texts = ["paris and NEW YORK, said Ada", "Ada in Paris", "paris paris ada", "york", "ada"]
    for function in (gazetteer(terms), gazetteer(tmp_path / "terms.tsv")):
        assert [function(text) for text in texts] == ["place", None, None, None, "person"]
        assert function.labels == ("place", "person")
    (tmp_path / "names.txt").write_text("\ufeffAda\n\nEmmy\n", encoding="utf-8")
    names = gazetteer(tmp_path / "names.txt", "person")
    assert ([names(text) for text in ("emmy", "", "Adam")], names.name) == (
        ["person", None, None],
        "gazetteer: names.txt",
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: regex("a", "(b"), r"regex: \(b is no regular expression: missing \)"),
        (lambda folder: keywords("a"), "has no terms"),
        (lambda folder: keywords("", "x"), "keywords: x: '' is no label"),
        (lambda folder: keywords(True, "x"), "keywords: x: True is no label"),
        (lambda folder: similar_to({"a": []}), "has no example sentences"),
        (lambda folder: gazetteer(folder / "none.txt"), "none.txt cannot be read: No such file"),
        (lambda folder: gazetteer(folder / "bad.tsv"), "bad.tsv line 2: a tab and a label must follow the term 'b'"),
    ],
    ids=["regex", "no keyword", "no label", "truth value", "no example", "no file", "no label in a line"],
)
def test_a_function_that_cannot_be_made(tmp_path, make, message):
    (tmp_path / "bad.tsv").write_text("a\tx\nb\n")
    with pytest.raises((ConfigError, DataError), match=message):
        make(tmp_path)


def test_a_function_of_any_kind_abstains_with_none_and_may_read_the_row(votes_of):
    votes = votes_of(
        """
@labeling_function
def of_text(text):
    return "odd" if len(text) % 2 else None

@labeling_function(name="by row")
def of_row(text, row):
    return row["n"] % 2 or None

class Long:
    def __call__(self, text):
        return "long" if len(text) > 3 else float("nan")

long = labeling_function(name="long")(Long())
spam = regex("odd", r"^s.*m$")
""",
        "a", "bb", "spam", "long text",
    )  # fmt: skip
    assert votes.functions == ("of_text", "by row", "long", "regex: ^s.*m$")
    assert votes.labels == ("1", "long", "odd")
    assert [said(votes, f) for f in range(4)] == [
        ["odd", None, None, "odd"],
        [None, "1", None, "1"],
        [None, None, "long", "long"],
        [None, None, "odd", None],
    ]
    assert votes.faults == (0, 0, 0, 0)


def test_probabilities_are_soft_votes(votes_of):
    votes = votes_of(
        """
@labeling_function
def soft(text):
    return {"a": {"a": 0.75, "b": 0.25}, "half": {"b": 0.5}, "none": {}}.get(text)
hard = keywords("a", "a")
""",
        "a", "half", "none", "else",
    )  # fmt: skip
    assert said(votes) == ["a", "b", None, None]
    assert votes.shares(0).tolist() == [[0.75, 0.25], [0, 1], [0, 0], [0, 0]]
    assert votes.shares(1).tolist() == [[1, 0], [0, 0], [0, 0], [0, 0]]
    assert list(votes.soft) == [0]


def test_a_function_that_fails_is_named_with_the_row_and_the_others_go_on(votes_of, caplog):
    source = """
LABELS = ["good", "bad"]

@labeling_function
def fails(text):
    return {
        "raises": lambda: {}["x\\ny"], "exits": exit, "unknown": lambda: "gud", "empty": lambda: "",
        "predicate": lambda: True, "list": lambda: ["good"], "share": lambda: {"good": "much"},
        "shares": lambda: {"good": 1.0, "bad": 1.0}, "infinite": lambda: {"good": float("nan")},
    }.get(text, lambda: "good")()

others = keywords("bad", *"raises exits unknown empty predicate list share shares infinite fine".split())
"""
    wrong = ["raises", "exits", "unknown", "empty", "predicate", "list", "share", "shares", "infinite"]
    votes = votes_of(source, *wrong, "fine")
    assert votes.faults == (9, 0)
    assert said(votes, 0) == [None] * 9 + ["good"]
    assert said(votes, 1) == ["bad"] * 10
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("t.csv: row 1: labelling function 'fails' raised")
    assert lines[0].endswith("functions.py line 8: KeyError: 'x\\ny'")
    assert lines[2].endswith("row 3: labelling function 'fails' returned the unknown label 'gud'; there are good, bad")
    assert lines[3].endswith("'fails' raised or returned no label for 9 rows, of which 3 are shown")
    caplog.clear()
    for text in wrong[3:]:
        votes_of(source, text)
    told = [record.getMessage().partition("'fails' ")[2].partition(";")[0] for record in caplog.records]
    assert told == [
        "returned '', which is no label",
        "returned True, which is no label",
        "returned ['good'], which is no label",
        "returned 'much' for 'good', which is no probability",
        "returned probabilities of sum 2",
        "returned nan for 'good', which is no probability",
    ]


def test_labels_that_look_alike_are_one(votes_of):
    votes = votes_of(
        """
@labeling_function
def number(text): return 1
@labeling_function
def text(text): return " 1.0"
@labeling_function
def markup(text): return "<b>\\u200b😀"
""",
        "a",
    )
    assert votes.labels == ("1", "<b>😀")
    assert votes.hard.tolist() == [[0, 0, 1]]


def test_a_model_votes_by_its_probabilities(finished_run, votes_of):
    texts = ["what a good and great film", "the bad book was dull", "very good ."]
    predictions = Predictor.load(finished_run.model_dir)(texts)
    votes = votes_of(
        f"""
model = {str(finished_run.model_dir)!r}
soft = model_votes(model, name="soft")
renamed = model_votes(model, {{"good": "yes", "bad": None}}, name="renamed")
hard = model_votes(model, soft=False, name="hard")
sure = model_votes(model, threshold=1.1, name="sure")
""",
        *texts,
    )
    assert votes.labels == ("bad", "good", "yes")
    expected = [[prediction["probabilities"][name] for name in ("bad", "good")] for prediction in predictions]
    np.testing.assert_allclose(votes.shares(0)[:, :2], expected, rtol=1e-6)
    assert said(votes, 0) == said(votes, 2) == [prediction["label"] for prediction in predictions]
    assert said(votes, 1) == ["yes" if prediction["label"] == "good" else None for prediction in predictions]
    assert said(votes, 3) == [None] * 3
    assert set(said(votes, 0)) == {"good", "bad"}


def test_a_model_that_does_not_fit_is_an_error(finished_run, votes_of):
    with pytest.raises(ConfigError, match="the model has no class 'gut'; it has bad, good"):
        votes_of(f"a = model_votes({str(finished_run.model_dir)!r}, {{'gut': 'x'}})", "text")


def test_the_nearest_example_sentence_votes_where_it_is_near_enough(finished_run, votes_of):
    examples = {"praise": ["a good film", "great ."], "blame": ["the dull book"]}
    texts = ["the dull book", "a good film", "very bad", "it was so", "what ?"]
    model = str(finished_run.model_dir)
    sentences = [(label, text) for label, of_label in examples.items() for text in of_label]
    predictor = Predictor.load(model)
    cosines = predictor.embed(texts) @ predictor.embed([text for _, text in sentences]).T
    nearest = [sentences[i][0] for i in cosines.argmax(axis=1)]
    assert set(nearest) == {"praise", "blame"}
    in_order = np.sort(cosines.max(axis=1))
    gap = np.diff(in_order).argmax()
    threshold = float(in_order[gap : gap + 2].mean())
    votes = votes_of(f"f = similar_to({json.dumps(examples)}, {model!r}, threshold={threshold!r})", *texts)
    near = (cosines.max(axis=1) >= threshold).tolist()
    assert said(votes) == [label if is_near else None for label, is_near in zip(nearest, near, strict=True)]
    assert near.count(False) == gap + 1


def test_a_bare_encoder_gives_the_mean_of_its_tokens(tiny_model, votes_of):
    source = f"near = similar_to({{'a': ['a good film'], 'b': ['what ?']}}, {str(tiny_model)!r}, threshold=0.99999)"
    assert said(votes_of(source, "what ?", "a good film")) == ["b", "a"]


def test_a_plain_list_stands_for_all_functions_of_a_file(functions_file):
    path = functions_file(
        """
import beside

def plain(text): return "a"
ignored = keywords("a", "x")
FUNCTIONS = [plain, regex("b", "y"), beside.shared]
LABELS = {"b", "a"}
"""
    )
    path.with_name("beside.py").write_text("def shared(text): return 'b'\n")
    loaded = load_functions(path)
    assert [function.name for function in loaded.functions] == ["plain", "regex: y", "shared"]
    assert sorted(loaded.labels) == ["a", "b"]


def test_a_decorated_function_can_be_called_and_stands_once(functions_file):
    loaded = load_functions(functions_file("@labeling_function\ndef f(text): return text\ng = f\n"))
    (function,) = loaded.functions
    assert isinstance(function, LabelingFunction)
    assert (function("x"), function.line) == ("x", 2)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(:\n", "functions.py line 2: SyntaxError: invalid syntax"),
        ("x = 1\n1 / 0\n", "functions.py line 3: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "functions.py line 2: SystemExit: 3"),
        ("x = 1\nf = regex('a', '(')", "functions.py line 3: regex: ( is no regular expression"),
        ("import no_such_module", "functions.py line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(text): return 'a'", "functions.py has no labelling function; write one that takes a text"),
        ("FUNCTIONS = []", "functions.py has no labelling function"),
        ("FUNCTIONS = keywords", "functions.py: FUNCTIONS is no list"),
        ("FUNCTIONS = ['f']", "functions.py: FUNCTIONS: 'f' is no labelling function"),
        ("FUNCTIONS = [lambda: 1]", "<lambda>() does not take a text, or a text and a row"),
        ("@labeling_function\nasync def f(text): return 'a'", "f is a coroutine or a generator"),
        ("a = keywords('x', 'y'); b = keywords('z', 'y')", "has two labelling functions named 'keywords: y'"),
        ("LABELS = ['a', 'b']; f = keywords('c', 'y')", "keywords: y votes for 'c', which is not in LABELS: a, b"),
        ("LABELS = ['a']; f = keywords('a', 'y')", "LABELS must be two distinct classes or more, got a"),
        ("LABELS = ['a', None]; f = keywords('a', 'y')", "LABELS holds None, which is no label"),
        ("LABELS = 'ab'; f = keywords('a', 'y')", "LABELS is no list"),
    ],
    ids=["syntax", "raises", "exits", "pattern", "import", "no function", "empty list", "no list", "no callable",
         "no argument", "coroutine", "one name twice", "label not in LABELS", "one label", "no label", "labels"],
)  # fmt: skip
def test_a_file_that_cannot_be_used(functions_file, source, message):
    with pytest.raises(ConfigError) as caught:
        load_functions(functions_file(source))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"\xff\xfe", "is no Python"), (b"# coding: klingon\n", "is no Python")],
    ids=["missing", "bytes", "encoding"],
)
def test_a_file_that_is_no_text(tmp_path, content, message):
    path = tmp_path / "functions.py"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_functions(path)
