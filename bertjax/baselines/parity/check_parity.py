"""Compares the network with transformers' PyTorch model of the same checkpoint, part by part.

Compared are the forward pass (embeddings, each attention, each layer, pooled output, logits), the loss, the gradient of
every parameter, and training runs without dropout. Our batches are padded or packed, PyTorch's always padded.

Some gradients are zero in exact arithmetic (`vanishing_gradients`), so both sides compute rounding noise for them. SGD
leaves it noise, but Adam normalises it to full steps. These gradients are compared relative to the norm of the whole
gradient, and their parameters are left out of the comparison after AdamW.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
import torch

from bertjax.baselines.parity.random_examples import Examples, packed, random_examples
from bertjax.baselines.torch import reference
from bertjax.baselines.torch.padded_texts import Texts
from bertjax.baselines.torch.torch_model import parts_of
from bertjax.batch import Batch
from bertjax.config import BertConfig, Pooling
from bertjax.members.original_bert import BERT
from bertjax.model.heads import BertOutput
from bertjax.pretrained.convert import rules_of, to_hugging_face
from bertjax.tasks import Model, Params, find_task, find_torch_task, make_model, parameter_shapes, weight_table
from bertjax.training.optim.optimizer import make_optimizer
from bertjax.training.settings.options import Optimizer
from bertjax.training.step.train_step import TrainStep, make_train_step
from bertjax.training.train_state import Metrics, TrainState

# Absolute up to numbers of size 1, relative beyond: float32 rounds in proportion, and fine-tuned logits reach 10.
FORWARD_BOUND = 1e-5  # each number of each layer
LOSS_BOUND = 1e-5
LOGITS_BOUND = 1e-4  # at every step of a training run
GRADIENT_BOUND = 1e-4  # relative to a parameter's largest gradient
VANISHING_BOUND = 1e-6  # relative to the norm of the whole gradient, where the exact gradient is zero
SGD_BOUND = 1e-5  # absolute, each parameter after the run
ADAMW_BOUND = 1e-4  # the same; a tenth of what the run's learning rates add up to
STEPS = 20

_EXAMPLES = 8
_LONGEST = 48  # tokens in a text
_SETS = 4  # different batches in a training run, taken in turn
_SGD_RATE = 1e-2
_SGD_CLIP = 1.0  # unclipped, a fine-tuned model's large steps on random texts multiply rounding by 100
_SEED = 0  # of dropout, which is off

Layout = Literal["padded", "packed"]
Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """One line of the table.

    Attributes:
      section: forward, loss, gradient, sgd or adamw.
      layout: of our batch.
      name: of the compared arrays.
      absolute: largest absolute difference.
      relative: `absolute` over the largest number of the reference.
      bound: the largest difference allowed, or None where it is only reported.
      bounded: the difference that the bound is for.
    """

    section: str
    layout: Layout
    name: str
    absolute: float
    relative: float
    bound: float | None
    bounded: Literal["absolute", "relative"] = "absolute"

    @property
    def holds(self) -> bool:
        """Whether it is within its bound; a NaN is not."""
        return self.bound is None or bool(getattr(self, self.bounded) <= self.bound)


def compare(
    section: str,
    layout: Layout,
    name: str,
    ours: Any,
    theirs: Any,
    bound: float | None,
    bounded: Literal["absolute", "relative"] = "absolute",
    scale: float | None = None,
) -> Comparison:
    """The difference of two arrays (or numbers) of one shape; `scale` replaces the reference's largest number."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"{name}: shapes {ours.shape} and {theirs.shape}")
    absolute = float(np.abs(ours - theirs).max())
    largest = float(np.abs(theirs).max()) if scale is None else scale
    return Comparison(section, layout, name, absolute, absolute / max(largest, 1e-30), bound, bounded)


def _bound(bound: float, theirs: Any) -> float:
    """An absolute bound for numbers of this size: `bound` times the largest of the reference, where that exceeds 1."""
    return bound * max(1.0, float(np.abs(theirs).max()))


