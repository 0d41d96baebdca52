"""Joining rows changes the layout of a batch and never what any head learns from it."""

import functools

import chex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.baselines.parity.random_examples import packed, random_examples
from bertjax.batch import padded_batch
from bertjax.data.batching.packing import Layout, pack_batch
from bertjax.members.original_bert import BERT
from bertjax.tasks import TASKS, make_model
from bertjax.training.step.train_step import make_train_step
from tests.support.models import TINY, of_a_member_with

# The head of another member is compared in both layouts in tests/parity.
TRAINED = [task for task, row in TASKS.items() if row.loss is not None and BERT.has(row.architecture)]
ROWS, LONGEST, SLOTS = 3, 12, 4


def no_loss(output, batch):
    raise AssertionError("a bare encoder is not trained")


@functools.cache
def programs(task):
    """A network without dropout, its parameters, and its compiled gradient."""
    import optax

    row = TASKS[task]
    model = make_model(of_a_member_with(task).with_dropout(0.0), task, ("a", "b", "c") if row.names else ())
    step = make_train_step(model, optax.sgd(0.1), row.loss or no_loss)
    state = step.init(model.init(jax.random.PRNGKey(0)), jax.random.PRNGKey(0))
    return model, state, jax.jit(step.gradient)


@pytest.mark.parametrize("task", TRAINED)
@given(data=st.data())
@settings(max_examples=15)
def test_packed_and_padded_agree_in_loss_and_gradient(task, data):
    """Over lengths, rows and slots; what stands in the padding is noise."""
    model, state, gradient = programs(task)
    count = data.draw(st.integers(1, 4), label="examples")
    examples = random_examples(model, count, LONGEST, seed=data.draw(st.integers(0, 1000), label="seed"))
    texts = examples.texts.num_texts
    one_a_row = examples.batch
    # A random assignment to rows, in any order, in one shape so that it compiles once.
    order = data.draw(st.permutations(range(count)), label="order")
    cuts = sorted(data.draw(st.lists(st.integers(0, count), min_size=ROWS - 1, max_size=ROWS - 1), label="cuts"))
    rows = [list(order[a:b]) for a, b in zip([0, *cuts], [*cuts, count], strict=True)]
    layout = Layout(ROWS, SLOTS * texts * LONGEST, SLOTS * texts)
    several_a_row = pack_batch(one_a_row, rows, layout, TASKS[task].labels_of)
    rng = np.random.default_rng(count)
    noise = rng.integers(0, 64, several_a_row.token_ids.shape).astype(np.int32)
    several_a_row = several_a_row._replace(
        token_ids=np.where(several_a_row.segment_ids == 0, noise, several_a_row.token_ids)
    )
    # The padded side in one shape too: rows that hold nothing weigh nothing.
    one_a_row = jax.tree.map(
        lambda leaf: np.concatenate([leaf, np.zeros((4 - count, *leaf.shape[1:]), leaf.dtype)]), one_a_row
    )
    grads, metrics = gradient(state, one_a_row)
    packed_grads, packed_metrics = gradient(state, several_a_row)
    np.testing.assert_allclose(packed_metrics["loss"], metrics["loss"], atol=1e-5)
    chex.assert_trees_all_close(packed_grads, grads, rtol=1e-7, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_content_of_padding_changes_no_output(task):
    """To the bit: whatever stands there is multiplied by 0 or never read. Empty slots and empty rows included."""
    model, state, _ = programs(task)
    examples = random_examples(model, 5, LONGEST, seed=2)
    batch, texts = packed(model, [examples])[0]
    rng = np.random.default_rng(0)

    def noisy(leaf, limit):
        return np.where(batch.segment_ids == 0, rng.integers(0, limit, leaf.shape), leaf).astype(np.int32)

    other = batch._replace(
        token_ids=noisy(batch.token_ids, TINY.vocab_size),
        token_type_ids=noisy(batch.token_type_ids, TINY.type_vocab_size),
        position_ids=noisy(batch.position_ids, TINY.max_position_embeddings),
    )
    forward = jax.jit(lambda batch: model.apply(state.params, None, batch))

    def outputs(batch):
        """Of real examples and tokens."""
        output = jax.device_get(forward(batch))
        whole = batch.token_ids.shape
        of_texts = [] if output.pooled_output is None else [output.pooled_output[texts.rows, texts.slots]]
        return of_texts + [
            texts.read("tokens" if logits.shape[:2] == whole else "examples", logits)
            for logits in jax.tree.leaves(output.logits)
        ]

    for left, right in zip(outputs(batch), outputs(other), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("task", ["classification", "token_classification", "multiple_choice", "pretraining"])
def test_everything_of_an_example_moves_with_it(task):
    model, *_ = programs(task)
    apart = random_examples(model, 6, LONGEST, seed=1)
    together = packed(model, [apart])[0]
    for name in ("token_ids", "token_type_ids", "position_ids"):
        left, right = getattr(apart.batch, name), getattr(together.batch, name)
        np.testing.assert_array_equal(apart.texts.read("tokens", left), together.texts.read("tokens", right))
    for name in ("labels", "example_weights"):
        for left, right in zip(
            jax.tree.leaves(getattr(apart.batch, name)), jax.tree.leaves(getattr(together.batch, name)), strict=True
        ):
            labels_of = "tokens" if left.shape[1] == apart.batch.token_ids.shape[1] else "examples"
            np.testing.assert_array_equal(apart.texts.read(labels_of, left), together.texts.read(labels_of, right))
            assert left.dtype == right.dtype
            assert left.sum() == right.sum()  # what is left over holds nothing
    first_tokens = np.take_along_axis(together.batch.position_ids, together.batch.example_starts, axis=1)
    assert not first_tokens.any()


def test_real_tokens_need_not_be_in_front():
    """Candidates of a choice have padding between them."""
    mask = np.array([[[1, 1, 0], [1, 0, 0]]])
    ids = np.array([[[5, 6, 0], [7, 0, 0]]])
    batch = pack_batch(padded_batch(mask, ids), [[0]], Layout(1, 4, 2))
    assert batch.token_ids.tolist() == [[5, 6, 7, 0]]
    assert batch.segment_ids.tolist() == [[1, 1, 2, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 0, 0]]
    assert batch.example_starts.tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ("rows", "layout", "message"),
    [
        ([[0, 1]], Layout(1, 5, 2), "a row has more tokens than the 5"),
        ([[0, 1]], Layout(1, 6, 1), "do not fit"),
        ([[0], [1]], Layout(1, 6, 2), "do not fit"),
    ],
)
def test_what_does_not_fit_is_refused(rows, layout, message):
    batch = padded_batch(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match=message):
        pack_batch(batch, rows, layout)
