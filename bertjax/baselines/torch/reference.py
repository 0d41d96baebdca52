"""transformers' torch model of a task: loaded on its own from the same checkpoint, run, differentiated and trained.

It shares nothing with our loader: only parameters that the checkpoint lacks are copied from ours.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
import transformers
from torch.nn import functional

from bertjax import losses
from bertjax.baselines.parity.random_examples import Examples
from bertjax.baselines.torch.torch_losses import cosine
from bertjax.baselines.torch.torch_model import logits_of, mean_pooled
from bertjax.batch import Pretraining
from bertjax.pretrained.convert import canonical_name, to_hugging_face
from bertjax.tasks import Model, Params, find_task, find_torch_task

Tensors = dict[str, np.ndarray]


def load_reference(folder: Path, model: Model, params: Params) -> torch.nn.Module:
    """transformers' model of a checkpoint, in float32, with attention computed as written in the paper.

    Args:
      folder: of the checkpoint.
      model: ours, for the task and the number of labels.
      params: ours, for parameters that the checkpoint lacks.
    """
    row = find_task(model.task)
    transformers.utils.logging.disable_progress_bar()
    quiet = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # what is missing is filled in below
    try:
        module, info = getattr(transformers, row.architecture).from_pretrained(
            folder,
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **({"num_labels": len(model.labels), "problem_type": row.problem_type} if row.names else {}),
        )
    finally:
        transformers.utils.logging.set_verbosity(quiet)
    # A tensor of another shape (the head of other labels) is reported as (name, its shape, the model's shape).
    absent = {*info["missing_keys"], *(mismatch[0] for mismatch in info["mismatched_keys"])}
    ours = to_hugging_face(params)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in absent and canonical_name(name) in ours:
                parameter.copy_(torch.tensor(ours[canonical_name(name)]))
    return module.eval()  # without dropout


def parameters_of(module: torch.nn.Module) -> Tensors:
    """Its parameters by the names of our weight table; a tied one once."""
    return {canonical_name(name): value.detach().numpy().copy() for name, value in module.named_parameters()}


def gradients_of(module: torch.nn.Module) -> Tensors:
    """The gradients that `backward` left, 0 where it left none."""
    return {
        canonical_name(name): np.zeros(value.shape, np.float32) if value.grad is None else value.grad.numpy().copy()
        for name, value in module.named_parameters()
    }


class Forward(NamedTuple):
    """The outputs of the model for padded texts.

    Attributes:
      hidden_states: for the embeddings and each layer [N C, T, D].
      attentions: for each layer [N C, H, T, T].
      pooled_output: [N C, D], or None where the head reads tokens.
      logits: as the task has them, or None.
    """

    hidden_states: list[np.ndarray]
    attentions: list[np.ndarray]
    pooled_output: Any
    logits: Any


def forward(module: torch.nn.Module, model: Model, examples: Examples) -> Forward:
    """Runs the model on padded texts."""
    encoder: Any = getattr(module, "bert", module)
    pooled: list[torch.Tensor] = []
    reads_pooler = model.pooling == "pooler" and find_task(model.task).pooling is not None
    hook = encoder.pooler.register_forward_hook(lambda *call: pooled.append(call[-1])) if reads_pooler else None
    with torch.no_grad():
        output = module(**_inputs(model, examples), output_hidden_states=True, output_attentions=True)
        logits = jax.tree.map(torch.Tensor.numpy, logits_of(model, output))
        if not reads_pooler and find_task(model.task).pooling is not None:
            pooled.append(_pooled(model, output.hidden_states[-1], examples))
    if hook is not None:
        hook.remove()
    return Forward(
        [state.numpy() for state in output.hidden_states],
        [weights.numpy() for weights in output.attentions],
        pooled[0].numpy() if pooled else None,
        logits,
    )


def loss_of(module: torch.nn.Module, model: Model, examples: Examples) -> torch.Tensor:
    """transformers' own loss of the task, where it has one."""
    if find_task(model.task).loss is losses.cosine_error:
        hidden = module(**_inputs(model, examples)).last_hidden_state
        cosines = cosine(_pooled(model, hidden, examples))
        return functional.mse_loss(cosines, torch.tensor(examples.labels))
    if find_task(model.task).loss is losses.span_cross_entropy:
        # Its softmax runs over padding as well, so each text is passed alone.
        return torch.stack([_span_loss(module, model, examples, i) for i in range(len(examples.token_ids))]).mean()
    return module(**_inputs(model, examples), **_label_arguments(model, examples.labels)).loss


def _span_loss(module: torch.nn.Module, model: Model, examples: Examples, i: int) -> torch.Tensor:
    ends = torch.tensor(np.asarray(examples.labels[i])).long()
    alone = {name: value[i : i + 1, : examples.lengths[i]] for name, value in _inputs(model, examples).items()}
    arguments = dict(zip(find_torch_task(model.task).label_arguments, ends[:, None], strict=True))
    return module(**alone, **arguments).loss


def _inputs(model: Model, examples: Examples) -> dict[str, torch.Tensor]:
    """[N, C, T] for multiple choice, else [N C, T]."""
    names = {
        "input_ids": examples.token_ids,
        "attention_mask": examples.attention_mask,
        "token_type_ids": examples.token_type_ids,
    }
    flat = not find_torch_task(model.task).grouped_inputs
    return {
        name: torch.tensor(value.reshape(-1, value.shape[-1]) if flat else value).long()
        for name, value in names.items()
    }


def _label_arguments(model: Model, labels: np.ndarray | Pretraining) -> dict[str, torch.Tensor]:
    parts = labels if isinstance(labels, Pretraining) else (labels,)
    tensors = [torch.tensor(part) if part.dtype.kind == "f" else torch.tensor(part).long() for part in parts]
    return dict(zip(find_torch_task(model.task).label_arguments, tensors, strict=True))


def _pooled(model: Model, hidden: torch.Tensor, examples: Examples) -> torch.Tensor:
    """The poolings that transformers leaves to its user."""
    if model.pooling == "cls":
        return hidden[:, 0]
    mask = torch.tensor(examples.attention_mask.reshape(-1, examples.attention_mask.shape[-1]))
    return mean_pooled(model, hidden, mask)


def make_sgd(module: torch.nn.Module, learning_rate: Callable[[int], float]) -> Callable[[int], None]:
    """Plain gradient descent: step number -> one update from the present gradients."""
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    return lambda step: _update(optimizer, learning_rate(step))


def make_adamw(
    module: torch.nn.Module,
    learning_rate: Callable[[int], float],
    decayed: Mapping[str, bool],
    settings: Any,
) -> Callable[[int], None]:
    """AdamW with clipping: step number -> one update from the present gradients.

    Args:
      module: to train.
      learning_rate: step -> rate.
      decayed: by the names of our weight table, whether weight decay applies.
      settings: bertjax's `Optimizer`.
    """
    named = [(canonical_name(name), parameter) for name, parameter in module.named_parameters()]
    named = [(name, parameter) for name, parameter in named if name in decayed]
    groups = [
        {"params": [parameter for name, parameter in named if decayed[name]], "weight_decay": settings.weight_decay},
        {"params": [parameter for name, parameter in named if not decayed[name]], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(settings.b1, settings.b2), eps=settings.eps)

    def update(step: int) -> None:
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_([parameter for _, parameter in named], settings.clip_norm)
        _update(optimizer, learning_rate(step))

    return update


def _update(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()
