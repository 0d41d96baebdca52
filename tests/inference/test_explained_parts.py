"""Explanations of labels of words and of answers to questions: their numbers are the network's, in the right window."""

import jax
import numpy as np
import pytest
import torch
from transformers import BertForQuestionAnswering, BertForTokenClassification

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.errors import ConfigError
from bertjax.inference.explanations.explain_options import ExplainOptions
from bertjax.inference.explanations.explanation_blocks import facts
from bertjax.inference.loaded_model import LoadedModel
from bertjax.inference.predictor import Predictor
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import make_model
from tests.support.models import TINY

METHODS = ("integrated_gradients", "occlusion", "lime")
TAGS = ("B-X", "I-X", "O")
TEXT = "what a good film , the plot was not dull"
QUESTION, CONTEXT = "who was good ?", "the film was good and the book was very dull . so what a great song it was"


def random_predictor(tiny_model, task, max_length=32):
    """A model with weights so large that a path between embeddings bends."""
    model = make_model(TINY, task, TAGS if task == "token_classification" else ())
    leaves, tree = jax.tree.flatten(model.init(jax.random.PRNGKey(0)))
    keys = jax.random.split(jax.random.PRNGKey(1), len(leaves))
    drawn = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return Predictor(
        LoadedModel(model, jax.tree.unflatten(tree, drawn), load_tokenizer(tiny_model), max_length=max_length)
    )


@pytest.fixture(scope="module")
def tagger(tiny_model):
    return random_predictor(tiny_model, "token_classification")


@pytest.fixture(scope="module")
def answerer(tiny_model):
    return random_predictor(tiny_model, "question_answering")


def gradients_of_torch(predictor, folder, auto, encoded, positions, score):
    """Integrated gradients of transformers' model of the same weights, by the midpoint rule; [T]."""
    loaded = predictor._loaded
    theirs = auto.from_pretrained(
        save_pretrained(folder / "m", loaded.model, loaded.params, loaded.tokenizer), attn_implementation="eager"
    ).eval()
    ids, types = torch.tensor([encoded["input_ids"]]), torch.tensor([encoded["token_type_ids"]])
    masked = torch.where(torch.isin(ids, torch.tensor(loaded.tokenizer.all_special_ids)), ids, torch.tensor(4))
    table = theirs.bert.embeddings.word_embeddings
    start, way = table(masked).detach(), (table(ids) - table(masked)).detach()
    total, points = torch.zeros(ids.shape), 300
    for point in range(points):
        here = (start + (point + 0.5) / points * way).requires_grad_()
        (slope,) = torch.autograd.grad(score(theirs(inputs_embeds=here, token_type_ids=types), *positions), here)
        total += (slope * way).sum(-1) / points
    return total[0].numpy()


def test_the_labels_of_words_are_explained_as_torch_does(tagger, tmp_path):
    (explanation,) = tagger.explain([TEXT], ExplainOptions(word="good film"))
    logits = tagger.logits([TEXT])[1:-1]
    best = logits[2:4].argmax(axis=1)
    assert explanation.label == " ".join(TAGS[i] for i in best)
    assert explanation.score == pytest.approx(logits[2, best[0]] + logits[3, best[1]], abs=1e-4)
    expected = gradients_of_torch(
        tagger, tmp_path, BertForTokenClassification, tagger._loaded.tokenizer(TEXT), (3, 4),
        lambda output, first, second: output.logits[0, first, best[0]] + output.logits[0, second, best[1]],
    )  # fmt: skip
    np.testing.assert_allclose([word.weight for word in explanation.words], expected[1:-1], atol=2e-2)
    assert [word.word for word in explanation.words] == TEXT.split()


@pytest.mark.parametrize("label", ["answer", "start", "end"])
def test_the_ends_of_an_answer_are_explained_as_torch_does(answerer, tmp_path, label):
    (explanation,) = answerer.explain([(QUESTION, CONTEXT)], ExplainOptions(label=label))
    encoded = answerer._loaded.tokenizer(QUESTION, CONTEXT, return_offsets_mapping=True)
    answer, tokens = explanation.answer, list(enumerate(encoded["offset_mapping"]))
    first, last = (
        next(i for i, place in tokens if place[side] == answer[key] and encoded["token_type_ids"][i])
        for side, key in enumerate(("start", "end"))
    )

    def score(output, first, last):
        sides = {"start": output.start_logits[0, first], "end": output.end_logits[0, last]}
        return sides.get(label, sum(sides.values()))

    expected = gradients_of_torch(answerer, tmp_path, BertForQuestionAnswering, encoded, (first, last), score)
    words = np.concatenate([expected[1:5], expected[6:-1]])  # the special tokens are no words
    np.testing.assert_allclose([word.weight for word in explanation.words], words, atol=2e-2)
    assert explanation.explained == answer["answer"]
    assert {word.in_pair for word in explanation.words} == {False, True}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ["token_classification", "question_answering"])
