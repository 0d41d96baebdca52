"""Tag schemes: recognised from all labels however they are spelled, checked, converted, and completed for the model."""

import json
import logging
from collections.abc import Sequence

import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, IOE1, IOE2, Entities

from bertjax.data.table import Table
from bertjax.data.task_formats.tag_scheme import as_bio, as_seqeval, completed, recognise, scheme_of_names, transitions
from bertjax.errors import DataError
from tests.support.tables import splits_of

# (type, first word, word behind the last) of each entity in sentences of the given length.
ENTITIES = [
    (6, [("PER", 0, 2), ("PER", 2, 3), ("LOC", 4, 6)]),
    (5, [("LOC", 1, 4)]),
    (4, [("PER", 0, 1), ("LOC", 1, 3), ("LOC", 3, 4)]),
    (2, []),
]


def tags_of(scheme: str, length: int, entities: Sequence[tuple[str, int, int]]) -> list[str]:
    """The tags of a sentence, written down from the definitions of the schemes."""
    tags = ["O"] * length
    for kind, first, end in entities:
        for i in range(first, end):
            is_first, is_last = i == first, i == end - 1
            after = any(kind == other and first == end_ for other, _, end_ in entities)
            before = any(kind == other and end == first_ for other, first_, _ in entities)
            letter = {
                "iob2": "B" if is_first else "I",
                "iob1": "B" if is_first and after else "I",
                "ioe2": "E" if is_last else "I",
                "ioe1": "E" if is_last and before else "I",
                "iobes": "S" if is_first and is_last else "B" if is_first else "E" if is_last else "I",
                "bilou": "U" if is_first and is_last else "B" if is_first else "L" if is_last else "I",
            }[scheme]
            tags[i] = f"{letter}-{kind}"
    return tags


def sentences_of(scheme: str) -> list[list[str]]:
    return [tags_of(scheme, *sentence) for sentence in ENTITIES]


def scheme_of(sentences: Sequence[Sequence[str]]) -> str | None:
    return recognise({item for tags in sentences for item in transitions(tags)}).scheme


