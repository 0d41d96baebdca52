"""Scores of word labels against seqeval on the words that transformers' own tokenizer aligns with their tags."""

import json

import numpy as np
import pytest
from seqeval.metrics import accuracy_score, classification_report
from seqeval.scheme import BILOU, IOBES
from transformers import BertTokenizer

from bertjax.batch import UNLABELLED
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.split.read_splits import encode_rows, encode_splits, read_splits
from bertjax.data.streaming.stream_splits import stream_splits
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.metrics.tag_report import tag_report
from bertjax.tasks import find_format
from bertjax.tasks.postprocess import AnswerOptions
from bertjax.tasks.text_answers import WORD_LABELS
from tests.support.tables import rows_of

LOST = ("\u200b", "\ufe0f", "\u00ad", "\ufeff")  # words of which BERT's tokenizer makes no piece
STRICT = {"bioes": {"mode": "strict", "scheme": IOBES}, "bilou": {"mode": "strict", "scheme": BILOU}}
FORMAT = find_format("token_classification")

# Sentences as words with their tags; the scheme that they show.
CASES = {
    "bio": ("bio", [("the O", "films B-X", "songs I-X", "bad O"), ("plot B-Y", "plot B-Y"), ("good O",)]),
    "bioes": ("bioes", [("the S-X", "films B-X", "song I-X", "songs E-X"), ("plot S-Y", "plot O"), ("good O",)]),
    "bilou": ("bilou", [("the U-X", "films B-X", "song I-X", "songs L-X"), ("plot U-Y", "plot O"), ("good O",)]),
    "bmes": ("bioes", [("films X_B", "song X_M", "songs X_E", "the O"), ("plot Y_S",), ("good O",)]),
    "bare": ("bio", [("films B", "song I", "the O"), ("plot B", "a B"), ("good O",)]),
    "no scheme": ("none", [("films NN", "was VB", "the DT"), ("plot NN",), ("good JJ", "bad JJ")]),
    "lost words": (
        "bio",
        [("the O", f"{LOST[0]} B-X", "songs I-X", f"{LOST[1]} O"), (f"{LOST[2]} B-Y", f"{LOST[3]} I-Y"), ("bad O",)],
    ),
    "lost words of bioes": ("bioes", [("the B-X", f"{LOST[0]} E-X", "songs S-X"), (f"{LOST[2]} S-Y",), ("bad O",)]),
    "lost words of no scheme": ("none", [("the DT", f"{LOST[0]} SYM", "songs NN"), (f"{LOST[2]} SYM",), ("bad JJ",)]),
    "ignored": ("bio", [("the -100", "films B-X", "songs -100", "a I-X"), ("bad -100",), ("so O", f"{LOST[0]} -100")]),
}  # fmt: skip


def sentences_of(case):
    return [tuple(zip(*(word.rsplit(" ", 1) for word in sentence), strict=True)) for sentence in CASES[case][1]]


@pytest.fixture
def source(tmp_path, request):
    rows = [{"tokens": words, "tags": tags} for words, tags in sentences_of(request.param)]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def aligned(folder, sentences, scheme, predict):
    """True and predicted tags of each labelled word, by transformers' alignment; a word without a piece is predicted to
    be in no entity, and `predict` says the label of a word in a place of a sentence."""
    tokenizer = BertTokenizer.from_pretrained(str(folder))
    true, predicted = [], []
    for row, (words, tags) in enumerate(sentences):
        known = set(tokenizer(list(words), is_split_into_words=True).word_ids())
        kept = [word for word, tag in enumerate(tags) if tag != "-100"]
        if kept:
            true.append([tags[word] for word in kept])
            predicted.append([predict(row, word) if word in known else "O" for word in kept])
    return true, predicted


def plain(tag):
    """The spelling that seqeval reads."""
    letters = str.maketrans({"M": "I"})
    return tag.split("_")[1].translate(letters) + "-" + tag.split("_")[0] if "_" in tag else tag


def scores_for(examples, names, predict):
    """Scores of a network that says `predict(row, word)` at each word's first piece."""
    rows = np.repeat(examples.row_of, examples.lengths)
    scores = np.zeros((len(rows), len(names)))
    for token, (row, word) in enumerate(zip(rows.tolist(), examples.reference.tolist(), strict=True)):
        scores[token, names.index(predict(row, word)) if word >= 0 else 0] = 1
    return scores


def rules(names):
    return {
        "only one": lambda row, word: "O" if "O" in names else names[0],
        "by turns": lambda row, word: names[(3 * row + word) % len(names)],
    }


