"""transformers' torch model of a task: loaded on its own from the same checkpoint, run, differentiated and trained.

It shares nothing with our loader: only parameters that the checkpoint lacks are copied from ours.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from torch.nn import functional

from bertjax import losses
from bertjax.baselines.parity.random_examples import Examples
from bertjax.baselines.torch.padded_texts import Texts
from bertjax.baselines.torch.torch_losses import cosine
from bertjax.baselines.torch.torch_model import Inputs, inputs_of, label_arguments, logits_of, mean_pooled
from bertjax.members import find_member
from bertjax.model.lora import is_adapter
from bertjax.model_folder.adapter_folder import peft_names
from bertjax.pretrained.convert import rules_of, to_hugging_face
from bertjax.tasks import Model, Params, find_task, weight_table
from bertjax.training.optim.optimizer import decay_mask
from bertjax.training.optim.param_filters import frozen_paths
from bertjax.training.optim.schedules import learning_rate_schedule

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
        architecture = find_member(model.config.model_type).architecture(row.architecture)
        module, info = getattr(transformers, architecture).from_pretrained(
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
    table = weight_table(model)
    ours = to_hugging_face(params, table)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in absent and table.canonical(name) in ours:
                parameter.copy_(torch.tensor(ours[table.canonical(name)]))
    return module.eval()  # without dropout


def parameters_of(module: torch.nn.Module, model: Model) -> Tensors:
    """Its parameters by the names of our weight table; a tied one once."""
    canonical = weight_table(model).canonical
    return {canonical(name): value.detach().numpy().copy() for name, value in module.named_parameters()}


def gradients_of(module: torch.nn.Module, model: Model) -> Tensors:
    """The gradients that `backward` left, 0 where it left none."""
    canonical = weight_table(model).canonical
    return {
        canonical(name): np.zeros(value.shape, np.float32) if value.grad is None else value.grad.numpy().copy()
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


def forward(module: torch.nn.Module, model: Model, texts: Texts) -> Forward:
    """Runs the model on padded texts."""
    inputs = _on_cpu(inputs_of(model, texts))
    pooled: list[torch.Tensor] = []
    reads_pooler = model.pooling == "pooler" and find_task(model.task).pooling is not None
    hook = _on_pooled(module, model, pooled.append) if reads_pooler else None
    with torch.no_grad():
        output = module(**inputs, output_hidden_states=True, output_attentions=True)
        logits = jax.tree.map(torch.Tensor.numpy, logits_of(model, output))
        if not reads_pooler and find_task(model.task).pooling is not None:
            pooled.append(_pooled(model, output.hidden_states[-1], inputs))
    if hook is not None:
        hook.remove()
    return Forward(
        [state.numpy() for state in output.hidden_states],
        [weights.numpy() for weights in output.attentions],
        pooled[0].numpy() if pooled else None,
        logits,
    )


def _on_pooled(module: torch.nn.Module, model: Model, take: Callable[[torch.Tensor], None]) -> Any:
    """A hook that takes the pooled output: of the encoder's pooler, or, without one, what the classifier reads."""
    base: Any = module.base_model
    if getattr(base, "pooler", None) is not None:
        return base.pooler.register_forward_hook(lambda *call: take(call[-1]))
    rules = rules_of({"classifier": {"w": None}}, weight_table(model))
    classifier = module.get_submodule(next(rules).hugging_face.removesuffix(".weight"))
    return classifier.register_forward_pre_hook(lambda _, inputs: take(inputs[0]))


def loss_of(module: torch.nn.Module, model: Model, examples: Examples) -> torch.Tensor:
    """transformers' own loss of the task, where it has one."""
    texts, batch, task = examples.texts, examples.batch, find_task(model.task)
    if task.loss is losses.cosine_error:
        inputs = _on_cpu(inputs_of(model, texts))
        cosines = cosine(_pooled(model, module(**inputs).last_hidden_state, inputs))
        return functional.mse_loss(cosines, torch.tensor(texts.read("examples", batch.labels)))

    def of(texts: Texts) -> torch.Tensor:
        return module(**_on_cpu({**inputs_of(model, texts), **label_arguments(model, batch, texts)})).loss

    if task.loss is losses.span_cross_entropy:
        # Its softmax runs over padding as well, so each text is passed alone.
        return torch.stack([of(texts.take(np.array([i]))) for i in range(len(texts.rows))]).mean()
    return of(texts)


def _on_cpu(inputs: Inputs) -> Inputs:
    return {name: tensor.cpu() for name, tensor in inputs.items()}


def _pooled(model: Model, hidden: torch.Tensor, inputs: Inputs) -> torch.Tensor:
    """The poolings that transformers leaves to its user."""
    return hidden[:, 0] if model.pooling == "cls" else mean_pooled(model, hidden, inputs["attention_mask"])


def make_sgd(module: torch.nn.Module, learning_rate: float, clip_norm: float) -> Callable[[int], None]:
    """Gradient descent with clipping: step number -> one update from the present gradients."""
    optimizer = torch.optim.SGD(module.parameters(), lr=learning_rate)

    def update(step: int) -> None:
        torch.nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    return update


def make_adamw(
    module: torch.nn.Module,
    model: Model,
    params: Params,
    settings: Any,
    total_steps: int,
    freeze: tuple[str, ...] = (),
) -> Callable[[int], None]:
    """AdamW with our schedule, clipping and decay: step number -> one update from the present gradients.

    Args:
      module: to train.
      model, params: ours, for the names of its parameters; with adapters where the module has peft's.
      settings: bertjax's `Optimizer`, resolved.
      total_steps: length of the schedule.
      freeze: patterns of parameters that stay as they are.
    """
    decayed = _decayed(model, params, freeze, settings.no_decay)
    canonical = weight_table(model).canonical
    named = [(canonical(name), parameter) for name, parameter in module.named_parameters()]
    named = [(name, parameter) for name, parameter in named if name in decayed]
    groups = [
        {"params": [parameter for name, parameter in named if decayed[name]], "weight_decay": settings.weight_decay},
        {"params": [parameter for name, parameter in named if not decayed[name]], "weight_decay": 0.0},
    ]
    # One kernel for the whole update, as the Trainer uses.
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(settings.b1, settings.b2), eps=settings.eps, fused=True)
    # All of them at once: asked at each step, JAX would take a share of the time of torch's.
    rates = np.asarray(jax.vmap(learning_rate_schedule(settings, total_steps))(jnp.arange(total_steps + 1))).tolist()

    def update(step: int) -> None:
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_([parameter for _, parameter in named], settings.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.step()
        optimizer.zero_grad()

    return update


def _decayed(model: Model, params: Params, freeze: tuple[str, ...], no_decay: tuple[str, ...]) -> dict[str, bool]:
    """Torch's name of each trained parameter -> whether weight decay applies to it."""
    frozen = frozen_paths(model, freeze)
    trained = {
        module: {name: value for name, value in leaves.items() if f"{module}/{name}" not in frozen}
        for module, leaves in jax.tree.map(np.asarray, decay_mask(model, no_decay)(params)).items()
    }
    plain = {module: leaves for module, leaves in trained.items() if not is_adapter(module)}
    names = {(rule.module, rule.parameter): rule.hugging_face for rule in rules_of(plain, weight_table(model))}
    names |= peft_names(model)
    return {names[module, name]: bool(value) for module, leaves in trained.items() for name, value in leaves.items()}
