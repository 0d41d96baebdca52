"""`keep_layers`: a shallower network made of some layers of a checkpoint, such as a student to distil into."""

from collections.abc import Sequence
from dataclasses import replace

from bertjax.errors import ConfigError
from bertjax.tasks.network import Model, Params, make_model


def keep_layers(model: Model, params: Params, layers: Sequence[int]) -> tuple[Model, Params]:
    """The network with some of its layers alone, in their order; its embeddings and its head stay (Sanh et al. 2019,
    arXiv:1910.01108, section 3, start a student so).

    Args:
      model: as `from_pretrained` or `make_model` returns it.
      params: its parameters.
      layers: the layers that stay, counted from 0, ascending.

    Returns:
      The model and its parameters, which are not copied.

    Raises:
      ConfigError: layers that the network does not have, in another order, or none; or layers that depend on their
        number, as ModernBERT's do.
    """
    config, kept = model.config, tuple(layers)
    if not kept or list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= config.num_layers:
        raise ConfigError(f"layers to keep are ascending numbers from 0 to {config.num_layers - 1}, got {list(kept)}")
    if config.norm_position == "before" or config.adapters is not None:
        what = "with adapters" if config.adapters else f"of {config.model_type}, which differ by their number,"
        raise ConfigError(f"layers {what} cannot be taken out")
    new_number = {f"layer_{old}": f"layer_{new}" for new, old in enumerate(kept)}
    shallower = {}
    for module, leaves in params.items():
        encoder, _, rest = module.partition("/")
        layer, slash, inner = rest.partition("/")
        if encoder != "bert" or not layer.startswith("layer_"):
            shallower[module] = leaves
        elif layer in new_number:
            shallower[f"bert/{new_number[layer]}{slash}{inner}"] = leaves
    return make_model(replace(config, num_layers=len(kept)), model.task, model.labels, model.pooling), shallower
