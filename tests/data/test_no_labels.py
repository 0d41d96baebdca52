"""-100 marks what has no label, in every format and task; texts of which the tokenizer makes nothing are counted."""

import json

import numpy as np
import pandas as pd
import pytest

from bertjax.batch import UNLABELLED
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.split.read_splits import encode_splits, read_splits
from bertjax.data.table import Masking, Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import DataError
from bertjax.tasks import find_format
from tests.support.tables import splits_of

WORDS = [["the", "film", "was"], ["a", "book"], ["so"], ["good", "song"]]
NAMED = [["O", "B-X", -100], ["O", -100], ["O"], [-100, -100]]
NUMBERED = [[0, 1, -100], [0, -100], [0], [-100, -100]]


def as_text(tags):
    return [list(map(str, of)) for of in tags]


def write(folder, suffix, tags):
    path = folder / f"t.{suffix}"
    rows = [{"tokens": words, "tags": of} for words, of in zip(WORDS, tags, strict=True)]
    if suffix == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif suffix == "conll":
        path.write_text("\n\n".join("\n".join(f"{w} {t}" for w, t in zip(*row.values(), strict=True)) for row in rows))
    elif suffix in ("csv", "xlsx"):
        frame = pd.DataFrame([{name: json.dumps(cell) for name, cell in row.items()} for row in rows])
        frame.to_csv(path, index=False) if suffix == "csv" else frame.to_excel(path, index=False)
    else:
        path.write_text(json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.mark.parametrize("tags", [as_text(NAMED), NUMBERED, as_text(NUMBERED)], ids=["names", "numbers", "texts"])
@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "xlsx", "conll", "parquet"])
def test_the_mark_is_no_class(tmp_path, tiny_model, suffix, tags):
    task_format = find_format("token_classification")
    table = Table(write(tmp_path, suffix, tags), test=write(tmp_path, suffix, tags), leaks="report")
    encoding = Encoding(load_tokenizer(tiny_model), (), 16, table)
    splits = encode_splits(read_splits(table, task_format), task_format, encoding)
    names = [str(tag) for of in tags for tag in of if str(tag) != "-100"]
    assert str(UNLABELLED) not in splits.vocabulary
    labels = splits.test.examples.labels
    assert [splits.vocabulary[label] for label in labels[labels != UNLABELLED]] == names
    assert splits.data_report.unlabelled_words == 2 * 4


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_table_in_which_no_word_has_a_label(save, side):
    rows = [{"tokens": of, "tags": ["O", "B-X"]} for of in (["a", "b"], ["c", "d"])]
    labelled = save("a.jsonl", "\n".join(map(json.dumps, rows)))
    unlabelled = save("b.jsonl", "\n".join(json.dumps({**row, "tags": [-100, -100]}) for row in rows))
    tables = {"train": labelled, "test": labelled, side: unlabelled}
    with pytest.raises(DataError, match=r"b.jsonl: no word has a label, each is marked -100"):
        splits_of(Table(**tables), "token_classification")


@pytest.mark.parametrize("cell", [-100, "-100"], ids=["number", "text"])
@pytest.mark.parametrize(
    ("task", "label", "message"),
    [
        (
            "classification",
            lambda cell: cell,
            "row 3 has -100 in column 'label', which marks what has no label",
        ),
        (
            "multi_label",
            lambda cell: [type(cell)(1), cell],
            "row 3 has -100 in column 'label', which marks what has no label",
        ),
        ("next_sentence", lambda cell: cell, "row 3 holds .-?100.? in column 'label', which must say 0 or 1"),
        ("regression", lambda cell: cell, None),
    ],
)
def test_rows_marked_so(save, task, label, message, cell):
    """A number to learn may be -100."""
    labels = ["1", "0", label(cell), "1"] if isinstance(cell, str) else [1, 0, label(cell), 1]
    if task == "multi_label":
        labels = [[type(cell)(1)], [type(cell)(2)], label(cell), [type(cell)(1)]]  # of one type
    rows = [{"text": f"film {i}", "next": "so", "label": of} for i, of in enumerate(labels)]
    pair = ("next",) if task == "next_sentence" else ()
    table = Table(save("t.jsonl", "\n".join(map(json.dumps, rows))), text_pair=pair, test_size=1)
    if message is None:
        splits = splits_of(table, task)
        assert (-100.0,) in splits.train.labels + splits.test.labels
        return
    with pytest.raises(DataError, match=message):
        splits_of(table, task)


EMPTY = "\u200b\ufe0f"


@pytest.mark.parametrize("whole_words", [False, True], ids=["pieces", "whole words"])
@pytest.mark.parametrize(
    ("task", "rows", "expected"),
    [
        ("classification", [{"text": EMPTY, "label": "a"}, {"text": "good", "label": "b"}], 1),
        ("multi_label", [{"text": EMPTY, "label": ["a"]}, {"text": "good", "label": ["b"]}], 1),
        ("regression", [{"text": EMPTY, "label": 1}, {"text": "good", "label": 2}], 1),
        ("next_sentence", [{"text": EMPTY, "next": EMPTY, "label": 1}, {"text": EMPTY, "next": "a", "label": 0}], 1),
        ("sentence_embedding", [{"text": EMPTY, "next": "a", "label": 1}, {"text": "a", "next": "so", "label": 0}], 1),
        ("masked_lm", [{"text": EMPTY}, {"text": "good"}], 1),
        ("token_classification", [{"text": [EMPTY], "label": ["B-X"]}, {"text": ["good"], "label": ["O"]}], 1),
    ],
)
def test_texts_without_a_word_piece_are_counted(save, tiny_model, task, rows, expected, whole_words):
    pair = ("next",) if "next" in rows[0] else ()
    path = save("t.jsonl", "\n".join(map(json.dumps, rows)))
    table = Table(path, test=path, leaks="report", text_pair=pair)
    task_format, masking = find_format(task), Masking(whole_words=whole_words)
    encoding = Encoding(load_tokenizer(tiny_model), (), 16, table, masking)
    splits = encode_splits(read_splits(table, task_format), task_format, encoding)
    assert splits.data_report.empty_texts == 2 * expected
    tokens, _ = splits.train.examples.take(np.arange(2)).tokens_of(0, epoch=0)
    assert len(tokens) >= 2
