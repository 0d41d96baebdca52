"""Parity of a checkpoint by name: JAX against transformers' PyTorch model, with every comparison in one result."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertjax.config import BertConfig, Execution, read_config_json
from bertjax.errors import ConfigError
from bertjax.members import find_member
from bertjax.model_folder.load_checkpoint import POOLER_MODULES, from_pretrained
from bertjax.model_folder.stored_settings import stored_task
from bertjax.pretrained.files import resolve_model
from bertjax.tasks import Model, Params, find_task, find_torch_task

if TYPE_CHECKING:
    from bertjax.baselines.parity.check_parity import Comparison

logger = logging.getLogger(__name__)

_PACKAGES = ("jax", "jaxlib", "dm-haiku", "torch", "transformers")


@dataclass(frozen=True)
class ParityResult:
    """Every comparison of a checkpoint with transformers' PyTorch model.

    Attributes:
      model: the checkpoint, as the caller named it.
      task: the head that was compared.
      seed: of the examples and of a new head.
      execution: how the JAX network was computed.
      comparisons: in the order of computation: forward, loss, gradient, training.
      vanishing_gradients: parameter -> why its gradient is zero in exact arithmetic; left out after AdamW.
    """

    model: str
    task: str
    seed: int
    execution: Execution
    comparisons: Sequence["Comparison"]
    vanishing_gradients: Mapping[str, str]

    @property
    def broken(self) -> list["Comparison"]:
        """The comparisons that exceed their bounds."""
        return [comparison for comparison in self.comparisons if not comparison.holds]

    @property
    def holds(self) -> bool:
        """Whether every comparison is within its bound."""
        return not self.broken

    @property
    def first_departure(self) -> "Comparison | None":
        """The first part of the forward pass that exceeds its bound."""
        return next((comparison for comparison in self.broken if comparison.section == "forward"), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file, with the versions of the packages."""
        first = self.first_departure
        return {
            "model": self.model,
            "task": self.task,
            "seed": self.seed,
            "execution": asdict(self.execution),
            "versions": {name: version(name) for name in _PACKAGES},
            "holds": self.holds,
            "first_departure": None if first is None else first.name,
            "vanishing_gradients": dict(self.vanishing_gradients),
            "comparisons": [{**asdict(comparison), "holds": comparison.holds} for comparison in self.comparisons],
        }


def parity(
    model: str | Path = "minilm-l6",
    task: str | None = None,
    *,
    seed: int = 0,
    init_missing: Sequence[str] = (),
    drop: Sequence[str] = (),
    execution: Execution | None = None,
) -> ParityResult:
    """Compares forward pass, loss, gradients and training of a checkpoint with those of transformers' PyTorch model.

    Args:
      model: a folder, a hub id, a name of the catalog, or `models:/NAME@ALIAS` of MLflow's registry.
      task: the head to compare; default: the checkpoint's own, or a classifier on a bare encoder.
      seed: of the examples, and of a head that the checkpoint does not have.
      init_missing: patterns of tensors that the checkpoint may lack.
      drop: patterns of tensors of the checkpoint to leave out.
      execution: how the JAX network is computed; the bounds are for float32.

    Raises:
      ConfigError: PyTorch is not installed, or an execution without gradients.
      UserError: as `from_pretrained`.
    """
    (execution or Execution()).check_trainable()
    if find_spec("torch") is None:
        raise ConfigError("parity needs PyTorch: pip install 'bertjax[torch]'")
    from bertjax.baselines.parity.check_parity import check_parity, vanishing_gradients

    model = str(model)
    folder, network, params = load_pair(model, task, seed, init_missing, drop, execution)
    logger.info("%s, task %s: bertjax against transformers' PyTorch model", model, network.task)
    comparisons: list[Comparison] = []
    for comparison in check_parity(network, params, folder, seed):
        section = (comparison.section, comparison.layout)
        if not comparisons or section != (comparisons[-1].section, comparisons[-1].layout):
            logger.info("  %s, %s batches", *section)
        comparisons.append(comparison)
    vanishing = vanishing_gradients(network, [c.name for c in comparisons if c.section == "gradient"])
    return ParityResult(model, network.task, seed, execution or Execution(), comparisons, vanishing)


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
    stored = read_config_json(folder)
    saved_task = stored_task(stored)
    task = task or ("classification" if saved_task == "encoder" else saved_task)
    architecture = BertConfig.from_hugging_face(stored)
    row, labels, allowed = find_task(task), None, list(init_missing)
    if task != saved_task:
        if row.names:
            labels = find_torch_task(task).num_labels
        else:
            modules = (*row.head_modules, *(POOLER_MODULES if row.pooling == "pooler" else ()))
            table = find_member(stored["model_type"]).weights_of(row.architecture)
            allowed += [rule.hugging_face for rule in table.rules if rule.module in modules]
    model, params = from_pretrained(
        folder,
        task,
        num_labels=labels,
        seed=seed,
        init_missing=allowed,
        drop=drop,
        execution=execution,
        vocab_size=architecture.vocab_size,  # random ids are compared, and no texts
    )
    return folder, model, params
