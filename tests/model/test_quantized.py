"""int8 weights: as near as theory has them, the numbers of transformers on the same weights, and few bytes."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import bertjax
from bertjax.baselines.parity.random_examples import random_examples
from bertjax.baselines.torch import reference
from bertjax.baselines.torch.torch_model import parts_of
from bertjax.batch import padded_batch
from bertjax.cli.main import main
from bertjax.config import BertConfig, Execution
from bertjax.devices.data_parallel import all_devices
from bertjax.errors import ConfigError
from bertjax.inference.loaded_model import load_model
from bertjax.losses import cross_entropy
from bertjax.members.original_bert import BERT
from bertjax.model.quantized import QuantizedWeight, quantized, with_int8_weights
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.prediction.forward import Forward
from bertjax.tasks import TASKS, find_task, make_model
from bertjax.training import make_train_step
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.settings.options import Optimizer
from tests.support import processes
from tests.support.members import their_folder, their_model
from tests.support.models import TINY, network

INT8 = Execution(weights="int8")
MEMBERS = ("roberta", "distilbert", "electra", "modernbert", "mpnet")
OF_MEMBERS = ("classification", "masked_lm")  # both ends of a network; other heads of theirs read the same tables


def dequantized(params):
    """The float32 weights that the integers stand for."""

    def floats(weight):
        return weight.values * weight.scale if isinstance(weight, QuantizedWeight) else weight

    return {module: {name: floats(weight) for name, weight in leaves.items()} for module, leaves in params.items()}


def quantized_paths(params):
    return {module for module, leaves in params.items() if any(isinstance(w, QuantizedWeight) for w in leaves.values())}


@pytest.mark.parametrize("of_rows", [False, True])
def test_no_weight_moves_by_more_than_half_a_scale(of_rows):
    rng = np.random.default_rng(0)
    weight = (rng.standard_t(3, (96, 64)) * np.exp(rng.normal(0, 3, 64))).astype(np.float32)
    weight[:, 5], weight[7] = 0, 0
    weight[:, 6] = 1e-44  # below the smallest normal number
    found = quantized(weight, of_rows)
    assert (found.values.dtype, found.scale.dtype, found.shape) == (np.int8, np.float32, weight.shape)
    assert found.scale.shape == ((96, 1) if of_rows else (1, 64))
    scale = found.scale.astype(np.float64)
    rounding = 1 + 2**-20  # of the division in float32
    assert (np.abs(weight - found.values * scale) <= scale / 2 * rounding).all()
    largest = np.abs(found.values).max(axis=1 if of_rows else 0)
    usual = np.abs(weight).max(axis=1 if of_rows else 0) > 1e-30
    assert usual.sum() >= 62
    assert (largest[usual] == 127).all()
    assert (largest[~usual] == 0).all()


@pytest.mark.parametrize(
    ("name", "task"),
    [
        *(("bert", task) for task, row in TASKS.items() if BERT.has(row.architecture)),
        *((name, task) for name in MEMBERS for task in OF_MEMBERS),
        ("electra", "replaced_tokens"),
    ],
)
def test_the_numbers_of_transformers_on_the_same_weights(name, task, tmp_path):
    their_model(name, task, 0.1).save_pretrained(tmp_path / "theirs")
    model, params = from_pretrained(tmp_path / "theirs", task, execution=INT8)
    plain, exact = from_pretrained(tmp_path / "theirs", task)
    kept = {module for module in exact if module.startswith("bert/layer_") and "w" in exact[module]}
    kept |= {"bert/embeddings/word", *({"bert/embeddings/projection"} & exact.keys())}
    assert quantized_paths(params) == kept

    module = reference.load_reference(save_pretrained(tmp_path / "rounded", plain, dequantized(params)), plain, exact)
    examples = random_examples(model, 5, 20, seed=0)
    texts = examples.texts
    theirs = reference.forward(module, plain, texts)
    ours = jax.jit(model.apply)(params, None, examples.batch)
    if find_task(task).pooling is not None and ours.logits is None:
        pairs = [(np.asarray(ours.pooled_output)[texts.rows, texts.slots], theirs.pooled_output)]
    else:
        scores = zip(parts_of(find_task(task).scores_of), parts_of(ours.logits), strict=True)
        read = [texts.read(of, np.asarray(logits)) for of, logits in scores]
        pairs = list(zip(read, parts_of(theirs.logits), strict=True))
        pairs = [on_text(texts, of, *pair) for of, pair in zip(parts_of(find_task(task).scores_of), pairs, strict=True)]
    for left, right in pairs:
        np.testing.assert_allclose(left, right, atol=1e-5, rtol=0)


def on_text(texts, scores_of, ours, theirs):
    real = texts.attention_mask == 1
    return (ours[real], theirs[real]) if scores_of == "tokens" else (ours, theirs)


def test_the_same_numbers_however_it_is_run():
    plain, params = network(replace(TINY, num_layers=3, initializer_range=0.2))
    params = with_int8_weights(jax.tree.map(np.asarray, params))
    tokens = np.random.default_rng(0).integers(5, 64, (4, 12))
    batch = padded_batch(np.ones_like(tokens), tokens)

    def logits(**execution):
        config = replace(plain.config, execution=Execution(weights="int8", **execution))
        model = make_model(config, plain.task, plain.labels)
        return np.asarray(jax.jit(model.apply)(params, None, batch).logits)

    expected = logits()
    np.testing.assert_allclose(logits(layers="stacked"), expected, atol=1e-6 * np.abs(expected).max(), rtol=0)
    np.testing.assert_allclose(logits(precision="bfloat16"), expected, atol=0.03 * np.abs(expected).max(), rtol=0)


def test_a_token_outside_of_the_vocabulary_gives_nan():
    model, params = network()
    params = with_int8_weights(jax.tree.map(np.asarray, params))
    for outside in (-1, TINY.vocab_size):
        tokens = np.array([[1, 2, 3], [1, 2, outside]])
        batch = jax.tree.map(jax.numpy.asarray, padded_batch(np.ones_like(tokens), tokens))
        logits = np.asarray(jax.jit(model.apply)(params, None, batch).logits)
        assert np.isfinite(logits[0]).all()
        assert np.isnan(logits[1]).all()


def test_only_one_layer_s_weights_are_floats_at_a_time():
    """Peak memory is what int8 is for, and XLA's default order converts all of them first."""
    config = BertConfig(
        vocab_size=64, hidden_size=128, num_layers=6, num_heads=2, intermediate_size=512, max_position_embeddings=48,
        execution=INT8,
    )  # fmt: skip
    model = make_model(config, "classification", ("a", "b"))
    exact = jax.tree.map(np.asarray, model.init(jax.random.PRNGKey(0)))
    devices, params = all_devices(), with_int8_weights(exact)
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (params, exact)]
    assert sizes[0] < 0.3 * sizes[1]

    forward, placed = Forward(devices, model), devices.place(params)
    tokens = np.random.default_rng(0).integers(5, 64, (devices.count, 8))
    batch = padded_batch(np.ones_like(tokens), tokens)
    forward(placed, batch)
    memory = forward._program(placed, devices.deal(batch)).memory_analysis()
    largest = 128 * 512 * 4
    assert memory.temp_size_in_bytes < 2 * largest  # all layers: 6 x 3 x largest


