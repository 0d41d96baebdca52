"""Word embeddings of which only those that occur have a gradient and moments: the numbers are those of all of them."""

import json
from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bertjax.batch import padded_batch
from bertjax.data.table import Table
from bertjax.errors import ConfigError, Interrupted
from bertjax.losses import cross_entropy
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.settings import override
from bertjax.tasks import TASKS, make_model, parameter_shapes
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.checkpoint.checkpoints import Checkpoints
from bertjax.training.optim import trained_words
from bertjax.training.optim.ema import evaluation_params
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.optim.optimizer_state import find
from bertjax.training.optim.schedules import learning_rate_schedule
from bertjax.training.optim.trained_words import (
    MODULE,
    NAME,
    TrainedWords,
    places_of,
    saved_words,
    with_trained_words,
    with_whole_moments,
)
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepared_run import prepare_run
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Evaluation, Optimizer, Regularization
from bertjax.training.step.train_step import make_train_step, not_finite_parameters
from bertjax.training.step.word_gradient import WordTable, gradient_shaped, read_words
from tests.support.batches import batches_of, make_examples
from tests.support.models import TINY, of_a_member_with
from tests.support.tracking import stop_after

MODEL = make_model(replace(TINY, num_layers=1), "classification", ("a", "b", "c"))  # with dropout
EXAMPLES = make_examples()
EXAMPLES = EXAMPLES._replace(token_ids=EXAMPLES.token_ids // 3)  # 19 of 64 words
BATCHES = batches_of(EXAMPLES, packed=True, devices=2, epochs=5)[1]
STEPS = len(BATCHES)
UNSEEN = 40


@pytest.fixture(autouse=True)
def _eighths(monkeypatch):
    """Few enough words for the vocabulary of a tiny model."""
    monkeypatch.setattr(trained_words, "_MULTIPLE", 8)


def started(settings, **options):
    """A step, and the states before the first that train all words, and those that occur."""
    step = make_train_step(MODEL, make_optimizer(settings, STEPS, MODEL), cross_entropy, **options)
    state = step.init(MODEL.init(jax.random.PRNGKey(0)), jax.random.PRNGKey(0))
    places = places_of(EXAMPLES.token_ids, TINY.vocab_size)
    assert places.max() == 24
    return step, state, state._replace(opt_state=with_trained_words(state.opt_state, places))


def table_of(params):
    return np.asarray(params[MODULE][NAME])


def same_bits(left, right):
    return jax.tree.structure(left) == jax.tree.structure(right) and jax.tree.all(
        jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), left, right)
    )


def test_the_steps_of_a_training_are_those_of_all_words():
    """With all that a step can do beside. A word that never occurs is moved by the decay alone: as float64 has it."""
    settings = Optimizer(learning_rate=1e-2, clip_norm=0.1, weight_decay=0.1, layer_decay=0.8, ema_decay=0.9)
    step, whole, few = started(settings, accumulate=2, regularization=Regularization(r_drop=1.0, mixout=0.3))
    before, train = table_of(whole.params), jax.jit(step)
    for batch in BATCHES:
        whole, expected = train(whole, batch)
        few, metrics = train(few, batch)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), metrics, expected)
        assert metrics["skipped"] == 0
    moments = find(few.opt_state, optax.ScaleByAdamState)
    assert moments.mu[MODULE][NAME].shape == moments.nu[MODULE][NAME].shape == (24, TINY.hidden_size)
    for of in (lambda state: state.params, evaluation_params, lambda state: with_whole_moments(state.opt_state)):
        # float32 sums of squares over other numbers of terms, which clip, over 20 steps of Adam
        chex.assert_trees_all_close(of(few), of(whole), rtol=1e-5, atol=1e-6)
    resolved = settings.resolved()
    share = resolved.layer_decay ** (MODEL.config.num_layers + 1)
    rates = [float(learning_rate_schedule(resolved, STEPS)(done)) for done in range(STEPS)]
    left = np.prod([1 - share * resolved.weight_decay * rate for rate in rates])
    assert left < 1 - 1e-4
    np.testing.assert_allclose(table_of(few.params)[UNSEEN], left * before[UNSEEN].astype(np.float64), rtol=1e-5)
    assert np.abs(table_of(few.params) - left * before).max(axis=1)[EXAMPLES.token_ids].min() > 1e-4


