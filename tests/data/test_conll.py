"""Columns of CoNLL files: which are words, which are labels, and which lines are neither."""

import logging

import pytest

from bertjax.data.table import Table
from bertjax.errors import DataError
from tests.support.tables import columns_of, splits_of

GERMEVAL = (
    "#\thttp://de.wikipedia.org/wiki/Manfred_Korfmann\t[2009-10-17]\n"
    "1\tAufgrund\tO\tO\n2\tseiner\tO\tO\n3\tTU\tB-ORG\tO\n4\tBerlin\tI-ORG\tB-LOC\n\n"
    "#\thttp://de.wikipedia.org/wiki/Wien\t[2010-01-01]\n"
    "1\tWien\tB-LOC\tO\n2\t#\tO\tO\n\n"
)
CONLLU = (
    "# newdoc id = weblog\n# sent_id = 1\n# text = Au lit !\n"
    "1-2\tAu\t_\t_\t_\t_\t_\t_\t_\t_\n"
    "1\tà\tà\tADP\tP\t_\t3\tcase\t_\t_\n2\tle\tle\tDET\tD\t_\t3\tdet\t_\t_\n"
    "3\tlit\tlit\tNOUN\tN\tNumber=Sing\t0\troot\t_\tSpaceAfter=No\n3.1\tdort\t_\tVERB\t_\t_\t_\t_\t0:root\t_\n"
    "4\t!\t!\tPUNCT\t_\t_\t3\tpunct\t_\t_\n\n"
    "# sent_id = 2\n1\tBon\tbon\tADJ\tA\t_\t0\troot\t_\t_\n"
)
PLUS = "# global.columns = ID FORM UPOS PARSEME:MWE\n" + "\n".join(
    ["1\tmake\tVERB\t1:LVC", "2\tit\tPRON\t*", "", "1\tso\tADV\t*", ""]
)
CONLL_2012 = (
    "#begin document (bc/cctv/00/cctv_0000); part 000\n"
    "bc/cctv/00 0 0 In IN (TOP* -\nbc/cctv/00 0 1 the DT * (ARG0*)\n\n"
    "bc/cctv/00 0 0 Mr. NNP * -\nbc/cctv/00 0 1 Li NNP * -\n\n#end document\n"
)
FILES = {
    "germeval": (GERMEVAL, {
        "column_1": [["1", "2", "3", "4"], ["1", "2"]], "text": [["Aufgrund", "seiner", "TU", "Berlin"], ["Wien", "#"]],
        "tag_3": [["O", "O", "B-ORG", "I-ORG"], ["B-LOC", "O"]], "label": [["O", "O", "O", "B-LOC"], ["O", "O"]],
    }),
    "conll-u": (CONLLU, {
        "form": [["à", "le", "lit", "!"], ["Bon"]], "upos": [["ADP", "DET", "NOUN", "PUNCT"], ["ADJ"]],
        "id": [["1", "2", "3", "4"], ["1"]], "misc": [["_", "_", "SpaceAfter=No", "_"], ["_"]],
        "deprel": [["case", "det", "root", "punct"], ["root"]],
    }),
    "conll-u plus": (PLUS, {"form": [["make", "it"], ["so"]], "parseme:mwe": [["1:LVC", "*"], ["*"]]}),
    "conll-2012": (CONLL_2012, {
        "text": [["In", "the"], ["Mr.", "Li"]], "tag_5": [["IN", "DT"], ["NNP", "NNP"]],
        "label": [["-", "(ARG0*)"], ["-", "-"]], "column_3": [["0", "1"], ["0", "1"]],
    }),
    "conll-2003": ("-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nof IN I-PP O\n", {
        "text": [["EU", "of"]], "tag_2": [["NNP", "IN"]], "tag_3": [["I-NP", "I-PP"]], "label": [["I-ORG", "O"]],
    }),
    "tag first": ("O\tshow\nO\tme\nB-GENRE\tcomedies\n\nB-ACTOR\tO\n", {
        "text": [["show", "me", "comedies"], ["O"]], "label": [["O", "O", "B-GENRE"], ["B-ACTOR"]],
    }),
    "tags of tags": ("O B-X\n\nB-X O\n", {"text": [["O"], ["B-X"]], "label": [["B-X"], ["O"]]}),
    "tweets": ("#good B-X\n# O\n\n#bad O\n1 O\n\n# O\n", {
        "text": [["#good", "#"], ["#bad", "1"], ["#"]], "label": [["B-X", "O"], ["O", "O"], ["O"]],
    }),
    "numbers in sentences": ("1 CD\n2 CD\n\n3 CD\n4 CD\n", {"text": [["1", "2"], ["3", "4"]]}),
    "one word each": ("1 A x\n\n1 B y\n", {"text": [["1"], ["1"]], "tag_2": [["A"], ["B"]], "label": [["x"], ["y"]]}),
}  # fmt: skip


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("name", FILES)
def test_the_columns_of_real_formats(save, name, line_end):
    content, expected = FILES[name]
    found = columns_of(save("t.conll", content.replace("\n", line_end)))
    assert {column: found[column] for column in expected} == expected