def test_a_predictor_says_what_the_rounded_weights_say(finished_run):
    ours = bertjax.Predictor.load(finished_run.model_dir, execution=INT8)
    _, exact = from_pretrained(finished_run.model_dir)
    rounded = dequantized(with_int8_weights(exact))
    texts = ["a good film", "what a bad plot it was"]
    other = bertjax.Predictor(load_model(finished_run.model_dir)._replace(params=rounded))
    np.testing.assert_allclose(ours.logits(texts), other.logits(texts), atol=1e-5, rtol=0)
    for left, right in zip(ours.explain(texts), other.explain(texts), strict=True):
        weights = [[word.weight for word in explanation.words] for explanation in (left, right)]
        np.testing.assert_allclose(*weights, atol=1e-4, rtol=0)


def test_it_is_for_answers(tmp_path):
    model, params = from_pretrained(their_folder("bert", tmp_path / "m", "classification"), execution=INT8)
    with pytest.raises(ConfigError, match="weights int8 is for answers"):
        make_train_step(model, make_optimizer(Optimizer().resolved(), 2, model), cross_entropy)
    with pytest.raises(ConfigError, match="weights int8 is for answers"):
        bertjax.FineTuneConfig(execution=INT8)
    with pytest.raises(ConfigError, match="int8 weights are not saved"):
        save_pretrained(tmp_path / "out", model, params)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["finetune", "parity"])
def test_commands_that_need_gradients_refuse_it_in_one_line(command, in_folder, capsys):
    assert main([command, "--weights", "int8"]) == 2
    assert "weights int8 is for answers" in processes.complaint(capsys.readouterr().err)
    assert list(in_folder.iterdir()) == []
