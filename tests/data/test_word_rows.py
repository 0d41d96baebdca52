"""Tables with a word a row become sentences, as pandas groups them."""

import io

import pandas as pd
import pytest

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.split.read_splits import encode_splits, read_splits
from bertjax.data.streaming.stream_splits import stream_splits
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import DataError
from bertjax.tasks import find_format
from tests.support.tables import columns_of, splits_of

KAGGLE = """Sentence #,Word,POS,Tag
Sentence: 1,Thousands,NNS,O
,of,IN,O
,London,NNP,B-geo
Sentence: 2,Café,NNP,B-org
,\"\"\"\",``,O
,NA,NN,O
Sentence: 3,null,NN,O
Sentence: 4,Paris,NNP,B-geo
,Match,NNP,I-geo
"""
FRAME = pd.read_csv(io.StringIO(KAGGLE), keep_default_na=False, na_values=[""])
FILLED = FRAME.assign(**{"Sentence #": FRAME["Sentence #"].ffill()})
GROUPS = {
    tuple(of["Word"]): {"Tag": tuple(of["Tag"]), "POS": tuple(of["POS"])}
    for _, of in FILLED.groupby("Sentence #", sort=False)
}
NUMBERED = FILLED.assign(**{"Sentence #": FILLED["Sentence #"].str[-1].astype(int)})
RENAMED = NUMBERED.rename(columns={"Sentence #": "sentence_id", "Word": "words", "Tag": "labels"})


def sentences(splits):
    sides = (splits.train, splits.test)
    return {words: tags for side in sides for words, tags in zip(side.texts, side.labels, strict=True)}


@pytest.fixture
def written(tmp_path):
    def write(name, frame, encoding="utf-8"):
        path = tmp_path / name
        if name.endswith(("csv", "tsv")):
            frame.to_csv(path, index=False, sep="\t" if name.endswith("tsv") else ",", encoding=encoding)
        elif name.endswith("parquet"):
            frame.to_parquet(path)
        elif name.endswith("xlsx"):
            frame.to_excel(path, index=False)
        else:
            frame.to_json(path, orient="records", lines=name.endswith("jsonl"))
        return str(path)

    return write


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "json", "jsonl", "xlsx"])
@pytest.mark.parametrize(
    "frame", [FRAME, FILLED, NUMBERED, RENAMED], ids=["blanks", "filled", "numbers", "other names"]
)
def test_sentences_are_those_of_pandas(written, frame, suffix):
    table = Table(written(f"t.{suffix}", frame), test_size=1)
    splits = splits_of(table, "token_classification")
    assert sentences(splits) == {words: tags["Tag"] for words, tags in GROUPS.items()}
    assert splits.table.tag_scheme == "bio"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_other_encodings_and_columns(written, encoding):
    table = Table(written("t.csv", FRAME, encoding), encoding=encoding, label="POS", test_size=1)
    assert sentences(splits_of(table, "token_classification")) == {words: tags["POS"] for words, tags in GROUPS.items()}


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME[1:], "row 1 is a word of no sentence: its cell in column 'Sentence #' is empty"),
        (pd.concat([FILLED, FILLED[:1]]), "the words of the sentence 'Sentence: 1' stand in two places; sort the rows"),
        (FRAME.assign(Word=[*FRAME["Word"][:-1], None]), "row 4 has the word None in column 'Word'"),
    ],
    ids=["no first sentence", "shuffled", "no word"],
)
def test_words_whose_sentence_cannot_be_told(written, frame, message):
    with pytest.raises(DataError, match=message):
        splits_of(Table(written("t.csv", frame)), "token_classification")


def test_rows_of_other_tables_and_tasks_stay(written):
    """A sentence in a cell is one, however its columns are called; other tasks read the words as they stand."""
    whole = pd.DataFrame({"sentence_id": [1, 2], "words": ["a b", "c d"], "tags": ["O B-X", "O O"]})
    splits = splits_of(Table(written("t.csv", whole), test_size=1), "token_classification")
    assert sentences(splits)["a", "b"] == ("O", "B-X")
    path = written("k.csv", FILLED)
    splits = splits_of(Table(path, text=("Word",), test_size=1), "masked_lm")
    assert {*splits.train.texts, *splits.test.texts} == set(FILLED["Word"])
    assert columns_of(path)["Word"] == list(FILLED["Word"])


@pytest.mark.ray
@pytest.mark.parametrize("block_rows", [1, 2, 4, 100])
def test_a_sentence_may_lie_in_several_blocks(written, tiny_model, ray_session, block_rows):
    task_format = find_format("token_classification")
    table = Table(written("t.csv", FRAME), test_size=1)
    encoding = Encoding(load_tokenizer(tiny_model), (), 16, table)
    memory = encode_splits(read_splits(table, task_format), task_format, encoding)
    stream = stream_splits(table, task_format, encoding, tiny_model, block_rows)
    assert stream.vocabulary == memory.vocabulary
    assert stream.train.num_rows == memory.train.num_rows
    assert stream.train.examples.lengths.tolist() == memory.train.examples.lengths.tolist()
