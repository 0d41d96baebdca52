"""Entities, spans, words for masks and vectors: what transformers says of the same weights, and where in the text."""

import json

import jax
import numpy as np
import pytest

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.table import Table
from bertjax.data.task_formats.answer_format import NO_CHARACTER
from bertjax.data.task_formats.token_format import Words
from bertjax.errors import ConfigError, DataError
from bertjax.inference.loaded_model import LoadedModel
from bertjax.inference.predictor import Predictor
from bertjax.metrics.answer_report import LONGEST_ANSWER, best_spans, ranked_spans
from bertjax.metrics.entities import find_entities
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import make_model
from bertjax.tasks.postprocess import AnswerOptions
from tests.support.models import TINY

ATOL = 1e-5  # float32 against torch's, sums in another order
TAGS = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
TEXTS = [
    "Good film , so dull .",
    "the film was great, and the book was dull.",
    "what a song",
    "it (the plot) was not very good?",
]


def predictor_of(folder, tiny_model, task, labels=(), pooling=None, **loaded):
    """A predictor with random weights, large enough to tell words apart, and its model folder."""
    model = make_model(TINY, task, labels, pooling)
    initial = model.init(jax.random.key(3))
    params = {
        module: {name: np.asarray(leaf) * (1 if name == "scale" else 8) for name, leaf in leaves.items()}
        for module, leaves in initial.items()
    }
    tokenizer = load_tokenizer(tiny_model)
    save_pretrained(folder, model, params, tokenizer)
    return Predictor(LoadedModel(model, params, tokenizer, max_length=48, **loaded))


def test_entities_are_those_of_transformers_pipeline(tmp_path, tiny_model):
    from transformers import BertForTokenClassification, TokenClassificationPipeline

    predictor = predictor_of(tmp_path / "model", tiny_model, "token_classification", TAGS)
    pipeline = TokenClassificationPipeline(
        model=BertForTokenClassification.from_pretrained(tmp_path / "model"),
        tokenizer=load_tokenizer(tiny_model),
        aggregation_strategy="first",
    )
    found = 0
    for text, said in zip(TEXTS, predictor(TEXTS), strict=True):
        expected = pipeline(text)
        assert [(entity["label"], entity["start"], entity["end"]) for entity in said["entities"]] == [
            (entity["entity_group"], entity["start"], entity["end"]) for entity in expected
        ]
        np.testing.assert_allclose(
            [entity["probability"] for entity in said["entities"]], [entity["score"] for entity in expected], atol=ATOL
        )
        assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in said["entities"])
        assert len(said["words"]) == len(said["labels"])
        found += len(expected)
    assert found > 8


def test_entities_of_a_long_text_and_of_a_list_of_words(tmp_path, tiny_model):
    """Windows of 48 tokens, places in the whole text; a list's text has one space between two words."""
    predictor = predictor_of(tmp_path / "model", tiny_model, "token_classification", TAGS)
    long = " ".join(TEXTS * 6)
    (said,) = predictor([long])
    assert all(long[entity["start"] : entity["end"]] == entity["text"] for entity in said["entities"])
    assert said["entities"][-1]["end"] > 600
    words = ["what", "a", "film", "."]
    (listed,), (plain,) = predictor([words]), predictor([" ".join(words)])
    assert listed == plain
    (strict,) = predictor([long], AnswerOptions(threshold=0.9))
    assert (
        strict["entities"]
        == [entity for entity in said["entities"] if entity["probability"] >= 0.9]
        != said["entities"]
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Mr. Smith-Jones (U.S.) left.", ["Mr", ".", "Smith-Jones", "(", "U.S.", ")", "left", "."]),
        ("don't\tpay $3.50!", ["don't", "pay", "$", "3.50", "!"]),
        ("東京に行く。", ["東", "京", "に", "行", "く", "。"]),
        ("naïve café… 👍🏽", ["naïve", "café", "…", "👍", "🏽"]),
        ("  ", []),
    ],
)
def test_words_of_a_text(text, words):
    found = Words.of(text)
    assert list(found) == words
    assert [text[start : start + len(word)] for start, word in zip(found.starts, found, strict=True)] == words


@pytest.mark.parametrize(
    ("scheme", "labels", "expected"),
    [
        ("bio", ["B-X", "I-X", "O", "I-Y"], [("X", 0, 1), ("Y", 3, 3)]),
        ("bio", ["B-X", "B-X", "I-Z"], [("X", 0, 0), ("X", 1, 1), ("Z", 2, 2)]),
        ("bioes", ["B-X", "E-X", "I-X", "S-Y"], [("X", 0, 1), ("Y", 3, 3)]),
        ("none", ["DT", "NN"], []),
    ],
)
def test_entities_by_scheme(scheme, labels, expected):
    assert [tuple(entity) for entity in find_entities(labels, scheme)] == expected


CONTEXT = "it was a great film and the song was good , so the book was not dull"