def test_the_weights_add_up_by_every_method_that_has_a_score(tagger, answerer, task, method):
    predictor, text = (tagger, TEXT) if task == "token_classification" else (answerer, (QUESTION, CONTEXT))
    explanations = predictor.explain([text, text], ExplainOptions(method, samples=20))
    assert explanations[0] == explanations[1]
    (explanation,) = explanations[:1]
    assert explanation.strongest
    if method == "integrated_gradients":
        difference = explanation.score - explanation.baseline_score
        assert abs(sum(word.weight for word in explanation.words) - difference) <= 0.01 * max(1, abs(difference))


def test_the_window_that_answered_is_explained(tiny_model):
    """The score of the answer is greatest there, that of no answer may be least in another: their difference is the
    margin that the model gives."""
    predictor = random_predictor(tiny_model, "question_answering", max_length=16)
    texts = [(QUESTION, CONTEXT), ("what ?", "the book , " * 9 + CONTEXT)]
    answers, nones = (predictor.explain(texts, ExplainOptions("occlusion", label)) for label in ("answer", "no answer"))
    for answer, none in zip(answers, nones, strict=True):
        assert answer.score - none.score == pytest.approx(answer.answer["margin"], abs=1e-4)
        assert answer.cut_words > 0
        assert f"{answer.cut_words} words are not in the window" in facts(answer)
        assert none.explained is None


def test_a_word_of_a_later_window(tiny_model):
    predictor = random_predictor(tiny_model, "token_classification", max_length=6)
    (explanation,) = predictor.explain([TEXT], ExplainOptions(word="plot", label="O"))
    assert explanation.score == pytest.approx(predictor.logits([TEXT])[9, 2], abs=1e-5)  # [CLS] and 4 words; [SEP]
    assert [word.word for word in explanation.words if word.weight] == [",", "the", "plot", "was"]
    assert explanation.cut_words == 6


@pytest.mark.parametrize(
    ("words", "options", "explained"),
    [
        ("it was a film song .", ExplainOptions(), None),  # the entity, or the first word
        (["good film", "was", "bad"], ExplainOptions(word="good film"), "good film"),
        (["\u200b", "was", "bad"], ExplainOptions(), "was"),  # the tokenizer makes nothing of the first one
        ("a song , a song", ExplainOptions("rollout", word="song"), "song"),
    ],
)
def test_the_words_that_are_explained(tagger, words, options, explained):
    (explanation,) = tagger.explain([words], options)
    entities = explanation.answer["entities"]
    by_default = entities[0]["text"] if entities else explanation.words[0].word
    assert explanation.explained == (explained or by_default)
    placed = explanation.texts[0]
    assert all(placed[word.start :].startswith(word.word) for word in explanation.words)


def test_nothing_to_read(tagger, answerer):
    (nothing,) = tagger.explain([""])
    assert (nothing.words, nothing.score, nothing.gap) == ((), 0, 0)
    (none,) = answerer.explain([(QUESTION, "")])
    assert none.label == "no answer"
    with pytest.raises(ConfigError, match="no answer whose start could be explained; take the label 'no answer'"):
        answerer.explain([(QUESTION, "")], ExplainOptions(label="start"))


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("token_classification", ExplainOptions(word="good book"), "'good book' is no word, and no words beside each"),
        ("token_classification", ExplainOptions(label="B-Y"), "label 'B-Y' is unknown; "),
        ("token_classification", ExplainOptions("rollout", label="O"), "leave out the label"),
        ("question_answering", ExplainOptions(label="film"), "label 'film' is unknown; "),
        ("question_answering", ExplainOptions(word="good"), "--word is for models that label words"),
    ],
)
def test_parts_that_cannot_be_explained(tagger, answerer, task, options, message):
    predictor, text = (tagger, TEXT) if task == "token_classification" else (answerer, (QUESTION, CONTEXT))
    with pytest.raises(ConfigError, match=message):
        predictor.explain([text], options)


def test_a_word_without_tokens(tagger):
    with pytest.raises(ConfigError, match="the tokenizer makes nothing of the word"):
        tagger.explain([["a", "\u200b"]], ExplainOptions(word="\u200b"))
