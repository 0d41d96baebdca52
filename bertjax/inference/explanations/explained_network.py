"""`ExplainedNetwork`: one number that a network says of a text, its gradients, and where its attention looks.

    B rows   T tokens in a row   D hidden size   H heads   N layers

It computes in float32 with plain attention, whatever the execution of the model, one text a row, in one shape for each
of a few row lengths; each compiles when it is first met.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bertjax.batch import Batch, padded_batch
from bertjax.config import Execution
from bertjax.devices.data_parallel import Devices
from bertjax.model.heads import BertOutput
from bertjax.model.layers import look_up
from bertjax.model.precision import in_32_bits
from bertjax.prediction.batcher import row_length_of
from bertjax.tasks import Model, Params, make_model
from bertjax.tasks.readout import Readout

_TOKENS = 2048  # of a batch
_FEWEST_ROWS, _MOST_ROWS = 4, 16
_WORDS = ("bert/embeddings/word", "embeddings")  # path of the table of word embeddings


class Question(NamedTuple):
    """A number that is asked of a text: the sum of some outputs of the network.

    Attributes:
      token_ids, token_type_ids: [T] int32, the text with its special tokens.
      terms: (token that an output is of, which of the outputs there); the token is 0 where it is of the whole text.
    """

    token_ids: np.ndarray
    token_type_ids: np.ndarray
    terms: tuple[tuple[int, int], ...]


class _Asked(NamedTuple):
    """Questions as the rows of a batch.

    Attributes:
      batch: the texts.
      positions, outputs: [B, P] of the terms; rows of fewer terms have others behind them.
      counts: [B, P] 1 for a term, 0 for what is none.
    """

    batch: Batch
    positions: Any
    outputs: Any
    counts: Any


class _OnPath(NamedTuple):
    """Rows on the straight lines between the embeddings of baselines and of texts.

    Attributes:
      asked: of the texts.
      baseline_ids: [B, T] tokens of the baselines.
      shares: [B] how far from the baseline (0) to the text (1).
    """

    asked: _Asked
    baseline_ids: Any
    shares: Any


class ExplainedNetwork:
    """A network that is asked for single numbers; several threads may ask."""

    def __init__(self, devices: Devices, params: Params, model: Model, readout: Readout):
        """Compiles nothing yet.

        Args:
          devices: where it computes.
          params: placed on them.
          model: the network.
          readout: how it is read for its answers.
        """
        plain = make_model(replace(model.config, execution=Execution()), model.task, model.labels, model.pooling)
        read = partial(_read, readout)
        of_all_tokens = readout.scores_of == "examples" and model.pooling == "mean"
        self._devices, self._params = devices, params
        self._scores = self._mapped(partial(_score, plain, read))
        self._gradients = self._mapped(partial(_gradient, plain, read))
        self._attention = self._mapped(partial(_flow, plain, of_all_tokens))

    def scores(self, questions: Sequence[Question]) -> np.ndarray:
        """The number that each question asks for: [n] float64."""
        rows = self._computed(self._scores, questions, lambda asked, numbers: asked)
        return np.array([float(score) for (score,) in rows])

    def gradients(
        self, questions: Sequence[Question], baselines: Sequence[np.ndarray], shares: Sequence[float]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """The numbers on the lines between baselines and texts, and their slopes along these lines.

        Args:
          questions: of the texts.
          baselines: tokens of each, as many as the text's.
          shares: where on its line each is asked, from 0 (the baseline) to 1 (the text).

        Returns:
          The numbers, [n] float64; the slopes, for each question [T] what each of its tokens adds to them.
        """

        def on_path(asked: _Asked, numbers: Sequence[int]) -> _OnPath:
            length = asked.batch.token_ids.shape[1]
            tokens = _padded([baselines[i] for i in numbers], length)
            return _OnPath(asked, tokens, np.array([shares[i] for i in numbers], np.float32))

        rows = self._computed(self._gradients, questions, on_path)
        slopes = [slope[: len(question.token_ids)] for (_, slope), question in zip(rows, questions, strict=True)]
        return np.array([float(score) for score, _ in rows]), slopes

    def attention_flow(self, questions: Sequence[Question]) -> list[np.ndarray]:
        """For each question [T], how much of what is read of the text comes from each token by attention roll-out."""
        rows = self._computed(self._attention, questions, lambda asked, numbers: asked)
        return [flow[: len(question.token_ids)] for (flow,), question in zip(rows, questions, strict=True)]

    def _computed(
        self, program: Callable[..., Any], questions: Sequence[Question], inputs: Callable[[_Asked, Sequence[int]], Any]
    ) -> list[tuple[np.ndarray, ...]]:
        """What a program gives for each question, where `inputs` makes its input of rows and of their questions'
        numbers."""
        results: list[tuple[np.ndarray, ...]] = [()] * len(questions)
        for length, numbers in self._batches(questions):
            rows = self._rows(length)
            repeated = [*numbers, *[numbers[-1]] * (rows - len(numbers))]
            dealt = self._devices.deal(inputs(_asked([questions[i] for i in repeated], length), repeated))
            computed = jax.device_get(self._devices.collect(program(self._params, dealt)))
            for number, *of_row in zip(numbers, *computed, strict=False):  # repeated rows are left out
                results[number] = tuple(of_row)
        return results

    def _mapped(self, function: Callable[[Params, Any], Any]) -> Callable[..., Any]:
        program: Callable[..., Any] = self._devices.map(in_32_bits()(function), summed=False)
        return program

    def _batches(self, questions: Sequence[Question]) -> Iterator[tuple[int, list[int]]]:
        """(row length, numbers of the questions) of each batch."""
        lengths = [row_length_of(len(question.token_ids)) for question in questions]
        by_length = sorted(range(len(questions)), key=lengths.__getitem__)
        for length, of_length in groupby(by_length, key=lengths.__getitem__):
            numbers, rows = list(of_length), self._rows(length)
            yield from ((length, numbers[start : start + rows]) for start in range(0, len(numbers), rows))

    def _rows(self, length: int) -> int:
        """Rows of a batch of a row length, a multiple of the devices."""
        rows = min(max(_TOKENS // length, _FEWEST_ROWS), _MOST_ROWS)
        return -(-rows // self._devices.count) * self._devices.count


def _asked(questions: Sequence[Question], length: int) -> _Asked:
    masks = _padded([np.ones_like(question.token_ids) for question in questions], length)
    batch = padded_batch(
        attention_mask=masks,
        token_ids=_padded([question.token_ids for question in questions], length),
        token_type_ids=_padded([question.token_type_ids for question in questions], length),
    )
    terms = [np.array(question.terms, np.int32).reshape(-1, 2) for question in questions]
    most = max(1, *map(len, terms))
    width = 1 << (most - 1).bit_length()  # a few shapes
    positions, outputs = (_padded([of_row[:, i] for of_row in terms], width) for i in range(2))
    counts = _padded([np.ones(len(of_row), np.int32) for of_row in terms], width)
    return _Asked(batch, positions, outputs, counts.astype(np.float32))


def _padded(of_rows: Sequence[np.ndarray], length: int) -> np.ndarray:
    padded = np.zeros((len(of_rows), length), np.int32)
    for row, values in zip(padded, of_rows, strict=True):
        row[: len(values)] = values
    return padded


def _read(readout: Readout, output: BertOutput, asked: _Asked) -> Float[Array, " B"]:
    """The number that each row asks for."""
    scores = readout.scores(output, asked.batch)  # [B, 1, L] of texts, [B, T, L] of tokens
    terms = scores[jnp.arange(scores.shape[0])[:, None], asked.positions, asked.outputs]
    return (terms * asked.counts).sum(axis=-1)


def _score(model: Model, read: Callable[..., Array], params: Params, asked: _Asked) -> tuple[Float[Array, " B"]]:
    return (read(model.apply(params, None, asked.batch), asked),)


def _gradient(
    model: Model, read: Callable[..., Array], params: Params, on_path: _OnPath
) -> tuple[Float[Array, " B"], Float[Array, "B T"]]:
    """The number of each row, and what each token's way to its embedding adds to it there."""
    module, name = _WORDS
    table, asked = params[module][name], on_path.asked
    baseline = look_up(table, on_path.baseline_ids)  # [B, T, D]
    way = look_up(table, asked.batch.token_ids) - baseline

    def total(embeddings: Float[Array, "B T D"]) -> tuple[Array, Array]:
        scores = read(model.apply(params, None, asked.batch, word_embeddings=embeddings), asked)
        return scores.sum(), scores

    here = baseline + on_path.shares[:, None, None] * way
    (_, scores), gradients = jax.value_and_grad(total, has_aux=True)(here)
    return scores, (gradients * way).sum(axis=-1)


def _flow(model: Model, of_all_tokens: bool, params: Params, asked: _Asked) -> tuple[Float[Array, "B T"]]:
    """Attention roll-out (Abnar and Zuidema 2020): each layer takes half of a token from where its heads look, on
    average, and half from the token itself. From the last layer to the first, only for what is read."""
    attentions = model.apply(params, None, asked.batch, return_attentions=True).attentions
    assert attentions is not None, "requested"
    mixed = 0.5 * attentions.mean(axis=2) + 0.5 * jnp.eye(attentions.shape[-1])[None, None]  # [N, B, T, T]
    real = (asked.batch.segment_ids != 0).astype(mixed.dtype)
    if of_all_tokens:
        flow = real / real.sum(axis=-1, keepdims=True)
    else:
        of_terms = jax.nn.one_hot(asked.positions, real.shape[-1], dtype=mixed.dtype)  # [B, P, T]
        shares = asked.counts / jnp.maximum(asked.counts.sum(axis=-1, keepdims=True), 1)
        flow = jnp.einsum("BP,BPT->BT", shares, of_terms)
    for layer in mixed[::-1]:
        flow = jnp.einsum("BT,BTS->BS", flow, layer)
    return (flow,)
