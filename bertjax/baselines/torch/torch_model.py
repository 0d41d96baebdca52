"""transformers' torch model of a task with our parameters, trained and asked on our batches.

    N texts   T tokens in a text   C texts in a group   L labels

Its loss is ours, written in torch: a mean over what is labelled, so that weights count, and no answer is looked for in
the padding. Its precision is ours too: bfloat16 is torch's own mixed precision, TF32 its own switch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn import functional

from bertjax.baselines.runners.frameworks import check_head
from bertjax.baselines.torch.padded_texts import Level, Texts, level_of, texts_of
from bertjax.batch import UNLABELLED, Batch, Pretraining
from bertjax.pretrained.convert import canonical_name, to_haiku, to_hugging_face
from bertjax.tasks import Model, Params, find_task, parameter_shapes
from bertjax.training.settings.options import Imbalance

Inputs = dict[str, torch.Tensor]

_LEAST_DOUBT = 1e-7  # as in `losses`
_GROUPS_AT_ONCE = 32  # in evaluation


def make_module(model: Model, params: Params) -> torch.nn.Module:
    """transformers' model with our parameters and the dropout rates of `model`, parameters in float32.

    Tells torch, for the whole process, whether a GPU may round what it multiplies (TF32).

    Raises:
      ConfigError: transformers has no such head.
    """
    check_head(model)
    torch.set_float32_matmul_precision("high" if model.config.execution.precision == "tensorfloat32" else "highest")
    row = find_task(model.task)
    labels = {"num_labels": len(model.labels), "problem_type": row.problem_type} if row.names else {}
    config = transformers.BertConfig(**model.config.to_hugging_face(), **labels)
    module: torch.nn.Module = getattr(transformers, row.architecture)(config)
    ours = to_hugging_face(params)
    for name, parameter in module.named_parameters():
        if canonical_name(name) in ours:
            parameter.data.copy_(torch.tensor(ours[canonical_name(name)]))
        else:  # the pooler of a bare BertModel, which our head does not read
            parameter.requires_grad_(False)
    return module.to(device())


def device() -> torch.device:
    """Where PyTorch computes: on the GPU that it sees, else on the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """The same in words."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def params_of(module: torch.nn.Module, model: Model) -> Params:
    """The module's parameters as ours, float32 on the host."""
    tensors = {name: value.detach().cpu().numpy() for name, value in module.named_parameters()}
    return to_haiku(tensors, parameter_shapes(model)).params


def inputs_of(model: Model, texts: Texts) -> Inputs:
    """Arguments of the module: [N, T], or [N / C, C, T] where it takes groups."""
    count, longest = len(texts.token_ids), texts.token_ids.shape[1]
    shape = (-1, texts.num_texts, longest) if model.task == "multiple_choice" else (count, longest)
    arrays = {
        "input_ids": texts.token_ids,
        "attention_mask": texts.attention_mask,
        "token_type_ids": texts.token_type_ids,
    }
    return {name: torch.from_numpy(array.reshape(shape)).to(device()) for name, array in arrays.items()}


def answers_of(module: torch.nn.Module, model: Model, inputs: Inputs) -> Any:
    """What the head says of some texts.

    Returns:
      [N, L] of texts, [N, T, L] of tokens (for spans L = 2, start and end), [N / C, C] of candidates, [N, D] vectors of
      sentences, or `Pretraining` of two.
    """
    output = module(**inputs)
    if model.task == "pretraining":
        return Pretraining(output.prediction_logits, output.seq_relationship_logits)
    if model.task == "question_answering":
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    if model.task == "sentence_embedding":
        mask = inputs["attention_mask"][..., None].float()
        return functional.normalize((output.last_hidden_state * mask).sum(1) / mask.sum(1), dim=-1)
    return output.logits


def _answers_in_precision(module: torch.nn.Module, model: Model, inputs: Inputs) -> Any:
    """What `answers_of` returns, computed in the model's precision and then in float32."""
    with torch.autocast(device().type, torch.bfloat16, enabled=model.config.execution.precision == "bfloat16"):
        answers = answers_of(module, model, inputs)
    return Pretraining(*(each.float() for each in answers)) if isinstance(answers, Pretraining) else answers.float()


def labels_of(model: Model, batch: Batch, texts: Texts) -> Inputs:
    """The labels of a batch as arguments of the module, for the loss that transformers has of the task."""

    def tensor(level: Level, labels: np.ndarray, weights: np.ndarray) -> torch.Tensor:
        values = torch.from_numpy(texts.read(level, labels))
        if level == "token":
            values = values.masked_fill(torch.from_numpy(texts.read(level, weights)) == 0, UNLABELLED)
        return (values if values.is_floating_point() else values.long()).to(device())

    labels, weights = batch.labels, batch.example_weights
    if model.task == "pretraining":
        return {
            "labels": tensor("token", labels.masked_lm, weights.masked_lm),
            "next_sentence_label": tensor("text", labels.next_sentence, weights.next_sentence),
        }
    values = tensor(level_of(model.task), labels, weights)
    if model.task == "question_answering":
        return {"start_positions": values[:, 0], "end_positions": values[:, 1]}
    return {"labels": values}


