"""Labels of words: from CoNLL columns and lists to first pieces, and every way in which a file can be wrong."""

import json

import numpy as np
import pandas as pd
import pytest

from bertjax.batch import UNLABELLED
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import ConfigError, DataError
from bertjax.tasks import find_format
from tests.support.tables import rows_of, splits_of

CONLL = """-DOCSTART- -X- O O

films NN B-NP B-WORK
was VB O O
good JJ O O

# id = 7
the DT B-NP B-WORK
songs NN I-NP I-WORK

bad JJ O O
"""
SENTENCES = {("films", "was", "good"): ("B-WORK", "O", "O"), ("the", "songs"): ("B-WORK", "I-WORK"), ("bad",): ("O",)}


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content)
        return str(path)

    return write


def labels_by_text(table, task="token_classification"):
    splits = splits_of(table, task)
    return {
        text: label for rows in (splits.train, splits.test) for text, label in zip(rows.texts, rows.labels, strict=True)
    }


def test_columns_and_lists_say_the_same(write, tmp_path):
    records = [{"tokens": list(words), "ner_tags": list(tags)} for words, tags in SENTENCES.items()]
    pd.DataFrame(records).to_parquet(tmp_path / "t.parquet")
    joined = pd.DataFrame([{key: " ".join(value) for key, value in record.items()} for record in records])
    joined.to_csv(tmp_path / "t.csv", index=False)
    sources = [
        write("t.conll", CONLL),
        write("crlf.bio", CONLL.replace("\n", "\r\n").replace(" ", "\t")),
        write("t.jsonl", "\n".join(map(json.dumps, records))),
        str(tmp_path / "t.parquet"),
        str(tmp_path / "t.csv"),
    ]
    for source in sources:
        assert labels_by_text(Table(source, test_size=1)) == SENTENCES
    chunks = labels_by_text(Table(sources[0], label="tag_3", test_size=1))
    assert chunks["the", "songs"] == ("B-NP", "I-NP")


def test_a_word_is_labelled_at_its_first_piece(tiny_model):
    rows = rows_of(list(SENTENCES), None, list(SENTENCES.values()))
    names = ("B-WORK", "I-WORK", "O")
    examples = find_format("token_classification").encode(
        rows, "t", Encoding(load_tokenizer(tiny_model), names, 32, Table())
    )
    # [CLS] film ##s was good [SEP]
    assert examples.labels[:6].tolist() == [UNLABELLED, 0, UNLABELLED, 2, 2, UNLABELLED]
    assert examples.labels[6:11].tolist() == [UNLABELLED, 0, 1, UNLABELLED, UNLABELLED]


@pytest.mark.parametrize("max_length", [3, 4, 5, 7, 48])
def test_each_word_is_labelled_once_however_long_its_sentence(tiny_model, max_length):
    """A word can be cut in two between windows."""
    words, tags = ("films",) * 4 + ("a", "songs", "book"), ("a", "b", "c", "d", "e", "f", "g")
    encoding = Encoding(load_tokenizer(tiny_model), tags, max_length, Table())
    examples = find_format("token_classification").encode(rows_of([words, words], None, [tags, tags]), "t", encoding)
    assert examples.labels[examples.labels != UNLABELLED].tolist() == [0, 1, 2, 3, 4, 5, 6] * 2
    assert examples.lengths.max() <= max_length
    assert np.all(np.diff(examples.row_of) >= 0)


def test_bio_vocabulary_has_both_tags_of_an_entity(write):
    splits = splits_of(Table(write("t.conll", "a B-X\n\nb O\n\nc B-Y\nd I-Y\n"), test_size=1), "token_classification")
    assert splits.vocabulary == ("B-X", "B-Y", "I-X", "I-Y", "O")
    parts = splits_of(Table(write("pos.conll", "a DT\nb NN\n\nc NN\n\nd VB\n"), test_size=1), "token_classification")
    assert parts.vocabulary == ("DT", "NN", "VB")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a B-X\n\nb O\nc I-PER\n", r"t.conll: line 4 labels 'c' \(word 2\) I-PER, but no PER begins before .*B-PER"),
        ("a B-LOC\nb I-PER\n", r"line 2 labels 'b' \(word 2\) I-PER, but no PER begins before it"),
        ("I I-PER\n\na B-PER\n", r"line 1 labels 'I' \(word 1\) I-PER"),
        ("a O\n\nb O\nc\nd O\n", "line 4 has 1 column, the lines before have 2; mend it, or leave"),
        ("a O\nb x O\n", "line 2 has 3 columns, the lines before have 2"),
        ("a\nb\n", "line 1 has one column; a word and its tag make two"),
        ("a O\n\nb O\n", "needs two labels or more, the training rows of .* have only 'O'"),
        ("\n\n", "has no rows"),
    ],
)
def test_broken_columns(write, content, message):
    with pytest.raises(DataError, match=message):
        splits_of(Table(write("t.conll", content)), "token_classification")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "row 2 has 2 words in 'tokens' but 1 labels in 'tags'"),
        (
            {"tokens": ["a", 5], "tags": ["O", "O"]},
            "row 2 has the word 5 in column 'tokens', which must hold the",
        ),
        ({"tokens": ["a", None], "tags": ["O", "O"]}, "row 2 has the word None in column 'tokens'"),
        ({"tokens": [], "tags": []}, "row 2 has no words in column 'tokens'"),
        ({"tokens": ["a"], "tags": [1.5]}, "row 2 has a label in 'tags' that is neither string nor integer"),
        ({"tokens": ["a"], "tags": ["I-X"]}, r"row 2 labels 'a' \(word 1\) I-X, but no X begins"),
        ({"tokens": 7, "tags": ["O"]}, "row 2 holds 7 in column 'tokens', which is no list"),
    ],
)
def test_broken_lists(write, record, message):
    rows = [{"tokens": ["x"], "tags": ["B-X"]}, record]
    with pytest.raises(DataError, match=message):
        splits_of(Table(write("t.jsonl", "\n".join(map(json.dumps, rows)))), "token_classification")


def test_broken_sentences_are_skipped_counted_and_listed(write):
    path = write("t.conll", "a B-X\n\nb O\nc I-PER\n\nd\n\ne B-X\nf O\n\ng O\n\n")
    splits = splits_of(Table(path, on_bad_row="skip", test_size=1), "token_classification")
    (table,) = splits.data_report.tables
    assert [str(row) for row in table.skipped] == [
        f"{path}: line 6 has 1 column, the lines before have 2",
        f"{path}: line 4 labels 'c' (word 2) I-PER, but no PER begins before it: an entity starts with B-PER "
        "(--tag-scheme iob1 lets it start so)",
    ]
    assert table.rows == len(splits.train.texts) + len(splits.test.texts) == 3


def test_preprocessing_steps_are_an_error_for_token_labels(write):
    table = Table(write("t.conll", CONLL), steps=("lower",))
    with pytest.raises(ConfigError, match="--steps lower: the labels of token_classification point at places"):
        splits_of(table, "token_classification")


def test_unseen_tag_is_an_error(write, tiny_model):
    table = Table(write("a.conll", "a B-X\n\nb O\n"), test=write("b.conll", "c B-Y\n"))
    splits = splits_of(table, "token_classification")
    encoding = Encoding(load_tokenizer(tiny_model), splits.vocabulary, 16, table)
    with pytest.raises(DataError, match=r"never saw: 'B-Y'; training has 'B-X', 'I-X', 'O'"):
        find_format("token_classification").encode(splits.test, "b.conll", encoding)