class _Programs(NamedTuple):
    """Our network without dropout, and what is run of it, each compiled once a shape."""

    model: Model
    forward: Callable[[Params, Batch], BertOutput]
    sgd: TrainStep
    gradient: Callable[[TrainState, Batch], tuple[Params, Metrics]]


class _Pair(NamedTuple):
    """Both networks on the same weights, without dropout."""

    model: Model
    params: Params
    module: torch.nn.Module
    forward: Callable[[Params, Batch], BertOutput]
    gradient: Callable[[TrainState, Batch], tuple[Params, Metrics]]


@lru_cache(maxsize=1)
def _programs(config: BertConfig, task: str, labels: tuple[str, ...], pooling: Pooling | None) -> _Programs:
    """The programs of an architecture. Only the last one's are kept, for its next weights: they hold compiled code,
    which `made_once` is not for."""
    quiet = make_model(config.with_dropout(0.0), task, labels, pooling)
    descent = optax.chain(optax.clip_by_global_norm(_SGD_CLIP), optax.sgd(_SGD_RATE))
    sgd = make_train_step(quiet, descent, find_task(task).loss or _no_loss)
    forward = jax.jit(lambda params, batch: quiet.apply(params, None, batch, True, True, True))
    return _Programs(quiet, forward, sgd, jax.jit(sgd.gradient))


def check_parity(
    model: Model,
    params: Params,
    folder: Path,
    seed: int = 0,
    of_layouts: Sequence[Layout] = ("padded", "packed"),
    trains: bool = True,
) -> Iterator[Comparison]:
    """Compares a network with transformers' model of the checkpoint it was loaded from, in the order of the table.

    Args:
      model: ours, on whatever execution is to be checked.
      params: its parameters.
      folder: the checkpoint.
      seed: of the examples.
      of_layouts: of our batches, for forward pass, loss and gradient.
      trains: whether both are also trained.
    """
    module = reference.load_reference(folder, model, params)
    pooling = model.pooling if find_task(model.task).pooling == "chosen" else None
    quiet, forward, sgd, gradient = _programs(model.config, model.task, model.labels, pooling)
    longest = min(_LONGEST, model.config.max_length)
    sets = [random_examples(model, _EXAMPLES, longest, seed + i) for i in range(_SETS)]
    batches = packed(model, sets)
    of_layout: dict[Layout, Examples] = {"padded": sets[0], "packed": batches[0]}
    layouts: dict[Layout, Examples] = {name: of_layout[name] for name in of_layouts}
    loss = find_task(model.task).loss

    pair = _Pair(quiet, params, module, forward, gradient)
    for layout, examples in layouts.items():
        yield from _forward(pair, sets[0], examples, layout)
    if loss is None:
        return
    for layout, examples in layouts.items():
        yield from _loss_and_gradient(pair, sgd, sets[0], examples.batch, layout)
    if not trains:
        return
    settings = Optimizer().resolved()
    yield from _training("sgd", pair, sgd, reference.make_sgd(module, _SGD_RATE, _SGD_CLIP), sets, batches)
    update = reference.make_adamw(module, model, params, settings, STEPS)
    adamw = make_train_step(quiet, make_optimizer(settings, STEPS, model), loss)
    yield from _training("adamw", pair, adamw, update, sets, batches)


def _no_loss(output: BertOutput, batch: Batch) -> Any:
    raise AssertionError("a bare encoder is not trained")


def vanishing_gradients(model: Model, names: Sequence[str]) -> dict[str, str]:
    """Parameters whose gradient is zero in exact arithmetic, with the reason, by Hugging Face's names.

    The patterns are of the names that BERT has for the same parameters.
    """
    reasons = {r"bert\.encoder\.layer\.\d+\.attention\.self\.key\.bias": "adds one number to all scores of a query"}
    if model.config.max_length == 1:
        reasons[r"bert\.encoder\.layer\.\d+\.attention\.self\.(query|key)\..*"] = "weighs the one token of a text"
    last = str(model.config.num_layers - 1)
    for pattern, reason in find_torch_task(model.task).vanishing_gradients.items():
        reasons[pattern.replace("{last}", last)] = reason
    of_bert = _names_of_bert(model)
    return {
        name: reason
        for name in names
        for pattern, reason in reasons.items()
        if re.fullmatch(pattern, of_bert.get(name, name))
    }


