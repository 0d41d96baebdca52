"""The checkpoint that both sides of a comparison start from."""

from collections.abc import Sequence
from pathlib import Path

from bertjax.config import Execution, read_config_json
from bertjax.model_folder import from_pretrained, stored_task
from bertjax.pretrained.files import resolve_model
from bertjax.pretrained.rules import RULES
from bertjax.tasks import Model, Params, find_task, find_torch_task


def load_pair(
    name: str,
    task: str | None,
    seed: int,
    init_missing: Sequence[str] = (),
    drop: Sequence[str] = (),
    execution: Execution | None = None,
) -> tuple[Path, Model, Params]:
    """A checkpoint's folder, and our network with its weights.

    Args:
      name: a folder, a catalog name, or a hub id.
      task: default: the one that the checkpoint was saved for; a bare encoder is compared as a classifier.
      seed: of the head, where the checkpoint was saved for another task.
      init_missing: patterns of tensors that may be missing besides.
      drop: patterns of tensors to leave out.
      execution: how to run the network.

    Raises:
      UserError: as `from_pretrained`.
    """
    folder = resolve_model(name)
    saved_task = stored_task(read_config_json(folder))
    task = task or ("classification" if saved_task == "encoder" else saved_task)
    row, labels, allowed = find_task(task), None, list(init_missing)
    if task != saved_task:
        if row.names:
            labels = find_torch_task(task).num_labels
        else:
            modules = (*row.head_modules, *(("pooler",) if row.pooling == "pooler" else ()))
            allowed += [rule.hugging_face for rule in RULES if rule.module in modules]
    model, params = from_pretrained(
        folder, task, num_labels=labels, seed=seed, init_missing=allowed, drop=drop, execution=execution
    )
    return folder, model, params
