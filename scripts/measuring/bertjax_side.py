"""bertjax's side of a comparison: its compiled training step, on batches that are made and placed ahead of it."""

import hashlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertjax import BertConfig, Execution, make_optimizer, make_train_step
from bertjax.batch import Batch, padded_batch
from bertjax.data.batching.collate import PackedBatch, StoredBatches
from bertjax.data.batching.prefetch import prefetched
from bertjax.data.encode.examples import ExampleStore
from bertjax.devices.data_parallel import AXIS, Devices, all_devices
from bertjax.losses import cross_entropy
from bertjax.tasks import Model, Params, make_model, parameter_shapes
from bertjax.training.optim.trained_words import with_occurring_words
from bertjax.training.settings.options import Optimizer
from bertjax.training.step.compiled_step import CompiledTrainStep, PlacedBatch
from bertjax.training.step.train_step import TrainStep, seed_key
from bertjax.training.train_state import TrainState
from measuring.turns import Counts

LABELS = ("a", "b", "c", "d", "e", "f")
TOTAL_STEPS = 10_000  # of the schedule, which no measurement reaches
_PEAK_SIZE, _PEAK_PRODUCTS, _PEAK_ROUNDS = 8192, 10, 5


def random_model(config: BertConfig) -> tuple[Model, Params]:
    """A classifier with weights of noise: how long a step takes does not depend on what it has learned."""
    model, rng = make_model(config, "classification", LABELS), np.random.default_rng(0)

    def values(name: str, leaf: Any) -> np.ndarray:
        if name == "scale":
            return np.ones(leaf.shape, np.float32)
        return np.float32(0.02) * rng.standard_normal(leaf.shape, np.float32)

    shapes = parameter_shapes(model)
    return model, {
        module: {name: values(name, leaf) for name, leaf in leaves.items()} for module, leaves in shapes.items()
    }


def full_rows(config: BertConfig, length: int, rows: int) -> PackedBatch:
    """A batch of random texts that each fill a row."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, config.vocab_size, (rows, length))
    labels = rng.integers(0, len(LABELS), rows)
    batch = padded_batch(np.ones((rows, length), np.int32), ids, labels=labels)
    return PackedBatch(batch, np.arange(rows)[:, None], rows, rows * length)


class BertjaxSide:
    """A training of a model; its programs compile in the background from the start.

    Attributes:
      step: the compiled one.
      state: after the steps so far, on the devices.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        batches: Iterator[PackedBatch],
        shapes: list[Batch],
        texts: ExampleStore | None = None,
    ):
        """Begins to compile; for `texts` see `first_state`."""
        devices = one_device()
        step = plain_step(model)
        self.state: TrainState = devices.place(first_state(step, params, texts))
        self.step = CompiledTrainStep(devices, model, step, self.state, shapes)
        self._batches: Iterator[tuple[PackedBatch, PlacedBatch]] = prefetched(
            (made, self.step.place(made.batch)) for made in batches
        )

    @classmethod
    def on_full_rows(cls, model: Model, params: Params, length: int, rows: int) -> "BertjaxSide":
        """On one batch of full rows."""
        return cls.on_one_batch(model, params, full_rows(model.config, length, rows))

    @classmethod
    def on_one_batch(
        cls, model: Model, params: Params, batch: PackedBatch, texts: ExampleStore | None = None
    ) -> "BertjaxSide":
        """On one batch, again and again, that stays on the device."""
        side = cls(model, params, iter(()), [batch.batch], texts)
        side._batches = repeat((batch, side.step.place(batch.batch)))
        return side

    @classmethod
    def on_texts(cls, model: Model, params: Params, source: StoredBatches) -> "BertjaxSide":
        """On the batches of a plan, over and over."""
        endless = (batch for _ in repeat(None) for batch in source.batches())
        return cls(model, params, endless, list(source.plan.empty_batches), source.examples)

    def run(self, steps: int) -> Counts:
        """Does so many steps; the metrics of a step are read while the next one is computed."""
        examples = real = computed = 0
        unread = None
        for _ in range(steps):
            packed_batch, placed = next(self._batches)
            self.state, metrics = self.step(self.state, placed)
            if unread is not None:
                jax.device_get(unread["loss"])
            unread = metrics
            examples += packed_batch.num_examples
            real += packed_batch.num_tokens
            computed += packed_batch.batch.token_ids.size
        jax.block_until_ready(self.state)
        return Counts(examples, real, computed)

    def digest(self) -> str:
        """Of the bits of its parameters."""
        whole = hashlib.sha256()
        for leaf in jax.tree.leaves(jax.device_get(self.state.params)):
            whole.update(np.ascontiguousarray(leaf).tobytes())
        return whole.hexdigest()

    def close(self) -> None:
        """Ends the thread that makes batches, and frees the state."""
        if not isinstance(self._batches, repeat):
            self._batches.close()  # type: ignore[attr-defined]
        self.step.close()
        del self.state


def one_device() -> Devices:
    """The first device: no side is told to use more."""
    return all_devices(devices=jax.devices()[:1])


def plain_step(model: Model) -> TrainStep:
    """A step of the default optimizer."""
    return make_train_step(model, make_optimizer(Optimizer(), TOTAL_STEPS, model), cross_entropy, axis_name=AXIS)


def first_state(step: TrainStep, params: Params, texts: ExampleStore | None = None) -> TrainState:
    """The state before the first step, with moments for the words of `texts`, as a run on a CPU has them."""
    state = step.init(params, seed_key(0))
    return state if texts is None else with_occurring_words(state, texts, (0,), jax.default_backend())


def measured_peak() -> float:
    """Operations a second of products of large matrices of random bfloat16 numbers: of equal numbers they are faster,
    for a GPU draws less power then."""
    rng = np.random.default_rng(0)
    shape = (_PEAK_SIZE, _PEAK_SIZE)
    left, right = (jnp.asarray(rng.standard_normal(shape, np.float32), jnp.bfloat16) for _ in range(2))
    product = jax.jit(jnp.matmul).lower(left, right).compile()
    jax.block_until_ready(product(left, right))
    seconds = []
    for _ in range(_PEAK_ROUNDS):
        started = time.perf_counter()
        jax.block_until_ready([product(left, right) for _ in range(_PEAK_PRODUCTS)])
        seconds.append(time.perf_counter() - started)
    return 2.0 * _PEAK_SIZE**3 * _PEAK_PRODUCTS / statistics.median(seconds)


def in_execution(config: BertConfig, **settings: Any) -> BertConfig:
    """The architecture, computed in a certain way."""
    return replace(config, execution=Execution(**settings))
