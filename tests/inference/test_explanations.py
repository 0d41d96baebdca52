"""Weights of words: they add up, equal those of independent computations, and find what a model was taught."""

import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
import torch
from transformers import BertForSequenceClassification

from bertjax.batch import padded_batch
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.encode.tokenize import tokenize, tokenize_in_place
from bertjax.data.task_formats.token_format import Words
from bertjax.errors import ConfigError
from bertjax.inference.explanations.explain_options import ExplainOptions
from bertjax.inference.explanations.placed_text import NO_WORD, place
from bertjax.inference.loaded_model import LoadedModel
from bertjax.inference.predictor import Predictor
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import make_model
from tests.support.models import TINY

METHODS = ("integrated_gradients", "rollout", "occlusion", "lime")
TEXT = "what a good film , the plot was not dull"


def random_predictor(tiny_model, task, sigma=0.3, pooling=None, max_length=32):
    """A model with weights so large that a path between embeddings bends."""
    labels = () if task == "next_sentence" else ("no", "maybe", "yes")
    model = make_model(TINY, task, labels, pooling)
    params = model.init(jax.random.PRNGKey(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.PRNGKey(1), len(leaves))
    drawn = [leaf + sigma * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    loaded = LoadedModel(model, jax.tree.unflatten(tree, drawn), load_tokenizer(tiny_model), max_length=max_length)
    return Predictor(loaded)


@pytest.fixture(scope="module")
def random_classifier(tiny_model):
    return random_predictor(tiny_model, "classification")


@pytest.fixture(scope="module")
def reviewer(finished_run):
    return Predictor.load(finished_run.model_dir, max_length=32)


@pytest.fixture(scope="module")
def theirs(random_classifier, tmp_path_factory):
    """transformers' own model of the same weights."""
    loaded = random_classifier._loaded
    folder = save_pretrained(tmp_path_factory.mktemp("m") / "m", loaded.model, loaded.params, loaded.tokenizer)
    return BertForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()


@pytest.mark.parametrize(
    ("task", "pooling", "texts"),
    [
        ("classification", "pooler", [TEXT, "bad ."]),
        ("classification", "mean", [TEXT]),
        ("multi_label", None, [TEXT]),
        ("regression", None, [TEXT]),
        ("next_sentence", None, [(TEXT, "the song was great")]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_weights_add_up_to_what_the_words_change(tiny_model, task, pooling, texts):
    predictor = random_predictor(tiny_model, task, pooling=pooling)
    logits = predictor.logits(texts)
    for explanation, of_text in zip(predictor.explain(texts), logits, strict=True):
        numbers = explanation.answer.get("probabilities") or explanation.answer["values"]
        assert explanation.score == pytest.approx(of_text[list(numbers).index(explanation.label)], abs=1e-5)
        difference = explanation.score - explanation.baseline_score
        added = sum(word.weight for word in explanation.words)
        assert explanation.gap == pytest.approx(abs(added - difference), abs=1e-9)
        assert explanation.gap <= 0.01 * max(1, abs(difference))
        assert explanation.strongest[0].weight != 0


def test_integrated_gradients_are_those_of_torch(random_classifier, theirs):
    (explanation,) = random_classifier.explain([TEXT], ExplainOptions(label="yes"))
    tokenizer = random_classifier._loaded.tokenizer
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    masked = ids.clone()
    masked[0, 1:-1] = tokenizer.mask_token_id
    table = theirs.bert.embeddings.word_embeddings
    start, way = table(masked).detach(), (table(ids) - table(masked)).detach()
    total, points = torch.zeros(ids.shape), 400
    for point in range(points):  # the midpoint rule, not ours
        here = (start + (point + 0.5) / points * way).requires_grad_()
        (slope,) = torch.autograd.grad(theirs(inputs_embeds=here).logits[0, 2], here)
        total += (slope * way).sum(-1) / points
    assert [word.word for word in explanation.words] == TEXT.split()
    np.testing.assert_allclose([word.weight for word in explanation.words], total[0, 1:-1].numpy(), atol=5e-3)


def test_roll_out_is_that_of_transformers_attention(random_classifier, theirs):
    (explanation,) = random_classifier.explain([TEXT], ExplainOptions("rollout"))
    ids = torch.tensor([random_classifier._loaded.tokenizer(TEXT)["input_ids"]])
    with torch.no_grad():
        layers = theirs(input_ids=ids, output_attentions=True).attentions
    product = np.eye(ids.shape[1])
    for layer in layers:
        mixed = layer[0].mean(0).numpy() + np.eye(ids.shape[1])
        product = mixed / mixed.sum(-1, keepdims=True) @ product
    np.testing.assert_allclose([word.weight for word in explanation.words], product[0, 1:-1], atol=1e-5)
    assert explanation.label is None


def test_given_word_embeddings_are_read_in_the_place_of_the_tokens_own(random_classifier):
    loaded = random_classifier._loaded
    ids = np.array([[2, 5, 7, 3], [2, 6, 3, 0]], np.int32)
    batch = padded_batch((ids > 0).astype(int), ids)
    own = np.asarray(loaded.params["bert/embeddings/word"]["embeddings"])[ids]
    apply = loaded.model.apply
    np.testing.assert_array_equal(
        apply(loaded.params, None, batch, word_embeddings=own).logits, apply(loaded.params, None, batch).logits
    )
    other = apply(loaded.params, None, batch, word_embeddings=own[:, ::-1]).logits
    assert np.abs(other - apply(loaded.params, None, batch).logits).max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("word", ["bad", "dull"])
def test_the_word_that_a_model_was_taught_is_found(reviewer, method, word):
    (explanation,) = reviewer.explain([f"the film {word}"], ExplainOptions(method))
    assert explanation.answer["label"] == "bad"
    if method == "rollout":  # attention looks at it, and speaks for no label
        assert {found.word for found in explanation.strongest[:3]} >= {word}
    else:
        assert explanation.strongest[0].word == word
        assert explanation.strongest[0].weight > 0
        (other,) = reviewer.explain([f"the film {word}"], ExplainOptions(method, "good"))
        assert {found.word: found.weight for found in other.words}[word] < 0


def test_occlusion_is_what_the_score_loses(reviewer):
    (explanation,) = reviewer.explain(["the film was bad"], ExplainOptions("occlusion", label="bad"))
    whole, *without = reviewer.logits(
        ["the film was bad", "[MASK] film was bad", "the [MASK] was bad", "the film [MASK] bad", "the film was [MASK]"]
    )[:, reviewer.model.labels.index("bad")]
    np.testing.assert_allclose([word.weight for word in explanation.words], whole - without, atol=1e-5)


def test_lime_repeats_with_its_seed(reviewer):
    first, again, other = (
        [word.weight for word in reviewer.explain([TEXT], ExplainOptions("lime", samples=60, seed=seed))[0].words]
        for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("state-of-the-art films.", ["state-of-the-art", "films", "."]),
        ("the U.S. <b>good</b>", ["the", "U.S.", "<", "b>good", "<", "/", "b", ">"]),
        ("電影好", ["電", "影", "好"]),
        ("סרט טוב", ["סרט", "טוב"]),
        ("فيلم جيّد", ["فيلم", "جيّد"]),
        ("हिन्दी film", ["हिन्दी", "film"]),
        ("good 👨‍👩‍👧 👍🏽 film", ["good", "👨‍👩‍👧", "👍🏽", "film"]),
        ("a [MASK] film", ["a", "[MASK]", "film"]),
        ("", []),
        ("  ", []),
    ],
)
def test_words_are_those_that_readers_see(tiny_model, text, words):
    tokenizer = load_tokenizer(tiny_model)
    ((whole, cut),) = tokenize_in_place(tokenizer, [text], None, 64)
    (placed,) = place([text], whole, [cut])
    assert [word.word for word in placed.words] == words
    assert all(text[word.start :].startswith(word.word) for word in placed.words)
    assert sorted(set(placed.word_of.tolist())) == [NO_WORD, *range(len(words))]  # each has a token
    np.testing.assert_array_equal(placed.token_ids, tokenizer(text)["input_ids"])


@pytest.mark.parametrize("length", [3, 7, 12, 64])
def test_a_pair_is_cut_as_predictions_cut_it_and_says_how_much(tiny_model, length):
    tokenizer = load_tokenizer(tiny_model)
    texts, pairs = [TEXT, "good"], ["the song was great", f"{TEXT} {TEXT}"]
    examples = tokenize(tokenizer, texts, pairs, np.zeros(2, np.int32), length)
    encodings = tokenize_in_place(tokenizer, texts, pairs, length)
    for row, (whole, cut) in enumerate(encodings):
        (placed,) = place([texts[row], pairs[row]], whole, [cut])
        tokens = slice(examples.offsets[row], examples.offsets[row + 1])
        np.testing.assert_array_equal(placed.token_ids, examples.token_ids[tokens])
        np.testing.assert_array_equal(placed.token_type_ids, examples.token_type_ids[tokens])
        assert [word.word for word in placed.words] == [*Words.of(texts[row]), *Words.of(pairs[row])]
        seen = set(placed.word_of.tolist()) - {NO_WORD}
        assert placed.cut_words == len(placed.words) - len(seen)


@pytest.mark.parametrize("method", METHODS)
def test_a_text_without_words_and_one_that_is_cut(tiny_model, method):
    predictor = random_predictor(tiny_model, "classification", max_length=6)
    empty, long = predictor.explain(["", TEXT], ExplainOptions(method, samples=20))
    assert empty.words == ()
    assert long.cut_words == 6
    assert [word.weight for word in long.words[4:]] == [0] * 6


def test_several_threads_get_what_one_gets(random_classifier):
    texts = [TEXT, "the song", "a good book and a bad film", "so dull"]
    alone = [random_classifier.explain([text])[0] for text in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: random_classifier.explain([text])[0], texts * 3))
    assert together == alone * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExplainOptions(label="perhaps"), "label 'perhaps' is unknown; "),
        (ExplainOptions("rollout", label="yes"), "the same for every label; leave out the label"),
    ],
)
def test_what_cannot_be_explained(random_classifier, options, message):
    with pytest.raises(ConfigError, match=message):
        random_classifier.explain([TEXT], options)


@pytest.mark.parametrize("task", ["multiple_choice", "masked_lm", "sentence_embedding"])
def test_a_task_without_a_score(tiny_model, task):
    model = make_model(TINY, task)
    predictor = Predictor(LoadedModel(model, model.init(jax.random.PRNGKey(0)), load_tokenizer(tiny_model)))
    with pytest.raises(ConfigError, match="has no score to explain; those of classification, multi_"):
        predictor.explain([TEXT])


def test_lime_that_is_not_installed(random_classifier, monkeypatch):
    monkeypatch.setitem(sys.modules, "lime.lime_text", None)
    with pytest.raises(ConfigError, match=r"pip install 'bertjax\[analysis\]'"):
        random_classifier.explain([TEXT], ExplainOptions("lime"))


def test_the_weights_of_a_real_model_add_up(minilm):
    model, params = from_pretrained(minilm, task="classification", labels=("a", "b"), new_head=True)
    predictor = Predictor(LoadedModel(model, params, load_tokenizer(minilm)))
    (explanation,) = predictor.explain(["Transfer learning with BERT, a state-of-the-art model."])
    assert explanation.gap <= 0.01
    assert explanation.strongest[0].weight != 0
