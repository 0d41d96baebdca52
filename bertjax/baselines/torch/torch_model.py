"""transformers' torch model of a task with our parameters, trained and evaluated on our batches.

    N texts   T tokens in a text   C texts in a group   L labels

Its loss is ours, written in torch (`torch_losses`): a mean over labels, so that weights count, and no answer is sought
in the padding. Its precision is ours too: bfloat16 is torch's own mixed precision, TF32 its own switch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn import functional

from bertjax.baselines.runners.frameworks import check_head
from bertjax.baselines.torch.padded_texts import Texts, texts_of
from bertjax.baselines.torch.torch_losses import Targets, find_losses, find_scores
from bertjax.batch import UNLABELLED, Batch, LabelsOf, Pretraining
from bertjax.members import find_member
from bertjax.pretrained.convert import to_haiku, to_hugging_face
from bertjax.tasks import Model, Params, find_task, find_torch_task, parameter_shapes, weight_table
from bertjax.training.settings.options import Imbalance

Inputs = dict[str, torch.Tensor]

_SMALLEST_WEIGHT = 1e-30  # of a batch without labels
_GROUPS_AT_ONCE = 32  # in evaluation


def make_module(model: Model, params: Params) -> torch.nn.Module:
    """transformers' model with our parameters and the dropout rates of `model`, parameters in float32.

    Sets, for the whole process, whether torch may round the factors of a product on a GPU (TF32).

    Raises:
      ConfigError: transformers has no such head.
    """
    check_head(model)
    torch.set_float32_matmul_precision("high" if model.config.execution.precision == "tensorfloat32" else "highest")
    row = find_task(model.task)
    labels = {"num_labels": len(model.labels), "problem_type": row.problem_type} if row.names else {}
    member, table = find_member(model.config.model_type), weight_table(model)
    config = getattr(transformers, f"{member.classes}Config")(**model.config.to_hugging_face(), **labels)
    module: torch.nn.Module = getattr(transformers, member.architecture(row.architecture))(config)
    ours = to_hugging_face(params, table)
    for name, parameter in module.named_parameters():
        if table.canonical(name) in ours:
            parameter.data.copy_(torch.tensor(ours[table.canonical(name)]))
        else:  # the pooler of a bare encoder, which our head does not read
            parameter.requires_grad_(False)
    return module.to(device())


def device() -> torch.device:
    """Where PyTorch computes: on the GPU that it sees, else on the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """The same in words."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"


def params_of(module: torch.nn.Module, model: Model) -> Params:
    """The module's parameters as ours, float32 on the host."""
    tensors = {name: value.detach().cpu().numpy() for name, value in module.named_parameters()}
    return to_haiku(tensors, parameter_shapes(model), weight_table(model)).params


def inputs_of(model: Model, texts: Texts) -> Inputs:
    """Arguments of the module: [N, T], or [N / C, C, T] where it takes groups."""
    count, longest = texts.token_ids.shape
    shape = (-1, texts.num_texts, longest) if find_torch_task(model.task).grouped_inputs else (count, longest)
    arrays = {
        "input_ids": texts.token_ids,
        "attention_mask": texts.attention_mask,
        **({"token_type_ids": texts.token_type_ids} if model.config.type_vocab_size else {}),
    }
    return {name: torch.from_numpy(array.reshape(shape)).to(device()) for name, array in arrays.items()}


def logits_of(model: Model, output: Any) -> Any:
    """The logits in a module's output, None of a task whose pooled hidden states are read.

    Returns:
      [N, L] of texts, [N, T, L] of tokens (for spans L = 2, start and end), [N / C, C] of candidates, or `Pretraining`
      of two.
    """
    logits = [output[name] for name in find_torch_task(model.task).outputs]
    if isinstance(find_task(model.task).labels_of, Pretraining):
        return Pretraining(*logits)
    return torch.stack(logits, dim=-1) if len(logits) > 1 else next(iter(logits), None)


