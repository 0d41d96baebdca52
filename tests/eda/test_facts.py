"""What is counted in a table is what others count: pandas, transformers, scikit-learn, SciPy, seqeval, brute force."""

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.feature_extraction.text import CountVectorizer
from transformers import BertTokenizer

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.rows.label_vocabulary import row_labels
from bertjax.data.task_formats.answer_format import Answer, Question
from bertjax.eda.facts.column_cells import column_facts
from bertjax.eda.facts.drift import OTHERS, find_drift
from bertjax.eda.facts.label_balance import label_balance, number_facts
from bertjax.eda.facts.near_duplicates import bands, find_near_duplicates
from bertjax.eda.facts.repeated_texts import find_repeats
from bertjax.eda.facts.task_labels import answer_facts, entity_facts
from bertjax.eda.facts.token_lengths import ModelLimits, token_lengths
from bertjax.eda.facts.typical_words import log_odds, typical_words
from bertjax.eda.facts.words import words_of
from bertjax.eda.facts.writing_systems import EMOJI, scripts_of
from bertjax.errors import DataError
from bertjax.report_pages.histogram import histogram
from bertjax.tasks import find_format
from tests.support.models import WORDS
from tests.support.tables import rows_of

RNG = np.random.default_rng(0)
VOCABULARY = WORDS[5:26]


def random_texts(number: int, least: int = 3, most: int = 12, words: list[str] = VOCABULARY) -> list[str]:
    return [" ".join(RNG.choice(words, RNG.integers(least, most))) for _ in range(number)]


def test_labels_are_counted_as_pandas_counts_them():
    labels = RNG.choice(["a", "b", "c", "B"], 200, p=[0.6, 0.2, 0.15, 0.05]).tolist()
    balance = label_balance(row_labels((label,) for label in labels))
    counts = pd.Series(labels).value_counts()
    assert {label.name: label.rows for label in balance.labels} == counts.to_dict()
    assert [label.rows for label in balance.labels] == sorted(counts, reverse=True)
    assert balance.ratio == pytest.approx(counts.max() / counts.min())
    assert balance.look_alikes == ({"B": counts["B"], "b": counts["b"]},)


def test_labels_that_look_alike_or_like_a_missing_cell():
    balance = label_balance(row_labels((label,) for label in ["1", "1.0", "1", "NA", "café", "cafe\u0301"]))
    assert {"1": 2, "1.0": 1} in balance.look_alikes
    assert {"café": 1, "cafe\u0301": 1} in balance.look_alikes
    assert balance.missing_words == {"NA": 1}
    assert label_balance(row_labels([])) is None


def test_cells_are_counted_as_pandas_counts_them():
    texts = pd.Series(["a", None, " ", "a", "b"], dtype="str")
    frame = pd.DataFrame({"text": texts, "lists": [[1], [1], [2], None, [1]], "numbers": [1, 2, 2, None, 3]})
    text, lists, numbers = column_facts(frame, {"text": "text"})
    assert (text.role, text.missing, text.blank, text.distinct) == ("text", 1, 1, 2)
    assert (lists.missing, lists.distinct) == (1, 2)
    assert (numbers.missing, numbers.distinct) == (frame["numbers"].isna().sum(), frame["numbers"].nunique())


@pytest.mark.parametrize(
    "numbers",
    [RNG.normal(size=100), RNG.integers(0, 5, 50), RNG.integers(0, 10_000, 50), np.array([3.0]), np.array([-1e300, 1])],
    ids=["normal", "few integers", "integers", "one", "huge"],
)
def test_every_number_is_in_one_bin(numbers):
    bounds, counts = histogram(numbers)
    expected = pd.cut(numbers, np.array(bounds), right=False).value_counts().to_list()
    assert list(counts) == expected
    assert sum(counts) == len(numbers)