def _names_of_bert(model: Model) -> dict[str, str]:
    """Hugging Face's name of each parameter -> the name that BERT has for the same one."""
    shapes = parameter_shapes(model)
    shared = {module: leaves for module, leaves in shapes.items() if BERT.weights.has(module)}
    theirs = {(rule.module, rule.parameter): rule.hugging_face for rule in rules_of(shared, BERT.weights)}
    return {
        rule.hugging_face: theirs.get((rule.module, rule.parameter), rule.hugging_face)
        for rule in rules_of(shapes, weight_table(model))
    }


def _forward(pair: _Pair, padded: Examples, examples: Examples, layout: Layout) -> Iterator[Comparison]:
    texts, model = examples.texts, pair.model
    real = padded.texts.attention_mask == 1  # [N C, T], of both
    joined = real[:, :, None] & real[:, None, :]
    ours = jax.device_get(pair.forward(pair.params, examples.batch))
    theirs = reference.forward(pair.module, model, padded.texts)

    def line(name: str, left: np.ndarray, right: np.ndarray) -> Comparison:
        return compare("forward", layout, name, left, right, _bound(FORWARD_BOUND, right))

    def states(name: str, i: int) -> Comparison:
        return line(name, texts.read("tokens", ours.hidden_states[i])[real], theirs.hidden_states[i][real])

    yield states("embeddings", 0)
    for i in range(model.config.num_layers):
        left, right = (np.moveaxis(side.attentions[i], 1, -1) for side in (ours, theirs))  # [.., T, T, H]
        left = left[texts.rows[:, None, None], texts.positions[:, :, None], texts.positions[:, None, :]]
        yield line(f"layer {i} attention", left[joined], right[joined])
        yield states(f"layer {i}", i + 1)
    if theirs.pooled_output is not None:
        yield line("pooled output", ours.pooled_output[texts.rows, texts.slots], theirs.pooled_output)
    if theirs.logits is not None:
        left, right = _answers(model, texts, ours), _reference_answers(model, padded.texts, theirs)
        yield line("logits", np.concatenate(left), np.concatenate(right))


def _answers(model: Model, texts: Texts, output: BertOutput) -> list[np.ndarray]:
    """Our logits, one array for each decision: a label, a span's end, a choice."""
    if output.logits is None:
        assert output.pooled_output is not None
        return list(np.asarray(output.pooled_output)[texts.rows, texts.slots])
    parts = zip(parts_of(find_task(model.task).scores_of), parts_of(output.logits), strict=True)
    return _decisions(model, texts, [texts.read(scores_of, logits) for scores_of, logits in parts])


def _reference_answers(model: Model, texts: Texts, theirs: reference.Forward) -> list[np.ndarray]:
    """The reference's, in the same order."""
    return list(theirs.pooled_output) if theirs.logits is None else _decisions(model, texts, parts_of(theirs.logits))