def test_answers_are_pieces_of_the_context(tmp_path, tiny_model):
    """The best span is that of a search over all pairs of tokens."""
    predictor = predictor_of(tmp_path / "model", tiny_model, "question_answering")
    entries = [("what was good ?", CONTEXT), ("who ?", " ".join([CONTEXT] * 5))]
    for entry, said in zip(entries, predictor(entries, AnswerOptions(top_k=4)), strict=True):
        assert entry[1][said["start"] : said["end"]] == said["answer"] != ""
        assert [answer["margin"] for answer in said["top"]] == sorted((a["margin"] for a in said["top"]), reverse=True)
        assert len({(answer["start"], answer["end"]) for answer in said["top"]}) == 4
        assert said["top"][0] == {key: said[key] for key in ("answer", "start", "end", "margin")}
    prepared = predictor.prepare(entries[:1])
    (scores,) = predictor.compute([prepared])
    characters = prepared.examples.reference.characters
    context = np.flatnonzero(characters[:, 0] != NO_CHARACTER)
    sums = {
        (int(characters[i, 0]), int(characters[j, 1])): scores[i, 0] + scores[j, 1]
        for i in context for j in context if i <= j < i + LONGEST_ANSWER
    }  # fmt: skip
    best = max(sums, key=sums.get)
    (span,) = best_spans(scores, prepared.examples.offsets, prepared.examples.reference)
    assert (span.start, span.end, span.score) == (*best, pytest.approx(sums[best]))
    assert span.null_score == pytest.approx(scores[0].sum())
    (ranked,) = ranked_spans(scores, prepared.examples.offsets, prepared.examples.reference, 3)
    assert [(span.start, span.end) for span in ranked] == sorted(sums, key=sums.get, reverse=True)[:3]


def test_no_answer(tmp_path, tiny_model):
    predictor = predictor_of(tmp_path / "model", tiny_model, "question_answering")
    (said,) = predictor([("what ?", CONTEXT)])
    (kept,) = predictor([("what ?", CONTEXT)], AnswerOptions(threshold=said["margin"]))
    assert (kept["answer"], kept["predicted"]) == (said["answer"], said["answer"])
    (none,) = predictor([("what ?", CONTEXT)], AnswerOptions(threshold=said["margin"] + 0.1))
    assert (none["answer"], none["start"], none["predicted"]) == ("", None, said["answer"])
    (empty,) = predictor([("what ?", "")])
    assert (empty["answer"], empty["margin"]) == ("", None)


@pytest.mark.parametrize("task", ["masked_lm", "pretraining"])
def test_words_for_masks_are_those_of_transformers(tmp_path, tiny_model, task):
    import torch
    from transformers import BertForMaskedLM

    predictor = predictor_of(tmp_path / "model", tiny_model, task)
    texts = ["the [MASK] was good and [MASK] .", "what a [MASK]"]
    said = predictor(texts, AnswerOptions(top_k=5))
    model, tokenizer = BertForMaskedLM.from_pretrained(tmp_path / "model").eval(), load_tokenizer(tiny_model)
    for text, answer in zip(texts, said, strict=True):
        encoded = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            probabilities = model(**encoded).logits[0].softmax(-1)
        places = (encoded["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]
        assert len(answer["masks"]) == len(places) == text.count("[MASK]")
        for place, mask in zip(places, answer["masks"], strict=True):
            best = probabilities[place].topk(5)
            assert [top["word"] for top in mask["top"]] == tokenizer.convert_ids_to_tokens(best.indices.tolist())
            np.testing.assert_allclose([top["probability"] for top in mask["top"]], best.values, atol=ATOL)
            assert text[mask["start"] : mask["end"]] == "[MASK]"
            assert mask["word"] == mask["top"][0]["word"]
        words = [mask["word"] for mask in answer["masks"]]
        expected = text
        for word in words:
            expected = expected.replace(" [MASK]", word[2:] if word.startswith("##") else f" {word}", 1)
        assert answer["text"] == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a film"], "text 1, 'a film', has no .MASK. to find a word for"),
        (["a [MASK]", "film " * 60 + "[MASK]"], "of the 1 .MASK. of text 2, .*, 0 are within its first 48 tokens"),
        ([("a [MASK]", "b")], "text 1 must be a string, got"),
    ],
)
def test_no_mask_is_lost(tmp_path, tiny_model, texts, message):
    predictor = predictor_of(tmp_path / "model", tiny_model, "masked_lm")
    with pytest.raises(DataError, match=message):
        predictor(texts)