SCHEMES = {
    "iob2": (IOB2, "bio"), "iob1": (IOB1, "iob1"), "ioe2": (IOE2, "ioe"), "ioe1": (IOE1, "ioe"),
    "iobes": (IOBES, "bioes"), "bilou": (BILOU, "bilou"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_is_recognised_from_all_sentences(name):
    """The sentences of the test hold what seqeval reads in them by the same scheme."""
    sentences, (scheme, expected) = sentences_of(name), SCHEMES[name]
    found = [[entity.to_tuple()[1:] for entity in of] for of in Entities(sentences, scheme).entities]
    assert found == [entities for _, entities in ENTITIES]
    assert scheme_of(sentences) == expected


@pytest.mark.parametrize("name", ["iob2", "iob1", "ioe2", "ioe1"])
def test_other_schemes_become_bio(name):
    converted = [list(as_bio(tags)) for tags in sentences_of(name)]
    assert converted == sentences_of("iob2")
    assert [get_entities(tags) for tags in converted] == [get_entities(tags) for tags in sentences_of("iob2")]


SPELLINGS = {
    "B-PER": lambda letter, kind: f"{letter}-{kind}",
    "B_PER": lambda letter, kind: f"{letter}_{kind}",
    "B/PER": lambda letter, kind: f"{letter}/{kind}",
    "B.PER": lambda letter, kind: f"{letter}.{kind}",
    "B:PER": lambda letter, kind: f"{letter}:{kind}",
    "B|PER": lambda letter, kind: f"{letter}|{kind}",
    "PER-B": lambda letter, kind: f"{kind}-{letter}",
    "PER_B": lambda letter, kind: f"{kind}_{letter}",
    "b-per": lambda letter, kind: f"{letter}-{kind}".lower(),
    "B": lambda letter, kind: letter,
    "b": lambda letter, kind: letter.lower(),
    "B-first_name": lambda letter, kind: f"{letter}-{kind.lower()}_name",
    "B-BIO": lambda letter, kind: f"{letter}-{kind}-BIO",
}


@pytest.mark.parametrize("outside", ["O", "o", "0", "OTHER", "none"])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", ["iob2", "iobes", "bilou"])
def test_every_spelling_is_the_same_scheme(name, spelling, outside):
    def spelled(tag):
        return outside if tag == "O" else SPELLINGS[spelling](*tag.split("-"))

    plain = sentences_of(name)
    sentences = [[spelled(tag) for tag in tags] for tags in plain]
    assert scheme_of(sentences) == SCHEMES[name][1]
    kinds = {"PER": as_seqeval(spelled("B-PER"))[2:], "LOC": as_seqeval(spelled("B-LOC"))[2:]}
    expected = [[tag if tag == "O" else f"{tag[0]}-{kinds[tag[2:]]}" for tag in tags] for tags in plain]
    assert [[as_seqeval(tag) for tag in tags] for tags in sentences] == expected


@pytest.mark.parametrize(("middle", "single"), [("M", "S"), ("M", "W")], ids=["BMES", "BMEWO"])
def test_other_letters_of_bioes(middle, single):
    letters = str.maketrans({"I": middle, "S": single})
    sentences = [[tag[0].translate(letters) + tag[1:] for tag in tags] for tags in sentences_of("iobes")]
    assert scheme_of(sentences) == "bioes"
    assert [[as_seqeval(tag) for tag in tags] for tags in sentences] == sentences_of("iobes")
    assert completed({"B-X", "M-X", "E-X", f"{single}-X"}, "bioes") == {"B-X", "M-X", "E-X", f"{single}-X", "O"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"DT", "NN", "VB"}, "none"),
        ({"PER", "LOC", "O"}, "none"),
        ({"B-PER", "I-PER", "MISC", "O"}, "none"),
        ({"B-PER", "I_PER", "O"}, "none"),
        ({"B-PER", "I-PER", "E-PER", "L-PER", "O"}, "none"),
        ({"0", "1", "2"}, "none"),
        ({"B", "O"}, "none"),
        ({"E-1", "E-2"}, "none"),
        ({"vitamin-B", "vitamin-E"}, "none"),
        ({"S.x", "B.y"}, "none"),
        ({"x_S", "y_B", "O"}, "none"),
        ({"S_x", "B_y", "O"}, "bioes"),
        ({"O"}, None),
        ({"B-PER", "O"}, "bio"),
        ({"I-PER", "O"}, "bio"),
        ({"S-PER", "O"}, "bioes"),
        ({"U-PER", "O"}, "bilou"),
        ({"B", "M", "E", "S"}, "bioes"),
        ({"B-NN", "I-NN", "B-VB"}, "bio"),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else value,
)
def test_labels_that_only_look_like_tags(names, expected):
    assert scheme_of_names(names).scheme == expected


@pytest.mark.parametrize(
    ("names", "scheme", "expected"),
    [
        ({"B-X", "O"}, "bio", {"B-X", "I-X", "O"}),
        ({"I-X"}, "iob1", {"B-X", "I-X", "O"}),
        ({"B-X"}, "ioe", {"B-X", "I-X", "O"}),
        ({"S-X", "O"}, "bioes", {"B-X", "I-X", "E-X", "S-X", "O"}),
        ({"X_u", "o"}, "bilou", {"X_b", "X_i", "X_l", "X_u", "o"}),
        ({"b", "i"}, "bio", {"b", "i", "o"}),
    ],
)
def test_what_begins_may_go_on(names, scheme, expected):
    assert completed(names, scheme) == expected