def test_a_skipped_step_changes_no_bit():
    """Nor is a word without a place a silent number: its loss is none."""
    step, _, state = started(Optimizer())
    train, update = jax.jit(step), jax.jit(step.update)
    state, _ = train(state, BATCHES[0])
    other = np.where(BATCHES[0].position_ids == 1, UNSEEN, BATCHES[0].token_ids)
    grads = jax.tree.map(jnp.ones_like, gradient_shaped(step.trainable(state.params), state.opt_state))
    bad = {**grads, MODULE: {NAME: grads[MODULE][NAME].at[3, 4].set(jnp.nan)}}
    wrong = {
        "a word": train(state, BATCHES[0]._replace(token_ids=other)),
        "a gradient": update(state, bad, jnp.float32(1)),
        "a loss": update(state, grads, jnp.float32(np.inf)),
    }
    assert np.isnan(wrong["a word"][1]["loss"])
    for after, metrics in wrong.values():
        assert metrics["skipped"] == 1
        assert same_bits(after._replace(step=state.step), state)
    assert not_finite_parameters(step.trainable(state.params), wrong["a gradient"][1]) == [f"{MODULE}/{NAME}"]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_knows_whether_its_head_reads_the_table(task):
    """Where it does, and some words alone are trained, the step is refused when it is traced."""
    config = of_a_member_with(task)
    model = make_model(config, task, ("a", "b", "c") if TASKS[task].names else ())
    params = parameter_shapes(model)
    rows = params[MODULE][NAME].update(shape=(24, config.embedding_width))
    batch = padded_batch(np.ones((2, 3, 4)), np.full((2, 3, 4), 7))  # three texts each

    def answers(rows, params):
        table = WordTable(params[MODULE][NAME], jnp.zeros(config.vocab_size, jnp.int32))
        moving, words = read_words({**params, MODULE: {NAME: rows}}, table, batch.token_ids)
        output = model.apply(moving, None, batch, word_embeddings=words)
        return sum(leaf.sum() for leaf in jax.tree.leaves((output.logits, output.pooled_output)))

    gradient = partial(jax.eval_shape, jax.grad(answers), rows, params)
    if TASKS[task].reads_words:
        with pytest.raises(ConfigError, match="gives all of them a gradient"):
            gradient()
    else:
        assert gradient().shape == rows.shape


@pytest.fixture
def config(tiny_model, reviews) -> FineTuneConfig:
    """5 steps an epoch."""
    return FineTuneConfig(
        model=str(tiny_model),
        data=Table(str(reviews), text=("title", "body"), label="stars", test_size=0.3),
        epochs=3,
        max_length=48,
        batch_size=9,
        optimizer=Optimizer(learning_rate=1e-2),
    )


@pytest.fixture
def all_words(monkeypatch):
    """() -> from here on, runs train all words."""
    return lambda: monkeypatch.setattr(trained_words, "places_of", lambda *arguments: None)


def run(config, folder, stop=None, **how):
    """A run, stopped after so many steps: its losses by step, and its parameters."""
    tracker = MemoryTracker()
    if stop is None:
        params = from_pretrained(finetune(config, folder, tracker=tracker, **how).model_dir)[1]
    else:
        params = None
        with pytest.raises(Interrupted):
            finetune(config, folder, tracker=tracker, should_stop=stop_after(stop), **how)
    return [row["train/loss"] for _, row in tracker.metrics if "train/grad_norm" in row], params


def words_saved(folder, step):
    """Of how many words a checkpoint has moments."""
    record = json.loads((folder / "checkpoints" / str(step) / "run" / "metadata").read_text())
    return saved_words(record["arrays"])