@pytest.mark.parametrize("rule", ["only one", "by turns", "right"])
@pytest.mark.parametrize(("source", "case"), [(case, case) for case in CASES], indirect=["source"], ids=list(CASES))
def test_scores_are_those_of_seqeval(tiny_model, source, case, rule):
    """With the words lost in the tokenizer still in the support."""
    scheme, sentences = CASES[case][0], sentences_of(case)
    splits = read_splits(Table(source, test=source, leaks="report"), FORMAT)
    encoding = Encoding(load_tokenizer(tiny_model), splits.vocabulary, 16, splits.table)
    examples, names = encode_rows(source, splits.test, FORMAT, encoding).examples, splits.vocabulary
    labels = [tags for _, tags in sentences]

    def right(row, word):
        return labels[row][word] if labels[row][word] != "-100" else names[0]

    predict = rules(names).get(rule, right)
    report = tag_report(scores_for(examples, names, predict), examples, names)
    true, predicted = (
        [[plain(tag) for tag in tags] for tags in side] for side in aligned(tiny_model, sentences, scheme, predict)
    )
    assert splits.table.tag_scheme == scheme
    assert report.metrics["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert report.summary.startswith(f"{sum(map(len, true))} words in {len(true)} sentences, ")
    if scheme == "none":
        assert "f1" not in report.metrics
        assert "that mark no entities" in report.summary
        return
    assert report.summary.endswith(f"types of entities ({scheme})")
    expected = classification_report(true, predicted, output_dict=True, zero_division=0, **STRICT.get(scheme, {}))
    for name, average in (("", "micro avg"), ("_macro", "macro avg")):
        for key, theirs in (("f1", "f1-score"), ("precision", "precision"), ("recall", "recall")):
            assert report.metrics[key + name] == pytest.approx(expected[average][theirs])
    found = {name: scores.support for name, scores in report.table.rows}
    assert found == {name: row["support"] for name, row in expected.items() if not name.endswith(" avg")}


@pytest.mark.parametrize("scheme", ["bio", "bioes", "bilou"])
def test_a_model_that_only_says_o_finds_no_entity(tiny_model, tmp_path, scheme):
    """Three words in four are in no entity: that is the accuracy, and no F1."""
    single, begin, end = {"bio": "BBI", "bioes": "SBE", "bilou": "UBL"}[scheme]
    words = "the film was good", "a bad dull book it was not so"
    tags = f"O {single}-X O O", f"O O {begin}-Y {end}-Y O O O O"
    rows = [{"tokens": of.split(), "tags": their.split()} for of, their in zip(words, tags, strict=True)]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    splits = read_splits(Table(str(path), test=str(path), leaks="report"), FORMAT)
    encoding = Encoding(load_tokenizer(tiny_model), splits.vocabulary, 16, splits.table)
    examples = encode_rows("t", splits.test, FORMAT, encoding).examples
    report = tag_report(scores_for(examples, splits.vocabulary, lambda row, word: "O"), examples, splits.vocabulary)
    assert (report.metrics["f1"], report.metrics["recall"], report.metrics["accuracy"]) == (0, 0, 0.75)


def test_tags_that_make_up_no_entity():
    """Seqeval divides by nothing where neither side has an entity of its scheme."""
    from tests.metrics.test_metrics import sentences

    names = ("B-X", "E-X", "I-X", "O", "S-X")
    report = tag_report(*sentences(names, (["O", "O"], ["I-X", "B-X"])), names)
    assert (report.metrics["f1"], report.metrics["accuracy"]) == (0, 0)


@pytest.mark.ray
@pytest.mark.parametrize("case", ["lost words", "lost words of no scheme", "ignored"])
def test_both_readers_lose_the_same(tiny_model, tmp_path, case, ray_session):
    path = tmp_path / "t.jsonl"
    longer = [
        {"tokens": [*words, *["so"] * count], "tags": [*tags, *tags[:1] * count]}
        for count in range(4)
        for words, tags in (sentence for sentence in sentences_of(case) if sentence[1][0] != "B-Y")
    ]
    path.write_text("\n".join(map(json.dumps, longer)))
    table = Table(str(path), validation=str(path), test_size=4, leaks="report")
    encoding = Encoding(load_tokenizer(tiny_model), (), 16, table)
    memory = encode_splits(read_splits(table, FORMAT), FORMAT, encoding)
    stream = stream_splits(table, FORMAT, encoding, tiny_model, block_rows=2)
    assert memory.data_report == stream.data_report
    assert memory.data_report.lost_words + memory.data_report.unlabelled_words > 4
    assert memory.data_report.empty_texts == (2 if case == "lost words of no scheme" else 0)
    for side in ("train", "validation", "test"):
        expected, found = (getattr(splits, side).examples.words for splits in (memory, stream))
        assert (found.scheme, found.unlabelled.tolist()) == (expected.scheme, expected.unlabelled.tolist())
        for name in ("rows", "before", "labels"):
            np.testing.assert_array_equal(getattr(found.lost, name), getattr(expected.lost, name))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("B-X", "I-X", "O"), ["B-X", "O", "B-X"]),
        (("X_B", "X_I", "o"), ["X_B", "o", "X_B"]),
        (("0", "1"), ["0", "", "0"]),
        (("DT", "O"), ["DT", "O", "DT"]),
    ],
    ids=["bio", "suffixes", "no scheme", "an O of no scheme"],
)
def test_every_word_gets_one_label(tiny_model, names, expected):
    """Also one of which the tokenizer makes nothing."""
    words = ("films", LOST[0], "good")
    rows = rows_of([words], None, [FORMAT.placeholder(words, names)])
    examples = FORMAT.encode(rows, "t", Encoding(load_tokenizer(tiny_model), names, 16, Table()))
    logits = np.zeros((len(examples.labels), len(names)))
    (said,) = WORD_LABELS.answers(logits, rows, examples, names, AnswerOptions())
    assert (said["words"], said["labels"]) == (list(words), expected)


def test_a_word_without_a_label_is_still_answered_and_never_learned(tiny_model):
    names, words = ("B-X", "I-X", "O"), ("films", "good", "bad")
    rows = rows_of([words], None, [("B-X", None, "O")])
    examples = FORMAT.encode(rows, "t", Encoding(load_tokenizer(tiny_model), names, 16, Table()))
    # [CLS] film ##s good bad [SEP]
    assert examples.labels.tolist() == [UNLABELLED, 0, UNLABELLED, UNLABELLED, 2, UNLABELLED]
    logits = np.eye(3)[[0, 1, 0, 1, 2, 0]]
    (said,) = WORD_LABELS.answers(logits, rows, examples, names, AnswerOptions())
    assert said["labels"] == ["I-X", "I-X", "O"]