@pytest.mark.parametrize(
    ("task", "pooling"),
    [("encoder", "mean"), ("encoder", "cls"), ("encoder", "pooler"), ("sentence_embedding", None),
     ("classification", "pooler"), ("multiple_choice", None)],
)  # fmt: skip
def test_vectors_are_those_of_torch(tmp_path, tiny_model, task, pooling):
    import torch
    from transformers import BertModel

    predictor = predictor_of(
        tmp_path / "model", tiny_model, task, ("a", "b") if task == "classification" else (), pooling
    )
    assert predictor.has_vectors
    vectors = predictor.embed(TEXTS)
    model, tokenizer = BertModel.from_pretrained(tmp_path / "model").eval(), load_tokenizer(tiny_model)
    for text, vector in zip(TEXTS, vectors, strict=True):
        with torch.no_grad():
            output = model(**tokenizer(text, return_tensors="pt"))
        hidden = output.last_hidden_state[0]
        kinds = {"mean": hidden.mean(0), "cls": hidden[0], "pooler": output.pooler_output[0]}
        pooled = kinds[predictor.model.pooling]
        np.testing.assert_allclose(vector, (pooled / pooled.norm()).numpy(), atol=ATOL)
    assert vectors.dtype == np.float32
    assert predictor.embed([]).shape == (0, TINY.hidden_size)


def test_a_bare_encoder_says_how_it_is_pooled_or_is_asked(tmp_path, tiny_model):
    predictor_of(tmp_path / "model", tiny_model, "encoder")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert Predictor.load(tmp_path / "model").has_vectors
    del config["bertjax"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    unknown = Predictor.load(tmp_path / "model")
    assert not unknown.has_vectors
    with pytest.raises(ConfigError, match="without saying how its vectors are pooled; give pooling: mean"):
        unknown.embed(["a film"])
    told = Predictor.load(tmp_path / "model", pooling="mean")
    assert (told.model.pooling, told.embed(["a film"]).shape) == ("mean", (1, TINY.hidden_size))
    predictor_of(tmp_path / "classes", tiny_model, "classification", ("a", "b"))
    with pytest.raises(ConfigError, match="says itself how its vectors are pooled; leave out pooling 'mean'"):
        Predictor.load(tmp_path / "classes", pooling="mean")


@pytest.mark.parametrize("task", ["sentence_embedding", "multiple_choice", "encoder"])
def test_two_texts_that_are_read_one_by_one_have_two_vectors(tmp_path, tiny_model, task):
    """A pair is no text there; as two segments of one it would get a vector of neither."""
    predictor = predictor_of(tmp_path / "model", tiny_model, task)
    with pytest.raises(DataError, match="text 1 must be a string, got .'a', 'b'."):
        predictor.embed([("a", "b")])


def test_a_model_of_tokens_has_no_vectors(tmp_path, tiny_model):
    predictor = predictor_of(tmp_path / "model", tiny_model, "token_classification", TAGS)
    assert not predictor.has_vectors
    with pytest.raises(ConfigError, match="'token_classification' reads tokens, and makes no vector"):
        predictor.embed(["a film"])


@pytest.mark.parametrize(
    ("task", "labels", "text", "options", "message"),
    [
        ("regression", ("x",), "a", AnswerOptions(top_k=2), "top_k means nothing for a model of task 'regression'"),
        ("sentence_embedding", (), ("a", "b"), AnswerOptions(threshold=0.5), "threshold means nothing for a model of"),
        ("token_classification", TAGS, "a", AnswerOptions(top_k=2), "top_k means nothing for a model of task 'token_c"),
        ("classification", ("a", "b"), "a", AnswerOptions(top_k=-1), "top_k must be 0 or more, got -1"),
    ],
)
def test_an_option_that_means_nothing_is_refused(tmp_path, tiny_model, task, labels, text, options, message):
    predictor = predictor_of(tmp_path / "model", tiny_model, task, labels)
    with pytest.raises(ConfigError, match=message):
        predictor([text], options)


def test_a_threshold_and_the_likeliest_classes(tmp_path, tiny_model):
    predictor = predictor_of(tmp_path / "model", tiny_model, "classification", ("a", "b", "other"))
    (said,) = predictor(["a film"])
    (unsure,) = predictor(["a film"], AnswerOptions(top_k=2, threshold=said["probability"] + 1e-6))
    assert (unsure["label"], unsure["predicted"]) == ("other", said["label"])
    ranked = sorted(said["probabilities"], key=said["probabilities"].get, reverse=True)
    assert [top["label"] for top in unsure["top"]] == ranked[:2]
    (sure,) = predictor(["a film"], AnswerOptions(threshold=said["probability"]))
    assert (sure["label"], sure["predicted"]) == (said["label"], said["label"])


def test_rows_of_a_table_of_questions(tmp_path, tiny_model):
    from bertjax.data.rows.preprocessing import Preprocessing

    predictor = predictor_of(
        tmp_path / "model", tiny_model, "question_answering",
        table=Table(text=("question",), text_pair=("context",)),
        preprocessing=Preprocessing(("join",), text=("question",), text_pair=("context",)),
    )  # fmt: skip
    assert predictor([{"question": "who ?", "context": CONTEXT}]) == predictor([("who ?", CONTEXT)])