def test_a_run_trains_the_words_that_occur_and_resumes_to_the_bit(config, tmp_path, all_words):
    expected, params = run(config, tmp_path / "undisturbed")
    begun, _ = run(config, tmp_path / "stopped", stop=7)
    assert words_saved(tmp_path / "stopped", 7) == 24
    resumed, ended = run(config, tmp_path / "stopped", if_exists="resume")
    assert [*begun, *resumed] == expected
    assert same_bits(ended, params)
    all_words()
    losses, of_all = run(config, tmp_path / "all")
    assert words_saved(tmp_path / "all", len(losses)) == TINY.vocab_size
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    chex.assert_trees_all_close(of_all, params, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_all_words_goes_on_with_all_of_them(config, tmp_path, monkeypatch, all_words):
    """As earlier versions wrote them."""
    with monkeypatch.context() as earlier:
        earlier.setattr(trained_words, "places_of", lambda *arguments: None)
        expected, params = run(config, tmp_path / "undisturbed")
        begun, _ = run(config, tmp_path / "run", stop=7)
    resumed, ended = run(config, tmp_path / "run", if_exists="resume")
    assert [*begun, *resumed] == expected
    assert same_bits(ended, params)
    assert words_saved(tmp_path / "run", len(expected)) == TINY.vocab_size


def test_words_that_are_new_to_a_resumed_run_are_trained(config, tmp_path, reviews, all_words):
    """And the best of its evaluations may have moments of the words of before."""
    table = tmp_path / "table.csv"
    data = replace(config.data, train=str(table), test=str(reviews), validation=str(reviews), leaks="report")
    config = replace(config, data=data, evaluation=Evaluation(best_metric="epoch/train_loss", final_weights="best"))

    def before_and_after(folder):
        table.write_text(reviews.read_text())
        begun, _ = run(config, folder, stop=8)
        table.write_text(reviews.read_text().replace("song", "when who"))
        resumed, params = run(config, folder, if_exists="resume_changed")
        again, _ = run(replace(config, epochs=4), folder, if_exists="resume_changed")
        return [*begun, *resumed, *again], params

    losses, params = before_and_after(tmp_path / "few")
    assert words_saved(tmp_path / "few", len(losses)) == TINY.vocab_size
    all_words()
    expected, of_all = before_and_after(tmp_path / "all")
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    chex.assert_trees_all_close(params, of_all, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_is_read_into_a_run_of_other_words(tmp_path):
    """Each way, and with a word more."""
    _, whole, few = started(Optimizer())
    more = whole._replace(opt_state=with_trained_words(whole.opt_state, places_of(np.arange(32), TINY.vocab_size)))
    states = {step: state._replace(step=jnp.int32(step)) for step, state in enumerate((whole, few, more))}
    with Checkpoints(tmp_path, {}, keep=3) as checkpoints:
        for state in states.values():
            checkpoints.save(state, {})
        checkpoints.wait()
        for template in states.values():
            for step, state in states.items():
                assert same_bits(checkpoints.restore_step(step, template).state, state)


def test_runs_of_as_many_words_share_their_programs(config, tmp_path, reviews, all_words):
    """Which words these are is no part of a program."""
    other = tmp_path / "other.csv"
    other.write_text(reviews.read_text().replace("song", "who"))
    first, _ = run(config, tmp_path / "first")
    swapped = replace(config, data=replace(config.data, train=str(other)))
    second = finetune(swapped, tmp_path / "second", tracker=MemoryTracker())
    assert second.metrics["train/compiles"] == 0
    all_words()
    _, params = run(swapped, tmp_path / "all")
    chex.assert_trees_all_close(from_pretrained(second.model_dir)[1], params, rtol=1e-4, atol=1e-5)


WHOLE = {
    "another optimizer": {"optimizer.name": "lamb"},
    "frozen embeddings": {"freeze": ("embeddings",)},
    "adapters": {"lora.rank": 2},
    "masked words": {"task": "masked_lm", "data.label": ""},
}


def test_who_trains_all_words_or_none(config):
    def trained(config):
        return find(prepare_run(config).state.opt_state, TrainedWords)

    assert trained(config) is not None
    for changes in WHOLE.values():
        assert trained(override(config, changes)) is None
    all_occur = np.arange(TINY.vocab_size)
    assert places_of(all_occur[:48], TINY.vocab_size) is not None
    assert places_of(all_occur[:49], TINY.vocab_size) is None


def test_places():
    places = places_of(np.array([9, 6, 9, 30, 60]), TINY.vocab_size, special=(2, 3))
    assert places.tolist() == [0, 1, 2, 3, 8, 8, 4, 8, 8, 5, *[8] * 20, 6, *[8] * 29, 7, *[8] * 3]