def mean_pooled(model: Model, hidden_states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """[N, T, D] -> [N, D], the mean over real tokens, of length 1 where the task has that."""
    mask = attention_mask[..., None].float()
    mean = (hidden_states * mask).sum(1) / mask.sum(1)
    return functional.normalize(mean, dim=-1) if find_task(model.task).unit_vectors else mean


def answers_of(module: torch.nn.Module, model: Model, inputs: Inputs) -> Any:
    """The logits of some texts (`logits_of`), or [N, D] vectors of sentences."""
    output = module(**inputs)
    logits = logits_of(model, output)
    return mean_pooled(model, output.last_hidden_state, inputs["attention_mask"]) if logits is None else logits


def _answers_in_precision(module: torch.nn.Module, model: Model, inputs: Inputs) -> Any:
    """What `answers_of` returns, computed in the model's precision and then in float32."""
    with torch.autocast(device().type, torch.bfloat16, enabled=model.config.execution.precision == "bfloat16"):
        answers = answers_of(module, model, inputs)
    return Pretraining(*(each.float() for each in answers)) if isinstance(answers, Pretraining) else answers.float()


def label_arguments(model: Model, batch: Batch, texts: Texts) -> Inputs:
    """The labels of a batch as arguments of the module, for the loss that transformers has of the task."""

    def tensor(labels_of: LabelsOf, labels: np.ndarray, weights: np.ndarray) -> torch.Tensor:
        values = torch.from_numpy(texts.read(labels_of, labels))
        if labels_of == "tokens":
            values = values.masked_fill(torch.from_numpy(texts.read(labels_of, weights)) == 0, UNLABELLED)
        return (values if values.is_floating_point() else values.long()).to(device())

    names, labels_of = find_torch_task(model.task).label_arguments, find_task(model.task).labels_of
    tensors = [
        tensor(*part) for part in zip(*map(parts_of, (labels_of, batch.labels, batch.example_weights)), strict=True)
    ]
    if len(names) > len(tensors):  # the two ends of a span
        tensors = list(tensors[0].unbind(-1))
    return dict(zip(names, tensors, strict=True))


def parts_of(value: Any) -> tuple[Any, ...]:
    """The two values of `Pretraining`, or the one of any other task."""
    return tuple(value) if isinstance(value, Pretraining) else (value,)


def mean_loss(module: torch.nn.Module, model: Model, batch: Batch, texts: Texts, imbalance: Imbalance) -> torch.Tensor:
    """The mean loss of a batch over its labels, to be differentiated; two means are added up.

    Args:
      module: made from `model`.
      model: ours.
      batch: of the host, in any layout.
      texts: of the batch.
      imbalance: settings of the loss.

    Raises:
      ConfigError: the task's loss has no counterpart in torch.
    """
    inputs, task = inputs_of(model, texts), find_task(model.task)
    answers = _answers_in_precision(module, model, inputs)
    means = []
    for loss, labels_of, of_part, *leaves in zip(
        find_losses(task), *map(parts_of, (task.labels_of, answers, batch.labels, batch.example_weights)), strict=True
    ):
        labels, weights = (torch.from_numpy(texts.read(labels_of, leaf)).to(device()) for leaf in leaves)
        values = loss(of_part, Targets(labels, inputs["attention_mask"], imbalance))
        means.append((values * weights).sum() / weights.sum().clamp(min=_SMALLEST_WEIGHT))
    return torch.stack(means).sum()


def predict(model: Model, batch: Batch, answer: Callable[[Inputs], Any]) -> Any:
    """The scores of a batch, laid out as those of `Task.scores`; 0 where there is no text.

    Texts of nearly one length are computed together, so that little of it is padding whatever the layout.

    Args:
      model: ours.
      batch: of the host.
      answer: inputs -> what `answers_of` returns, as arrays of the host.
    """
    task, (rows, row_length) = find_task(model.task), batch.token_ids.shape
    chunks = texts_of(model, batch).by_length(_GROUPS_AT_ONCE)

    def laid_out(scores_of: LabelsOf, scores: Sequence[np.ndarray]) -> np.ndarray:
        is_tokens = scores_of == "tokens"
        count = row_length if is_tokens else batch.example_starts.shape[1] // chunks[0].num_texts
        leaf = np.zeros((rows, count, *scores[0].shape[2 if is_tokens else 1 :]), np.float32)
        for texts, values in zip(chunks, scores, strict=True):
            texts.write(scores_of, leaf, values)
        return leaf

    def scores(texts: Texts) -> Any:
        answers = answer(inputs_of(model, texts))
        if isinstance(task.labels_of, Pretraining):
            return answers
        return find_scores(task)(answers, texts.read(task.labels_of, batch.labels))

    of_chunks = [parts_of(scores(texts)) for texts in chunks]
    leaves = [laid_out(*part) for part in zip(parts_of(task.scores_of), zip(*of_chunks, strict=True), strict=True)]
    return Pretraining(*leaves) if len(leaves) > 1 else leaves[0]


@torch.inference_mode()
def answer_with(module: torch.nn.Module, model: Model, inputs: Inputs) -> Any:
    """The module's answers without dropout, as arrays of the host."""
    module.eval()
    answers = _answers_in_precision(module, model, inputs)
    if isinstance(answers, Pretraining):
        return Pretraining(*(answer.cpu().numpy() for answer in answers))
    return answers.cpu().numpy()
