"""The forward pass compiles each shape once, knows its shapes ahead, and computes what it is asked for."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import numpy as np
import pytest

from bertjax.batch import CLASS_INDEX, LabelKind
from bertjax.data.batching.packing import layout_of
from bertjax.data.encode.examples import Examples
from bertjax.devices.data_parallel import all_devices
from bertjax.errors import BatchError
from bertjax.prediction.batcher import bucket_layouts, bucketed_batches
from bertjax.prediction.forward import Forward, predict
from tests.support.models import network

pytestmark = pytest.mark.usefixtures("no_programs")


def examples_of(lengths, texts=1):
    """Random tokens; the texts of an example are of equal length."""
    rng, lengths = np.random.default_rng(0), np.asarray(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    token_ids = rng.integers(1, 60, offsets[-1], np.int32)
    parts = None if texts == 1 else np.repeat(lengths[:, None] // texts, texts, axis=1)
    return Examples(token_ids, 0 * token_ids, offsets, np.zeros(len(lengths), np.int32), 0, text_lengths=parts)


@pytest.fixture(scope="module")
def placed():
    """Devices, a model, and its parameters on them."""
    devices, (model, params) = all_devices(), network()
    return devices, model, devices.place(params)


@pytest.mark.parametrize("texts", [1, 3])
@pytest.mark.parametrize("num_devices", [1, 2, 3])
def test_every_batch_has_a_shape_that_was_listed(texts, num_devices):
    """Those up to a length are listed by that length alone, also above the longest bucket."""
    rng = np.random.default_rng(1)
    for longest in (2, 31, 32, 33, 100, 512, 513, 1300):
        listed = set(bucket_layouts(longest * texts, num_devices, texts))
        assert all(layout.rows % num_devices == 0 for layout in listed)
        for count in (1, 2, 9, 400):
            lengths = rng.integers(2, longest + 1, count) * texts
            lengths[-1] = longest * texts
            batches = list(bucketed_batches(examples_of(lengths, texts), num_devices))
            assert {layout_of(packed.batch) for packed in batches} <= listed
            assert sum(packed.num_examples for packed in batches) == count


def test_shorter_examples_need_no_other_shapes():
    for longest in range(2, 700, 7):
        assert set(bucket_layouts(longest, 2)) <= set(bucket_layouts(700, 2))
    assert len(bucket_layouts(128, 1)) <= 9


def test_nothing_compiles_after_the_listed_shapes(placed):
    devices, model, params = placed
    forward = Forward(devices, model)
    for layout in bucket_layouts(30, devices.count):
        forward.compile(params, layout, CLASS_INDEX)
    compiled = forward.num_compiled
    assert compiled == len(bucket_layouts(30, devices.count))
    for lengths in ([3], [30] * 30, list(range(2, 30)) * 9):
        predict(partial(forward, params), devices.count, model.task, examples_of(lengths), bucketed_batches)
    assert forward.num_compiled == compiled


def test_threads_that_meet_a_shape_compile_it_once(placed, monkeypatch):
    devices, model, params = placed
    forward, compiled, together = Forward(devices, model), [], Barrier(4)
    mapped = type(devices).map

    def counted(self, function, **how):
        compiled.append(function)
        return mapped(self, function, **how)

    monkeypatch.setattr(type(devices), "map", counted)
    (packed,) = bucketed_batches(examples_of([5, 7, 3]), devices.count)

    def run(_):
        together.wait()
        return np.asarray(forward(params, packed.batch))

    with ThreadPoolExecutor(4) as threads:
        first, *others = threads.map(run, range(4))
    assert len(compiled) == forward.num_compiled == 1
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_a_shape_whose_compilation_failed_is_compiled_by_the_next_call(placed, monkeypatch):
    devices, model, params = placed
    forward = Forward(devices, model)
    (packed,) = bucketed_batches(examples_of([5, 7, 3]), devices.count)
    with monkeypatch.context() as patch:
        patch.setattr(type(devices), "map", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            forward(params, packed.batch)
    assert forward.num_compiled == 0
    assert np.isfinite(forward(params, packed.batch)).all()


def test_a_shape_without_rows_is_refused(placed):
    devices, model, params = placed
    (packed,) = bucketed_batches(examples_of([5]), devices.count)
    empty = packed.batch._replace(token_ids=packed.batch.token_ids[:0])
    with pytest.raises(BatchError, match="rows of one token or more"):
        Forward(devices, model)(params, empty)


def test_other_outputs_than_the_scores_of_the_task(placed):
    """Pooled vectors, in the order of the examples, are those of the network itself."""
    devices, model, params = placed
    examples = examples_of([5, 9, 2, 30, 4])
    pooled = Forward(devices, model, lambda output, batch: output.pooled_output)
    found = predict(
        partial(pooled, params), devices.count, "token_classification", examples, bucketed_batches, scores_of="examples"
    )
    assert found.shape == (5, model.config.hidden_size)
    for number in range(5):
        (alone,) = bucketed_batches(examples.at(np.array([number])), 1)
        expected = model.apply(params, None, alone.batch).pooled_output[0, 0]
        np.testing.assert_allclose(found[number], expected, atol=1e-6)


def test_a_shape_is_compiled_for_the_labels_of_its_kind(placed):
    """A regression's labels are real numbers: what was compiled ahead takes them."""
    devices, model, params = placed
    forward = Forward(devices, model)
    kind = LabelKind(shape=(2,), dtype=np.float32)
    examples = examples_of([4, 6])._replace(labels=np.zeros((2, 2), np.float32))
    (packed,) = bucketed_batches(examples, devices.count)
    forward.compile(params, layout_of(packed.batch), kind)
    forward(params, packed.batch)
    assert forward.num_compiled == 1


def test_results_are_read_late_but_few_wait():
    """A device has a next batch to compute before the last one's result is read; memory holds a few."""
    events = []

    class Pending:
        def __init__(self, batch):
            events.append("asked")
            self.ids = batch.token_ids[..., None].astype(np.float32)

        def __array__(self, dtype=None, copy=None):
            events.append("read")
            return self.ids

    examples = examples_of([512] * 70)._replace(labels=np.zeros(70 * 512, np.int32), labels_of="tokens")
    scores = predict(Pending, 1, "token_classification", examples, bucketed_batches)
    assert scores[:, 0].tolist() == examples.token_ids.tolist()
    waiting = np.cumsum([1 if event == "asked" else -1 for event in events])
    assert len(events) >= 10
    assert waiting.max() == 3
    assert events[:3] == ["asked"] * 3


def test_rows_of_many_short_texts_fill_the_small_shapes():
    """A full batch has few slots; no example is lost where a row has more."""
    for lengths in ([2] * 900, [2] * 300 + [40] * 300, [3, 90] * 200):
        batches = list(bucketed_batches(examples_of(lengths), 1))
        ids = np.concatenate([packed.example_ids[packed.example_ids >= 0] for packed in batches])
        assert sorted(ids) == list(range(len(lengths)))