def mean_loss(module: torch.nn.Module, model: Model, batch: Batch, texts: Texts, imbalance: Imbalance) -> torch.Tensor:
    """The mean loss of a batch over what is labelled, to be differentiated.

    Args:
      module: made from `model`.
      model: ours.
      batch: of the host, in any layout.
      texts: of the batch.
      imbalance: settings of the loss.
    """
    inputs = inputs_of(model, texts)
    answers = _answers_in_precision(module, model, inputs)

    def mean(level: Level, losses: Callable[[torch.Tensor], torch.Tensor], labels: Any, weights: Any) -> torch.Tensor:
        wanted, counted = (torch.from_numpy(texts.read(level, leaf)).to(device()) for leaf in (labels, weights))
        return (losses(wanted) * counted).sum() / counted.sum().clamp(min=1e-30)

    labels, weights = batch.labels, batch.example_weights
    if model.task == "pretraining":
        words = partial(_cross_entropy, answers.masked_lm, imbalance=imbalance)
        sentences = partial(_cross_entropy, answers.next_sentence, imbalance=imbalance)
        return mean("token", words, labels.masked_lm, weights.masked_lm) + mean(
            "text", sentences, labels.next_sentence, weights.next_sentence
        )
    mask = inputs["attention_mask"]
    losses = partial(_losses, model.task, answers, attention_mask=mask, imbalance=imbalance)
    return mean(level_of(model.task), losses, labels, weights)


def _losses(
    task: str, answers: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor, imbalance: Imbalance
) -> torch.Tensor:
    """One number for each label; `bertjax.losses` says what they are."""
    if task == "multi_label":
        return functional.binary_cross_entropy_with_logits(answers, labels.float(), reduction="none").mean(-1)
    if task == "regression":
        return (answers - labels.reshape(answers.shape)).square().mean(-1)
    if task == "sentence_embedding":
        return ((answers[0::2] * answers[1::2]).sum(-1) - labels).square()
    if task == "question_answering":
        scores = answers.masked_fill(attention_mask[..., None] == 0, torch.finfo(answers.dtype).min)  # [N, T, 2]
        return functional.cross_entropy(scores, labels.long(), reduction="none").mean(-1)
    return _cross_entropy(answers, labels, imbalance)


def _cross_entropy(answers: torch.Tensor, labels: torch.Tensor, imbalance: Imbalance) -> torch.Tensor:
    """Over the last axis of the answers, softened and weighed as in `losses.imbalanced_cross_entropy`."""
    flat, wanted = answers.flatten(0, -2), labels.long().flatten()
    losses = functional.cross_entropy(flat, wanted, reduction="none", label_smoothing=imbalance.label_smoothing)
    if imbalance.focal_gamma:
        of_label = functional.log_softmax(flat, dim=-1).gather(1, wanted[:, None])[:, 0]
        losses = losses * (-torch.expm1(of_label)).clamp(min=_LEAST_DOUBT) ** imbalance.focal_gamma
    return losses.reshape(labels.shape)


def predict(model: Model, batch: Batch, answer: Callable[[Inputs], Any]) -> Any:
    """What a head says of a batch, laid out as `Task.scores` has it; 0 where there is no text.

    Texts of nearly one length are computed together, so that little of it is padding whatever the layout.

    Args:
      model: ours.
      batch: of the host.
      answer: inputs -> what `answers_of` returns, as arrays of the host.
    """
    rows, row_length = batch.token_ids.shape
    num_slots = batch.example_starts.shape[1]
    chunks = texts_of(model, batch).by_length(_GROUPS_AT_ONCE)

    def packed_batch(level: Level, answers: list[np.ndarray]) -> np.ndarray:
        count = {"token": row_length, "text": num_slots, "group": num_slots // chunks[0].num_texts}[level]
        leaf = np.zeros((rows, count, *answers[0].shape[2 if level == "token" else 1 :]), np.float32)
        for texts, values in zip(chunks, answers, strict=True):
            texts.write(level, leaf, values)
        return leaf

    answers = [_scored(model, batch, texts, answer(inputs_of(model, texts))) for texts in chunks]
    if model.task == "pretraining":
        words, sentences = zip(*answers, strict=True)
        return Pretraining(packed_batch("token", list(words)), packed_batch("text", list(sentences)))
    if model.task == "question_answering":  # an answer is looked for among tokens, its label is of a text
        return packed_batch("token", answers)
    return packed_batch(level_of(model.task), answers)


def _scored(model: Model, batch: Batch, texts: Texts, answers: Any) -> Any:
    """What evaluation reads of a head's answers (`Task.scores`)."""
    if model.task == "sentence_embedding":
        return (answers[0::2] * answers[1::2]).sum(-1)
    if model.task == "masked_lm":
        words, logits = torch.from_numpy(texts.read("token", batch.labels)).long(), torch.from_numpy(answers)
        losses = functional.cross_entropy(logits.flatten(0, 1), words.flatten(), reduction="none")
        return torch.stack([losses.reshape(words.shape), (logits.argmax(-1) == words).float()], dim=-1).numpy()
    return answers


@torch.no_grad()
def answer_with(module: torch.nn.Module, model: Model, inputs: Inputs) -> Any:
    """The module's answers without dropout, as arrays of the host."""
    module.eval()
    answers = _answers_in_precision(module, model, inputs)
    if isinstance(answers, Pretraining):
        return Pretraining(*(answer.cpu().numpy() for answer in answers))
    return answers.cpu().numpy()
