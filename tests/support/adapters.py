"""Networks with adapters that have learned something, beside peft's of the same base."""

from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel

from bertjax.model.lora import is_adapter
from bertjax.model_folder.adapter_folder import save_adapter
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.tasks import Model, Params
from bertjax.training.optim.fresh_adapters import with_adapters
from bertjax.training.settings.options import Lora
from tests.support.members import their_model

EVERY_LAYER = ("bert/layer_*",)


def with_learned(model: Model, params: Params, settings: Lora) -> tuple[Model, Params]:
    """The network with adapters, all of whose matrices and the head have moved."""
    model, params = with_adapters(model, params, settings, seed=0)
    rng = np.random.default_rng(0)

    def moved(leaf: Any) -> np.ndarray:
        return (np.asarray(leaf) + 0.1 * rng.normal(size=leaf.shape)).astype(np.float32)

    trained = [module for module in params if is_adapter(module) or not module.startswith("bert/")]
    moved_leaves = {module: {name: moved(leaf) for name, leaf in params[module].items()} for module in trained}
    return model, {**params, **moved_leaves}


def beside_peft(folder: Path, member: str, task: str, settings: Lora) -> tuple[Model, Params, Any]:
    """A network with adapters and its parameters on `folder / "base"`, and peft's of the adapter that we wrote."""
    base = their_model(member, task, sigma=0.1)
    base.save_pretrained(folder / "base")
    model, params = with_learned(*from_pretrained(folder / "base", task), settings)
    save_adapter(folder / "adapter", model, params, "some/base")
    theirs = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True)
    return model, params, theirs.eval()