@pytest.mark.parametrize(
    ("name", "text", "label", "words", "tags"),
    [
        ("germeval", (), None, ("Wien", "#"), ("O", "O")),
        ("germeval", ("2",), "3", ("Wien", "#"), ("B-LOC", "O")),
        ("germeval", (), "tag_3", ("Wien", "#"), ("B-LOC", "O")),
        ("conll-u", (), None, ("Bon",), ("ADJ",)),
        ("conll-u", ("3",), "8", ("bon",), ("root",)),
        ("conll-u", ("lemma",), "xpos", ("bon",), ("A",)),
        ("conll-2012", (), "5", ("Mr.", "Li"), ("NNP", "NNP")),
    ],
)
def test_columns_are_named_or_numbered(save, name, text, label, words, tags):
    settings = {"text": text} if text else {}
    settings |= {"label": label} if label else {}
    table = Table(save("t.conll", FILES[name][0]), test_size=1, **settings)
    splits = splits_of(table, "token_classification")
    rows = dict(zip(splits.train.texts + splits.test.texts, splits.train.labels + splits.test.labels, strict=True))
    assert rows[words] == tags


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("germeval", ["2 lines that begin with # are comments", "column 1 counts the words", "words are in column 2"]),
        ("conll-u", ["is CoNLL-U, with the columns id, form, lemma, upos"]),
        (
            "conll-2012",
            ["column 1 has one value a sentence", "column 3 counts", "words are in column 4"],
        ),
        ("tag first", ["the tags are in column 1, the words in column 2"]),
        ("conll-2003", []),
        ("tweets", []),
    ],
)
def test_what_is_no_word_is_said(save, caplog, name, expected):
    caplog.set_level(logging.INFO)
    columns_of(save("t.conll", FILES[name][0]))
    assert all(part in caplog.text for part in expected)
    assert bool(caplog.records) == bool(expected)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("1 A\n2 B\n\n1 A\n2 C\n", {}, "has no column 'label'; its columns are column_1, text$"),
        ("a O\n\n# id\n#tag\nb O\n", {}, "line 4 has 1 column, the lines before have 2"),
        (GERMEVAL, {"label": "5"}, "has no column '5'; its columns are column_1, text, tag_3, label$"),
        (CONLLU.replace("3\tlit", "5\tlit"), {}, None),
    ],
    ids=["index and words", "a hashtag without its label", "no such number", "ids that do not count"],
)
def test_columns_that_cannot_be_told(save, content, settings, message):
    table = Table(save("t.conll", content), test_size=1, **settings)
    if message is None:
        assert "form" not in columns_of(table.train)
        return
    with pytest.raises(DataError, match=message):
        splits_of(table, "token_classification")


def test_two_columns_that_count_can_be_words(save):
    table = Table(save("t.conll", "1 A\n2 B\n\n1 A\n2 C\n3 D\n"), text=("1",), label="2", test_size=1)
    splits = splits_of(table, "token_classification")
    assert {*splits.train.texts, *splits.test.texts} == {("1", "2"), ("1", "2", "3")}
