"""Lists and objects in the text of a cell: json, Python and numpy write them, and nothing else is read as one."""

import ast
import json
import warnings

import numpy as np
import pandas as pd
import pytest

from bertjax.data.rows.literals import looks_like_list, parse_literal
from bertjax.data.table import Table
from bertjax.errors import DataError
from tests.support.tables import splits_of

NAMES = ["a", "it's", 'the "b"', "c,d", "", "é]"]
NUMBERS = [0, -1, 250]
SQUAD = {"text": ["song", "the song"], "answer_start": [4, 0]}
WRITERS = {
    "json": json.dumps,
    "python": repr,
    "tuple": lambda items: repr(tuple(items)),
    "numpy": lambda items: str(np.array(items)),
    "array": lambda items: repr(np.array(items)),
    "objects": lambda items: repr(np.array(items, object)),
    "series": lambda items: repr(list(np.array(items))),  # numpy 2: [np.str_('a'), np.int64(1)]
    "spread": lambda items: repr(items).replace(", ", ",\n  "),
}


@pytest.mark.parametrize("items", [NAMES, NUMBERS], ids=["strings", "numbers"])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_a_list_is_written_as_is_read_back(write, items):
    assert list(parse_literal(write(items))) == items


def test_a_list_of_python_2_and_sets():
    assert parse_literal("[u'a', u'b']") == ["a", "b"]
    assert parse_literal("{'a', 'b'}") == parse_literal("frozenset({'b', 'a'})") == {"a", "b"}


def test_long_arrays_wrap_their_lines_and_longer_ones_are_cut():
    assert parse_literal(str(np.arange(100))) == list(range(100))
    assert parse_literal(str(np.arange(100) / 8)) == [i / 8 for i in range(100)]
    assert parse_literal(str(np.arange(2000))) is None  # [0 1 2 ... 1997 1998 1999]


