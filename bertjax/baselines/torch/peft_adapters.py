"""peft's adapters in transformers' torch model, starting from our matrices."""

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from bertjax.model_folder.adapter_folder import peft_names
from bertjax.pretrained.convert import to_hugging_face
from bertjax.tasks import Model, Params, weight_table


def put_adapters(module: torch.nn.Module, model: Model, params: Params) -> None:
    """Puts adapters beside the layers of a module, in place; they and the head are then all that is trained.

    Args:
      module: transformers' model of the same network without adapters.
      model: ours, with adapters.
      params: ours, for the matrices to start from.

    Raises:
      ConfigError: peft has no such adapters.
    """
    adapters, table = model.config.adapters, weight_table(model)
    assert adapters is not None, "there is something to put"
    names = peft_names(model)
    named = {table.canonical(name): name for name, _ in module.named_modules()}
    targets = [named[name.partition(".lora_")[0]] for name in names.values()]
    config = LoraConfig(
        r=adapters.rank,
        lora_alpha=adapters.scale * adapters.rank,  # type: ignore[arg-type]  # any number does
        lora_dropout=adapters.dropout_rate,
        target_modules=sorted(set(targets)),
    )
    inject_adapter_in_model(config, module)  # freezes all the rest
    head = {path: leaves for path, leaves in params.items() if not path.startswith("bert/")}
    trained = to_hugging_face(head, table).keys()
    parameters = {table.canonical(name): parameter for name, parameter in module.named_parameters()}
    for name in trained:
        parameters[name].requires_grad_(True)
    for (path, leaf), name in names.items():
        parameters[name].data.copy_(torch.tensor(params[path][leaf].T))


def merge_adapters(module: torch.nn.Module) -> None:
    """Adds each adapter to the weight of its layer and takes it out, in place: transformers' plain model again."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, layer.get_base_layer())