def test_numbers_are_described_as_pandas_does():
    numbers = RNG.normal(size=(50, 2))
    facts = number_facts(["x", "y"], numbers)
    for column, fact in enumerate(facts):
        truth = pd.Series(numbers[:, column]).describe()
        assert [fact.rows, fact.mean, fact.least, *fact.quartiles, fact.most] == pytest.approx(
            truth[["count", "mean", "min", "25%", "50%", "75%", "max"]].tolist()
        )
        assert fact.deviation == pytest.approx(numbers[:, column].std())


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
def test_lengths_are_those_of_transformers(tiny_model, pairs):
    texts = [*random_texts(60, 1, 40), "unknownword film", "\u200b"]
    others = random_texts(len(texts)) if pairs else None
    limits = ModelLimits("tiny", load_tokenizer(tiny_model), 16, 20, 8)
    found = token_lengths(rows_of(texts, others, [None] * len(texts)), "classification", limits)
    theirs = BertTokenizer.from_pretrained(tiny_model)
    ids = theirs(texts, others)["input_ids"]
    lengths = np.array(list(map(len, ids)))
    assert found.inputs == len(texts)
    assert [found.mean, found.median, found.longest] == [lengths.mean(), np.median(lengths), lengths.max()]
    assert found.longer == (lengths > 20).sum()
    assert found.lost == pytest.approx(np.maximum(lengths - 20, 0).sum() / lengths.sum())
    flat = list(itertools.chain.from_iterable(ids))
    special = [theirs.cls_token_id, theirs.sep_token_id]
    assert found.unknown == flat.count(theirs.unk_token_id) / sum(token not in special for token in flat)
    assert 0 < found.packed.padded_share < found.packed.packed_share <= 1


def test_each_candidate_of_a_choice_is_an_input(tiny_model):
    limits = ModelLimits("tiny", load_tokenizer(tiny_model), 16, 20, 8)
    rows = rows_of(["what film"], [("good", "bad book")], [0])
    assert token_lengths(rows, "multiple_choice", limits).inputs == 2


def test_lengths_do_not_depend_on_how_many_are_tokenized_at_once(tiny_model, monkeypatch):
    limits = ModelLimits("tiny", load_tokenizer(tiny_model), 16, 20, 8)
    rows = rows_of(random_texts(50), None, [None] * 50)
    whole = token_lengths(rows, "classification", limits)
    monkeypatch.setattr("bertjax.eda.facts.token_lengths._CHARACTERS_AT_ONCE", 40)
    monkeypatch.setattr("bertjax.eda.facts.token_lengths._TEXTS_AT_ONCE", 3)
    assert token_lengths(rows, "classification", limits) == whole


def jaccard(one: str, other: str) -> float:
    first, second = set(words_of([one]).vocabulary), set(words_of([other]).vocabulary)
    return len(first & second) / len(first | second)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.8, 1.0])
def test_near_duplicates_are_those_of_brute_force(threshold):
    texts = random_texts(150, 4, 9)
    found = find_near_duplicates(words_of(texts), np.arange(len(texts)), threshold, seed=0)
    truth = {
        pair: jaccard(texts[pair[0]], texts[pair[1]])
        for pair in itertools.combinations(range(len(texts)), 2)
        if jaccard(texts[pair[0]], texts[pair[1]]) >= threshold
    }
    pairs = dict(zip(map(tuple, found.pairs.tolist()), found.similarity.tolist(), strict=True))
    assert set(pairs) <= set(truth)  # none is false
    assert len(pairs) >= 0.97 * len(truth) - 1  # of pairs at the threshold itself, 99.5% are expected
    assert pairs == pytest.approx({pair: truth[pair] for pair in pairs})


def test_both_texts_of_a_row_must_be_alike():
    firsts, seconds = random_texts(60, 3, 6, VOCABULARY[:7]), random_texts(8, 6, 9) * 7 + ["...", "..."] * 2
    both = [f"{first} {second}" for first, second in zip(firsts, seconds, strict=True)]
    parts = [words_of(firsts), words_of(seconds)]
    found = find_near_duplicates(words_of(both), np.arange(60), 0.5, seed=0, parts=parts)

    def alike(texts, i, j):
        return 1.0 if texts[i] == texts[j] else jaccard(texts[i], texts[j])

    truth = {(i, j): min(alike(firsts, i, j), alike(seconds, i, j)) for i, j in itertools.combinations(range(60), 2)}
    pairs = dict(zip(map(tuple, found.pairs.tolist()), found.similarity.tolist(), strict=True))
    assert pairs == pytest.approx({pair: truth[pair] for pair in pairs})
    assert all(similarity >= 0.5 for similarity in pairs.values())
    assert len(pairs) >= 0.97 * sum(similarity >= 0.5 for similarity in truth.values()) - 1
    assert len(find_near_duplicates(words_of(both), np.arange(60), 0.5, seed=0).pairs) > len(pairs) > 5