def _decisions(model: Model, texts: Texts, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """[N, ...] of examples or [N, T, ...] of tokens, for each of the task's parts -> an array for each decision."""
    task, real = find_task(model.task), texts.attention_mask == 1
    if task.scores_of != task.labels_of:  # spans
        return [side for logits, is_real in zip(parts[0], real, strict=True) for side in logits[is_real].T]
    return [
        np.atleast_1d(answer)  # a replaced token has one score
        for scores_of, logits in zip(parts_of(task.scores_of), parts, strict=True)
        for answer in (logits[real] if scores_of == "tokens" else logits)
    ]


def _loss_and_gradient(
    pair: _Pair, step: TrainStep, padded: Examples, batch: Batch, layout: Layout
) -> Iterator[Comparison]:
    grads, metrics = pair.gradient(_without_optimizer(step.init(pair.params, jax.random.PRNGKey(_SEED))), batch)
    pair.module.zero_grad()
    loss = reference.loss_of(pair.module, pair.model, padded)
    loss.backward()
    yield compare("loss", layout, "loss", metrics["loss"], loss.item(), _bound(LOSS_BOUND, loss.item()))
    ours, theirs = to_hugging_face(grads, weight_table(pair.model)), reference.gradients_of(pair.module, pair.model)
    norm = float(np.sqrt(sum(np.square(theirs[name], dtype=np.float64).sum() for name in ours)))
    vanishing = vanishing_gradients(pair.model, list(ours))
    for name, value in ours.items():
        bound, scale = (VANISHING_BOUND, norm) if name in vanishing else (GRADIENT_BOUND, None)
        yield compare("gradient", layout, name, value, theirs[name], bound, "relative", scale)


def _without_optimizer(state: TrainState) -> TrainState:
    """The part of a state that a gradient reads, so that one program serves every optimizer."""
    return state._replace(opt_state=())


def _training(
    name: str,
    pair: _Pair,
    step: TrainStep,
    update_reference: Callable[[int], None],
    sets: list[Examples],
    batches: list[Examples],
) -> Iterator[Comparison]:
    """Trains both from the same parameters, ours on packed batches; the reference is left as it was."""
    before = {key: value.clone() for key, value in pair.module.state_dict().items()}
    pair.module.zero_grad()
    update, state = jax.jit(step.update), step.init(pair.params, jax.random.PRNGKey(_SEED))
    losses: list[tuple[float, float]] = []
    answers: list[tuple[np.ndarray, np.ndarray]] = []
    for number in range(STEPS):
        grads, metrics = pair.gradient(_without_optimizer(state), batches[number % len(batches)].batch)
        state, _ = update(state, grads, metrics["loss"])
        loss = reference.loss_of(pair.module, pair.model, sets[number % len(sets)])
        loss.backward()
        update_reference(number)
        losses.append((float(metrics["loss"]), loss.item()))
        ours = _answers(pair.model, batches[0].texts, jax.device_get(pair.forward(state.params, batches[0].batch)))
        texts = sets[0].texts
        theirs = _reference_answers(pair.model, texts, reference.forward(pair.module, pair.model, texts))
        answers.append((_comparable(pair.model, ours), _comparable(pair.model, theirs)))
    for what, pairs, bound in (("loss at", losses, LOSS_BOUND), ("logits after", answers, LOGITS_BOUND)):
        left, right = map(np.stack, zip(*pairs, strict=True))
        yield compare(name, "packed", f"{what} each of {STEPS} steps", left, right, _bound(bound, right))
    yield _trained_parameters(name, pair, to_hugging_face(jax.device_get(state.params), weight_table(pair.model)))
    pair.module.load_state_dict(before)


def _comparable(model: Model, answers: list[np.ndarray]) -> np.ndarray:
    """Answers as one array. A span or a choice is a softmax over scores, which a common number does not change:
    that number moves with parameters whose gradient vanishes, and is taken off."""
    if find_torch_task(model.task).vanishing_gradients:
        answers = [scores - scores.mean() for scores in answers]
    return np.concatenate(answers)


def _trained_parameters(name: str, pair: _Pair, ours: Tensors) -> Comparison:
    theirs = reference.parameters_of(pair.module, pair.model)
    left_out = vanishing_gradients(pair.model, list(ours)) if name == "adamw" else {}
    kept = [key for key in ours if key not in left_out]
    worst = max(kept, key=lambda key: float(np.abs(ours[key] - theirs[key]).max()))
    bound = SGD_BOUND if name == "sgd" else ADAMW_BOUND
    return compare(name, "packed", f"parameters after {STEPS} steps, worst {worst}", ours[worst], theirs[worst], bound)
