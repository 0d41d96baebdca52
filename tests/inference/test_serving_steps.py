"""What a service and a stream need of a predictor: threads, programs compiled ahead, joint batches, flat memory."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import jax
import numpy as np
import pytest

from bertjax.config import Execution
from bertjax.errors import ConfigError, DataError
from bertjax.inference.predictor import Predictor
from tests.support.models import TINY

ATOL = 1e-6  # float32, other rows beside an example


@pytest.fixture(scope="module")
def predictor(finished_run):
    return Predictor.load(finished_run.model_dir)


@pytest.fixture
def compilations():
    """The programs that XLA compiles while a test runs."""
    seen: list[str] = []

    def listen(event: str, seconds: float, **kwargs: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def texts_of(count, seed=0):
    rng = np.random.default_rng(seed)
    words = ["good", "film", "the", "plot", "was", "dull", "and", "."]
    return [" ".join(rng.choice(words, size=rng.integers(1, 12))) for _ in range(count)]


def test_nothing_compiles_after_the_warm_up(no_programs, finished_run, compilations):
    predictor = Predictor.load(finished_run.model_dir)
    predictor.warm_up(vectors=True)
    assert len(compilations) >= predictor.num_compiled > 0
    before = len(compilations), predictor.num_compiled
    for count in (1, 3, 9, 40, 500, 3000):
        predictor(texts_of(count))
        predictor.embed(texts_of(count))
    assert (len(compilations), predictor.num_compiled) == before


def test_a_warm_up_for_what_is_to_come(finished_run):
    everything, one = Predictor.load(finished_run.model_dir), Predictor.load(finished_run.model_dir)
    assert one.warm_up(5, most_texts=1) == 1 < everything.warm_up()
    one(["good"])
    assert one.num_compiled == 1
    with pytest.raises(ConfigError, match="from 1 to 10 tokens; there is none of 11 to warm up for"):
        one.warm_up(11)


def test_several_threads_have_the_answers_of_one(finished_run):
    """Also those that meet a shape first, at once, and those that tokenize."""
    requests = [texts_of(1 + i % 7, seed=i) for i in range(64)]
    serial = Predictor.load(finished_run.model_dir)
    expected = [serial.logits(texts) for texts in requests]
    shared = Predictor.load(finished_run.model_dir)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(shared.logits, requests))
    for logits, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(logits, right, atol=ATOL, rtol=0)
    assert shared.num_compiled == serial.num_compiled


def test_requests_in_one_batch_have_the_answers_of_each(predictor):
    """Of several kinds at once: answers and vectors."""
    requests = [texts_of(1 + i, seed=i) for i in range(5)]
    prepared = [predictor.prepare(texts, vectors=i == 2) for i, texts in enumerate(requests)]
    computed = predictor.compute(prepared)
    for i, (texts, scores) in enumerate(zip(requests, computed, strict=True)):
        expected = predictor.embed(texts) if i == 2 else predictor.logits(texts)
        np.testing.assert_allclose(scores, expected, atol=ATOL, rtol=0)
    assert predictor.answer(prepared[0], computed[0]) == [
        {
            **said,
            "probability": pytest.approx(said["probability"]),
            "probabilities": pytest.approx(said["probabilities"]),
        }
        for said in predictor(requests[0])
    ]


def test_a_stream_answers_in_order_and_reads_little_ahead(predictor):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield "good film" if taken % 3 else "dull plot"

    answers = predictor.stream(endless())
    for number in range(1, 4001):
        label = next(answers)["label"]
        assert label == ("good" if number % 3 else "bad")
    assert taken <= 4000 + 8 * 2048
    answers.close()


def test_a_stream_ends_with_the_row_that_cannot_be_read(predictor):
    texts = [*texts_of(5000), None]
    answers = predictor.stream(iter(texts))
    assert len(list(islice(answers, 4096))) == 4096  # the chunks before
    with pytest.raises(DataError, match="text 5001 must be a string"):
        next(answers)


@pytest.mark.parametrize("precision", ["bfloat16", "tensorfloat32"])
def test_lower_precision_by_a_setting(finished_run, predictor, precision):
    lower = Predictor.load(finished_run.model_dir, execution=Execution(precision=precision))
    texts = texts_of(50)
    difference = np.abs(lower.logits(texts) - predictor.logits(texts)).max()
    assert (0 < difference < 0.1) if precision == "bfloat16" else difference < ATOL


@pytest.mark.parametrize("count", [1, 7, 2048, 2049, 5000])
def test_any_number_of_texts(predictor, count):
    texts = texts_of(count)
    answers = predictor(texts)
    assert len(answers) == count
    assert answers[-1]["label"] == predictor(texts[-1:])[0]["label"]


@pytest.mark.parametrize("text", ["", " ", "a" * 1_000_000, "👍🏽 é \x00\x07\u202e", "[CLS] [SEP] [PAD]", "<b>"])
def test_a_text_of_any_characters_has_an_answer(predictor, text):
    (said,) = predictor([text])
    assert 0 < said["probability"] <= 1


@pytest.mark.parametrize("entry", ["a \ud800", {"title": "\udfff", "body": "b"}], ids=["text", "row"])
def test_half_a_surrogate_pair_is_no_text(predictor, entry):
    with pytest.raises(DataError, match="1 holds .* in which half of a surrogate pair is no character"):
        predictor(["good", entry][1:])


def test_the_positions_of_a_short_network_are_not_left(finished_run):
    assert Predictor.load(finished_run.model_dir, max_length=10**6).max_length == TINY.max_position_embeddings