def test_planted_near_duplicates_are_found():
    words = [f"word{i}" for i in range(2000)]
    originals = [RNG.choice(words, RNG.integers(10, 25)).tolist() for _ in range(2000)]
    copies = []
    for i in range(400):
        copy = list(originals[i])
        for _ in range(1 + i % 2):
            place = int(RNG.integers(len(copy)))
            copy[place : place + RNG.integers(2)] = RNG.choice(words, RNG.integers(2)).tolist()
        copies.append(copy)
    texts = [" ".join(text) for text in originals + copies]
    pairs = find_near_duplicates(words_of(texts), np.arange(len(texts)), 0.6, seed=0).pairs.tolist()
    planted = {(i, 2000 + i) for i in range(400)}
    assert len(planted & set(map(tuple, pairs))) >= 0.99 * len(planted)
    assert len(set(map(tuple, pairs)) - planted) <= 0.01 * len(pairs)


def test_the_same_seed_finds_the_same_pairs():
    words = words_of(random_texts(200))
    first, second = (find_near_duplicates(words, np.arange(200), 0.5, seed=3) for _ in range(2))
    assert np.array_equal(first.pairs, second.pairs)


@pytest.mark.parametrize("texts", [["a"], ["", "..."], ["", "one", "."]], ids=["one", "no words", "one with words"])
def test_texts_without_words_are_no_near_duplicates(texts):
    assert not len(find_near_duplicates(words_of(texts), np.arange(len(texts)), 0.6, seed=0).pairs)


@pytest.mark.parametrize("threshold", [0.3, 0.45, 0.6, 0.75, 0.9, 1.0])
def test_bands_find_pairs_at_the_threshold(threshold):
    num_bands, rows = bands(threshold)
    assert 1 - (1 - threshold**rows) ** num_bands >= 0.995
    assert num_bands * rows <= 360


def test_words_are_counted_as_scikit_learn_counts_them():
    texts, labels = random_texts(80), RNG.choice(["x", "y"], 80)
    words = words_of(texts)
    members = {name: np.flatnonzero(labels == name) for name in ("x", "y")}
    described = {described.name: described for described in typical_words(words, members, np.arange(80))}
    counter = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\w+")
    counts = counter.fit_transform(texts)
    for name, other in (("x", "y"), ("y", "x")):
        inside, outside = (np.asarray(counts[labels == side].sum(axis=0))[0] for side in (name, other))
        rows = np.asarray((counts[labels == name] > 0).sum(axis=0))[0]
        terms = [*described[name].words, *described[name].pairs]
        assert len(terms) > 10
        for term in terms:
            column = counter.vocabulary_[term.word]
            assert (term.inside, term.outside, term.rows) == (inside[column], outside[column], rows[column])


def test_log_odds_are_those_of_the_paper():
    inside, outside = np.array([30, 5, 65, 0]), np.array([10, 15, 75, 0])
    prior = 20 * (inside + outside) / 200  # a tenth of all words
    for word in range(3):  # equations 16 and 20 to 22, word by word
        y, y_other, alpha = inside[word], outside[word], prior[word]
        delta = np.log((y + alpha) / (100 + 20 - y - alpha)) - np.log((y_other + alpha) / (100 + 20 - y_other - alpha))
        expected = delta / np.sqrt(1 / (y + alpha) + 1 / (y_other + alpha))
        assert log_odds(inside, outside)[word] == pytest.approx(expected)
    assert log_odds(inside, outside)[3] == 0
    assert log_odds(np.array([3]), np.array([5])).tolist() == [0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop - now!", ("don't", "stop", "now")),
        ("猫が好き", ("猫", "が", "好", "き")),
        ("हिन्दी में", ("हिन्दी", "में")),
        ("مَرحبا بك", ("مَرحبا", "بك")),
        ("snake_case <b>x</b>", ("snake", "case", "b", "x")),
        ("😀 ...", ()),
    ],
    ids=["apostrophe", "no spaces", "marks", "right to left", "markup", "no words"],
)
def test_words_of_many_scripts(text, words):
    assert words_of([text]).vocabulary == words


def test_scripts():
    found = {
        script.name: (script.characters, script.rows) for script in scripts_of(["abc где 😀", "abc 中文", "1 2 3"])
    }
    assert found == {"Latin": (6, 2), "Cyrillic": (3, 1), EMOJI: (1, 1), "Han": (2, 1)}
    assert scripts_of(["1, 2"]) == ()


def drift_of(days, labels, texts, source="t.csv"):
    named = row_labels((label,) for label in labels)
    return find_drift(pd.Series(days, name="day"), named, np.arange(len(labels)), words_of(texts), source)


