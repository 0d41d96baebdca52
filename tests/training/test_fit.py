"""The training loop by itself: what it calls, in which order, and the numbers of its first steps."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.errors import Diverged, Interrupted
from bertjax.losses import cross_entropy
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.loop.callbacks import (
    DivergenceCheck,
    Evaluate,
    LogTrainMetrics,
    SaveCheckpoint,
    StopEarly,
)
from bertjax.training.loop.early_stopping import BestMetric
from bertjax.training.loop.eval_schedule import EvalSchedule
from bertjax.training.loop.fit import fit
from bertjax.training.loop.progress import NoProgress
from bertjax.training.loop.train_metrics import TrainMetrics
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.settings.options import Optimizer
from bertjax.training.step.train_step import make_train_step
from bertjax.training.train_state import TrainState
from tests.support.batches import make_examples
from tests.support.models import network

SCHEDULE = EvalSchedule(steps_per_epoch=4, total_steps=8, evaluate_every=4, save_every=8)

GOLDEN_LOSSES = [1.10361, 1.092516, 1.094784, 1.101324]
GOLDEN_GRAD_NORMS = [0.3281224, 0.4280641, 0.1590376, 0.1686614]


def packed_batches(epochs=2):
    examples = make_examples(32)
    plan = plan_training(examples.lengths, 8, epochs, 0, 16, 1, packed=True)
    return list(StoredBatches(examples, plan).batches())


def pairs(batches):
    """As `fit` takes them, for a step that takes a batch from the host."""
    return ((batch, batch.batch) for batch in batches)


def test_golden_steps():
    """The first steps of a tiny model, with dropout, AdamW and warmup: these numbers change only on purpose."""
    model, params = network()
    step = make_train_step(model, make_optimizer(Optimizer(learning_rate=1e-3), 4, model), cross_entropy)
    jitted, seen = jax.jit(step), []

    def train_step(state, batch):
        state, metrics = jitted(state, batch)
        seen.append((float(metrics["loss"]), float(metrics["grad_norm"])))
        return state, metrics

    state = fit(step.init(params, jax.random.PRNGKey(0)), pairs(packed_batches(epochs=1)), train_step)
    losses, grad_norms = zip(*seen, strict=True)
    advice = (
        "\nThe training step computes other numbers than it did. Every user's runs change with it, and runs that were "
        "stopped no longer continue to the same bits. If that was the aim: say so in CHANGELOG.md, check "
        "`bertjax parity` and `bertjax compare`, and put these in the place of the golden ones:"
        f"\nGOLDEN_LOSSES = {[float(f'{loss:.7g}') for loss in losses]}"
        f"\nGOLDEN_GRAD_NORMS = {[float(f'{norm:.7g}') for norm in grad_norms]}"
    )
    # float32 sums in the order of another processor
    np.testing.assert_allclose(losses, GOLDEN_LOSSES, rtol=1e-5, err_msg=advice)
    np.testing.assert_allclose(grad_norms, GOLDEN_GRAD_NORMS, rtol=1e-4, err_msg=advice)
    assert int(state.step) == 4


class Steps:
    """A training step that computes nothing but the count, with the given losses."""

    def __init__(self, losses):
        self.losses = losses

    def __call__(self, state, batch):
        loss = self.losses[int(state.step)]
        metrics = {
            "loss": np.float32(loss),
            "skipped": np.float32(not np.isfinite(loss)),
            "squares": np.array([np.inf]),
        }
        return state._replace(step=state.step + 1), metrics


class Saves:
    """Checkpoints that remember what they were asked to save."""

    def __init__(self):
        self.saved = []
        self.stays = []

    def save(self, state, progress, best_step=None, *, stays=False):
        self.stays.append(stays)
        self.saved.append((int(state.step), best_step, progress["epoch_examples"]))

    def wait(self):
        pass

    @property
    def latest_step(self):
        return self.saved[-1][0] if self.saved else None


START = TrainState({}, (), np.int32(0), np.zeros(2, np.uint32))


def callbacks_of(
    *, losses=(1.0,) * 8, accuracies=None, should_stop=lambda: False, patience=None, schedule=SCHEDULE, max_skipped=3
):
    """The callbacks of a run, what they write to, and its step."""
    run = SimpleNamespace(metrics=TrainMetrics(), tracker=MemoryTracker(), saves=Saves(), step=Steps(losses))
    values = iter(accuracies or ())
    validate = (lambda _: {"validation/accuracy": next(values)}) if accuracies else None
    check = DivergenceCheck(max_skipped, {"classifier": {"w": np.zeros(1)}}, run.saves)
    reader = LogTrainMetrics(run.metrics, schedule, run.tracker, NoProgress(), lambda *_: None, check)
    run.callbacks = [
        reader,
        Evaluate(run.metrics, schedule, validate, run.tracker, reader.flush, lambda *_: None),
        StopEarly(run.metrics, schedule, BestMetric(patience=patience), lambda *_: None),
        SaveCheckpoint(run.metrics, schedule, run.saves, should_stop, reader.flush),
    ]
    return run


def train(run):
    batches = (batch for batch in packed_batches() if not run.metrics.stopped_early)
    return fit(START, pairs(batches), run.step, run.callbacks)


def test_metrics_are_read_one_step_late_and_before_an_evaluation():
    run, order = callbacks_of(losses=range(1, 9), accuracies=[0.5, 0.6]), []
    run.tracker.log_metrics = lambda metrics, step: order.append((step, *metrics))
    step, computed = run.step, []

    def train_step(state, batch):
        computed.append(("computed", int(state.step) + 1, len(order)))
        return step(state, batch)

    run.step = train_step
    train(run)
    losses = [entry for entry in order if entry[1] == "train/loss"]
    assert [step for step, *_ in losses] == list(range(1, 9))
    # When step 3 is started, step 1 has been logged and step 2 has not; step 5 follows the evaluation after step 4.
    assert [logged for _, step, logged in computed if step in (3, 5)] == [1, 5]
    assert [step for step, name, *_ in order if name == "epoch"] == [4, 8]
    assert run.metrics.history[0]["epoch/train_loss"] == pytest.approx(np.mean([1, 2, 3, 4]))


def test_checkpoints_are_saved_when_due_and_when_the_best():
    run = callbacks_of(accuracies=[0.5, 0.4])
    assert int(train(run).step) == 8
    assert [(step, best) for step, best, _ in run.saves.saved] == [(4, 4), (8, 4)]
    assert run.saves.stays == [False, True]  # no step comes after the last one
    assert run.metrics.best_so_far.evaluations_since == 1


def test_early_stopping_saves_and_ends_the_batches():
    run = callbacks_of(accuracies=[0.5, 0.4], patience=1, schedule=SCHEDULE._replace(evaluate_every=2))
    assert int(train(run).step) == 4
    assert run.metrics.stopped_early
    assert [step for step, *_ in run.saves.saved] == [2, 4]
    assert run.saves.stays == [False, True]


def test_a_stop_request_is_asked_once_a_step_saves_and_interrupts():
    asked = []

    def should_stop():
        asked.append(None)
        return len(asked) == 3

    run = callbacks_of(should_stop=should_stop)
    with pytest.raises(Interrupted, match="stopped after step 3 of 8") as stop:
        train(run)
    assert (len(asked), stop.value.saved_step) == (3, 3)
    # The checkpoint counts the examples of step 3 too.
    assert run.saves.saved == [(3, None, 24)]
    assert run.saves.stays == [True]


def test_a_stop_request_at_the_last_step_changes_nothing():
    answers = iter([False] * 7 + [True])
    run = callbacks_of(should_stop=lambda: next(answers))
    assert int(train(run).step) == 8


def test_skipped_steps_are_left_out_of_the_loss_and_end_the_run_when_too_many():
    run = callbacks_of(losses=[1, np.nan, 2, np.inf, 3, 3, 3, 3])
    train(run)
    assert run.metrics.skipped_steps == 2
    assert run.metrics.history[0]["epoch/train_loss"] == pytest.approx(1.5)
    run = callbacks_of(losses=[1, *[np.nan] * 7])
    with pytest.raises(
        Diverged, match="3 steps in a row were skipped, the last of them step 4: the gradient of classi"
    ):
        train(run)


def test_a_callback_may_replace_the_state():
    class Reset:
        def due(self, step):
            return step == 2

        def __call__(self, info):
            return info.state()._replace(rng_key=np.ones(2, np.uint32))

    state = fit(START, pairs(packed_batches()[:3]), Steps([1.0] * 3), [Reset()])
    assert state.rng_key.tolist() == [1, 1]