@pytest.mark.parametrize(
    "text",
    [
        "[spam]", "[a, b]", "['a', 'b'", "'a', 'b'", "(1)", "a", "", "['a' 'b', 'c']", "['it''s']", "[1..2 3]",
        "[f'{1}']", "[__import__('os').getcwd()]", "[open('x')]", "array(open('x'))", "[nan, 'a']", "[1\x00]",
        "[" * 10**5, "(" + "-" * 10**5 + "1,)", f"[{'9' * 10**4}]", f"['{'a' * 2**20}']",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_what_is_no_list_is_read_as_none(text):
    assert parse_literal(text) is None


@pytest.mark.parametrize("text", ["[1, 'a']", "('a',)", "{'a': [1, None, True, 2.5]}", "[[1], ['\\d']]"])
def test_python_reads_the_same(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert parse_literal(text) == ast.literal_eval(text)


def test_what_begins_like_a_list():
    likely = ["['a', 'b'", '["a"', "[1, 2", "[a, b]", "(a, b)", "{'a': 1", "array([1])", "np.array(['a'])"]
    unlikely = ["[a] | [b]", "[spam] and more", "(500) days", "a", "", "array of [b]"]
    assert [looks_like_list(text) for text in likely + unlikely] == [True] * len(likely) + [False] * len(unlikely)


@pytest.fixture
def table_of(tmp_path):
    def table_of(columns, **settings):
        pd.DataFrame(columns).to_csv(tmp_path / "t.csv", index=False)
        return Table(str(tmp_path / "t.csv"), **{"test_size": 1, **settings})

    return table_of


WORDS, TAGS = ["john", "smith"], ["B-PER", "I-PER"]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_sentences_of_words_and_tags(table_of, write):
    rows = splits_of(table_of({"tokens": [write(WORDS)] * 3 + ["x"] * 3, "tags": [write(TAGS)] * 3 + ["O"] * 3}),
                     "token_classification").train  # fmt: skip
    assert dict(zip(rows.texts, rows.labels, strict=True)) == {tuple(WORDS): tuple(TAGS), ("x",): ("O",)}


@pytest.mark.parametrize("sentence", ["( he said )", "( 1 , 2 )", "{ 'a' : 1 }", "array (1)", "(he"])
def test_a_sentence_in_brackets_is_parted_at_white_space(table_of, sentence):
    words = tuple(sentence.split())
    tags = [" ".join(["x"] * len(words)), "y", "y", "y"]
    rows = splits_of(table_of({"tokens": [sentence, "a", "b", "c"], "tags": tags}), "token_classification")
    assert words in rows.train.texts + rows.test.texts


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        ("token_classification", {"tokens": ["{'john', 'smith'}"], "tags": ["a b"]}, "row 1 holds the set"),
        ("token_classification", {"tokens": ["['john', 'smith'"], "tags": ["a b"]}, "row 1 .* begins like a list"),
        ("multiple_choice", {"question": ["q"], "choices": ["{'a', 'b'}"], "answer": ["a"]}, "row 1 holds the set"),
        ("multiple_choice", {"question": ["q"], "choices": ["[a, b]"], "answer": ["a"]}, "row 1 .* begins like a list"),
        ("multi_label", {"text": ["q"], "labels": ["['a', 'b'"]}, r"row 1 .* begins like a list and .* as in \[\"a\","),
        ("multi_label", {"text": ["q"], "labels": ["[a, b]"]}, "row 1 .* begins like a list and is none"),
        ("multi_label", {"text": ["q"], "labels": ["{'a': 1, 'b': 0}"]}, "row 1 .* begins like a list and is none"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("delimiter", [None, ","])
def test_a_cell_that_is_no_list_after_all_is_refused_as_such(table_of, task, columns, message, delimiter):
    with pytest.raises(DataError, match=message) as error:
        splits_of(table_of(columns, label_delimiter=delimiter), task)
    assert "--label-delimiter" not in str(error.value)


@pytest.mark.parametrize("delimiter", [None, ",", "|"])
@pytest.mark.parametrize("write", [*WRITERS.values(), lambda items: repr(set(items))], ids=[*WRITERS, "set"])
def test_labels_of_a_row(table_of, write, delimiter):
    """A delimiter parts no list: its pieces would be labels such as "['a'" and "'b']"."""
    cells = [write(["b", "a"]), write(["b"]), write(["a", "c"]), write(["c"])]
    splits = splits_of(table_of({"text": list("wxyz"), "labels": cells}, label_delimiter=delimiter), "multi_label")
    assert splits.vocabulary == ("a", "b", "c")
    rows = [
        rows for side in (splits.train, splits.test) for rows in zip(side.texts, map(set, side.labels), strict=True)
    ]
    assert dict(rows) == {"w": {"a", "b"}, "x": {"b"}, "y": {"a", "c"}, "z": {"c"}}


def test_names_in_brackets_are_labels_where_no_list_is_due(table_of):
    cells = ["[spam]", "['ham']"] * 4
    splits = splits_of(table_of({"text": [f"t {i}" for i in range(8)], "label": cells}, test_size=2), "classification")
    assert splits.vocabulary == ("['ham']", "[spam]")
    cells = ["[a]|[b]", "[a]", "[b]", "[a]"]
    several = splits_of(table_of({"text": list("wxyz"), "labels": cells}, label_delimiter="|"), "multi_label")
    assert several.vocabulary == ("[a]", "[b]")


ANSWERS = {
    "json": json.dumps(SQUAD),
    "python": repr(SQUAD),
    "arrays": repr({"text": np.array(["song", "the song"], object), "answer_start": np.array([4, 0], np.int32)}),
    "objects": repr([{"text": "song", "answer_start": 4}, {"text": "the song", "answer_start": 0}]),
    "scalars": repr([{"text": np.str_("song"), "answer_start": np.int64(4)}, {"text": "the song", "answer_start": 0}]),
}  # fmt: skip


@pytest.mark.parametrize("cell", ANSWERS.values(), ids=ANSWERS)
def test_answers(table_of, cell):
    """Pandas writes SQuAD's parquet file to csv with arrays in it."""
    columns = {"question": ["what", "how", "who"], "context": ["the song was good"] * 3, "answers": [cell, cell, "[]"]}
    splits = splits_of(table_of(columns, text_pair=("context",)), "question_answering")
    questions = splits.train.labels + splits.test.labels
    assert sorted(question.answers for question in questions) == [(), *[((4, "song"), (0, "the song"))] * 2]


@pytest.mark.parametrize(
    "cell",
    [
        "{'text': ['song'], 'answer_start': [4]",
        "{'text': {'song'}, 'answer_start': {4}}",
        "{'text': None, 'answer_start': None}",
        "song",
        "{'song'}",
    ],
)
def test_answers_that_cannot_be_used(table_of, cell):
    columns = {"question": ["what"], "context": ["the song was good"], "answers": [cell]}
    with pytest.raises(DataError, match="row 1 has no answers to question 'what' in column 'answers'"):
        splits_of(table_of(columns, text_pair=("context",)), "question_answering")