def conll(*sentences: str) -> str:
    return "\n\n".join(sentence.replace(" ", "\n").replace("|", " ") for sentence in sentences) + "\n"


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (conll("a|B-X b|O", "c|I-X d|O"), {}, r"line 4 labels 'c' \(word 1\) I-X, but no X begins .*--tag-scheme iob1"),
        (conll("a|S-X", "c|B-X d|O"), {}, r"line 3 labels 'c' \(word 1\) B-X, but the entity does not end.*E-X.*S-X"),
        (conll("a|U-X", "c|O d|B-X"), {}, r"line 4 labels 'd' \(word 2\) B-X, but .*L-X.*U-X.*--tag-scheme none"),
        (conll("a|S-X", "c|O d|E-X"), {}, r"line 4 labels 'd' \(word 2\) E-X, but no X begins before it"),
        (conll("a|S-X", "b|B-X c|E-Y"), {}, r"line 4 labels 'c' \(word 2\) E-Y, but no Y begins"),
        (conll("a|NN", "b|VB"), {"tag_scheme": "bio"}, "line 1 labels 'a' .* NN, which is no tag of the scheme bio"),
        (conll("a|S-X", "b|O"), {"tag_scheme": "bilou"}, "S-X, which is no tag of the scheme bilou"),
    ],
)
def test_rows_that_break_their_scheme_are_refused(save, content, settings, message):
    with pytest.raises(DataError, match=message):
        splits_of(Table(save("t.conll", content), **settings), "token_classification")


@pytest.mark.parametrize(
    ("content", "settings", "expected"),
    [
        (conll("a|B-X b|O", "c|I-X d|O", "e|O"), {"tag_scheme": "iob1"}, ("B-X", "O")),
        (conll("a|B-X b|O", "c|I-X d|O", "e|O"), {"tag_scheme": "none"}, ("I-X", "O")),
        (conll("a|I-X b|B-X", "c|I-X d|O", "e|O"), {}, ("B-X", "O")),
        (conll("a|B-X b|O", "c|I-X d|O", "e|O"), {"on_bad_row": "skip"}, None),
    ],
    ids=["said to be iob1", "said to be none", "recognised as iob1", "skipped"],
)
def test_an_entity_that_begins_with_i(save, content, settings, expected):
    splits = splits_of(Table(save("t.conll", content), test_size=1, **settings), "token_classification")
    rows = {
        text: label for side in (splits.train, splits.test) for text, label in zip(side.texts, side.labels, strict=True)
    }
    assert rows.get(("c", "d")) == expected


def test_the_scheme_is_that_of_the_first_table_with_entities_and_is_said(save, caplog):
    caplog.set_level(logging.INFO)
    train, test = save("a.conll", conll("a|B-X b|I-X", "c|O", "d|B-X")), save("b.conll", conll("e|B-X f|E-X", "g|S-X"))
    with pytest.raises(
        DataError, match=r"b.conll: line 2 labels 'f' \(word 2\) E-X, which is no tag of the scheme bio"
    ):
        splits_of(Table(train, test=test), "token_classification")
    assert "a.conll: the labels in 'label' mark entities by the scheme bio" in caplog.text
    caplog.clear()
    with pytest.raises(DataError, match="needs two labels or more"):
        splits_of(Table(save("o.conll", conll("a|O", "b|O")), test=test), "token_classification")
    assert "b.conll: the labels in 'label' mark entities by the scheme bioes" in caplog.text
    caplog.clear()
    table = Table(save("c.conll", conll("a|B-PER b|MISC", "c|I-PER", "d|O")), test_size=1)
    splits = splits_of(table, "token_classification")
    assert splits.table.tag_scheme == "none"
    assert "are of no entity scheme ('MISC' has no letter of a scheme); words are judged one by one" in caplog.text


FORMATS = {
    "conll": lambda rows: "\n\n".join("\n".join(map("\t".join, zip(*row, strict=True))) for row in rows),
    "jsonl": lambda rows: "\n".join(json.dumps({"tokens": words, "tags": tags}) for words, tags in rows),
    "json": lambda rows: json.dumps([{"tokens": words, "tags": tags} for words, tags in rows]),
    "csv": lambda rows: "tokens,tags\n" + "".join(f"{' '.join(words)},{' '.join(tags)}\n" for words, tags in rows),
    "tsv": lambda rows: "tokens\ttags\n" + "".join(f"{' '.join(words)}\t{' '.join(tags)}\n" for words, tags in rows),
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", SCHEMES)
def test_every_format_shows_the_scheme(save, name, suffix):
    rows = [([f"w{i}x{j}" for j in range(len(tags))], tags) for i, tags in enumerate(sentences_of(name))]
    splits = splits_of(Table(save(f"t.{suffix}", FORMATS[suffix](rows)), test_size=1), "token_classification")
    assert splits.table.tag_scheme == SCHEMES[name][1]