def test_drift_is_that_of_pandas_and_scipy():
    days = pd.Series(pd.to_datetime("2024-01-15") + pd.to_timedelta(RNG.integers(0, 300, 120), "D"))
    texts, labels = random_texts(120), RNG.choice(["a", "b"], 120).tolist()
    drift = drift_of(days.astype(str), labels, texts)
    months = days.dt.strftime("%Y-%m")
    counts = pd.crosstab(months, pd.Series(labels))
    found = {period.name: period for period in drift.periods if period.rows}
    assert {name: period.rows for name, period in found.items()} == months.value_counts().to_dict()
    for month, of_month in counts.iterrows():
        assert found[month].labels == pytest.approx((of_month / of_month.sum()).to_dict())
        others = counts.sum() - of_month
        distance = jensenshannon(of_month, others[of_month.index], base=2)
        assert found[month].label_distance == pytest.approx(distance)
    mean = pd.Series([len(text.split()) for text in texts]).groupby(months).mean()
    assert {name: period.words for name, period in found.items()} == pytest.approx(mean.to_dict())


@pytest.mark.parametrize(
    ("days", "names"),
    [
        (["2024-05-01", "2024-05-03"], ["2024-05-01", "2024-05-02", "2024-05-03"]),
        (["2024-05-01T10:00", "2024-05-01T11:30"], ["2024-05-01 10:00", "2024-05-01 11:00"]),
        (["2001-05-01", "2003-05-01"], ["2001-05", *[None] * 23, "2003-05"]),
        (["1900-01-01", "1999-01-01"], ["1900 to 1903", *[None] * 23, "1996 to 1999"]),
        (["2024-05-01"], ["2024-05-01 00:00"]),
    ],
    ids=["days", "hours", "months", "a century", "one"],
)
def test_periods_are_as_short_as_is_readable(days, names):
    found = [period.name for period in drift_of(days, ["a"] * len(days), ["x"] * len(days)).periods]
    assert len(found) == len(names)
    assert all(name in (None, other) for name, other in zip(names, found, strict=True))


def test_rows_without_a_date_are_counted_and_many_labels_are_joined():
    days = ["2024-01-01"] * 12 + ["soon", None]
    drift = drift_of(days, [f"label {i}" for i in range(14)], ["x"] * 14)
    assert drift.unread == 2
    assert list(drift.periods[0].labels)[-1] == OTHERS
    assert sum(drift.periods[0].labels.values()) == pytest.approx(1)
    with pytest.raises(DataError, match="no cell of column 'day' is a date"):
        drift_of(["soon"], ["a"], ["x"])


def test_repeats():
    texts = ["the plot", "a film", "A  FILM", "a film", "the book", "the plot"]
    rows = rows_of(texts, None, [None, "x", "y", "x", "x", "y"])
    sides = {"test": rows_of(["The BOOK"], None, ["z"])}
    found = find_repeats(rows, np.array([1, 2, 3, 4, 5]), find_format("classification"), sides)
    assert found.first.tolist() == [0, 1, 2, 1, 4, 0]
    assert found.contradictions.tolist() == [[1, 2]]
    assert found.contradicts.tolist() == [False, True, True, True, False, False]
    assert found.leaks["test"].tolist() == [False, False, False, False, True, False]


@pytest.mark.parametrize("scheme", ["bio", "none"])
def test_entities_are_those_of_seqeval(scheme):
    sentences = [("good", "film", "x"), ("film", "book"), ("the", "film")]
    tags = [("B-A", "I-A", "O"), ("B-B", "O"), ("O", None)]
    facts = entity_facts(sentences, tags, scheme)
    if scheme == "none":
        counts = Counter(tag for of in tags for tag in of if tag)
        assert {kind.name: kind.entities for kind in facts.types} == counts
        assert facts.words == counts.total()
        return
    spans = [entity for of in tags for entity in get_entities([tag or "O" for tag in of])]
    assert {kind.name: kind.entities for kind in facts.types} == Counter(kind for kind, _, _ in spans)
    assert facts.types[0].frequent == ("good film (1)",)
    assert [(word.word, word.types) for word in facts.ambiguous] == [("film", {"A": 1, "B": 1})]
    assert (facts.words, facts.inside) == (6, 3 / 6)


def test_answers():
    context = "0123456789"
    questions = [
        Question("a", (Answer(5, "56 78"),)),
        Question("b", ()),
        Question("c", (Answer(0, "0"), Answer(1, "1"))),
    ]
    facts = answer_facts(questions, [context] * 3)
    assert (facts.questions, facts.unanswerable, facts.several) == (3, 1, 1)
    assert facts.words == (1.5, 1.5, 2)
    assert facts.mean_place == 0.25
    assert answer_facts([Question("b", ())], [context]).lengths is None
