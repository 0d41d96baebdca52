"""The share of the devices' peak is that of the model's own operations, whatever was computed besides."""

import logging
from dataclasses import replace

import jax
import numpy as np

from bertjax.batch import padded_batch
from bertjax.config import BertConfig, Execution, Rotary
from bertjax.data.batching.collate import PackedBatch
from bertjax.tasks import make_model
from bertjax.training.loop.progress import LineProgress, StepProgress
from bertjax.training.loop.train_metrics import TrainMetrics
from bertjax.training.step.mfu import matmul_peak, training_flops

WIDE = BertConfig(
    vocab_size=64, hidden_size=256, num_layers=3, num_heads=4, intermediate_size=1024, max_position_embeddings=128
)


def packed_batch(lengths):
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    batch = padded_batch(mask, np.full(mask.shape, 7))
    return PackedBatch(batch, np.arange(len(lengths))[:, None], len(lengths), sum(lengths))


def test_operations_are_those_that_xla_counts():
    """XLA counts layer norms, softmax and activations too: a tenth more at this width, never less."""
    model = make_model(WIDE, "encoder")
    params = jax.eval_shape(model.init, jax.random.PRNGKey(0))
    batch = packed_batch([128] * 4).batch

    def forward(params):
        return model.apply(params, None, batch, deterministic=True, return_hidden_states=True).hidden_states[-1]

    counted = jax.jit(forward).lower(params).cost_analysis()["flops"]
    ours = training_flops(WIDE, tokens=4 * 128, pairs=4 * 128**2) / 3  # the forward pass is a third of a step
    assert ours < counted < 1.15 * ours


def test_layers_that_look_at_near_tokens_have_fewer_pairs():
    """One layer of three looks at all of 128 tokens, two at 4 to either side."""
    reach = Rotary(1e4, 1e4, window=4, local=(False, True, True))
    every, some = (training_flops(config, tokens=128, pairs=128**2) for config in (WIDE, replace(WIDE, rotary=reach)))
    assert every - some == 6 * 2 * 256 * 2 * (128**2 - 128 * 9)


def test_pairs_are_the_squares_of_lengths():
    """Padding sees nobody."""
    record = TrainMetrics()
    record.count(packed_batch([2, 5, 3]), seconds=1.0)
    assert record.token_pairs == 4 + 25 + 9
    assert record.real_tokens == 10


def test_the_peak_is_that_of_matrix_products():
    """A machine that multiplies less than a billion numbers a second, or more than 10^16, was not measured."""
    devices = tuple(jax.devices())
    peak = matmul_peak(devices, Execution())
    assert 1e9 < peak < 1e16
    assert matmul_peak(devices, Execution()) == peak, "measured once"


def test_a_line_says_how_fast(caplog):
    reading = StepProgress(3, 3, 1, 1, 0.5, examples_per_second=120, tokens_per_second=1500, mfu=None)
    with caplog.at_level(logging.INFO):
        LineProgress().show(reading)
        LineProgress().show(reading._replace(mfu=0.314))
    assert caplog.messages[0].endswith("loss 0.5000  120 examples/s, 1500 tokens/s  0% left")
    assert "120 examples/s, 1500 tokens/s, 31% of matmul peak" in caplog.messages[1]
