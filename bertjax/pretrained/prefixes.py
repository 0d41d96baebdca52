"""Prefixes that wrappers of a network leave on the names of its tensors, such as `module.`, `model.` or `_orig_mod.`.

They come from `DataParallel`, from Lightning and from `torch.compile`, and may be nested. Whatever stands before the
encoder's own names is such a prefix if every tensor has it.
"""

import logging
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from bertjax.errors import CheckpointError
from bertjax.members.weight_table import WeightTable
from bertjax.pretrained.convert import matches

logger = logging.getLogger(__name__)


def without_prefix(
    tensors: Mapping[str, np.ndarray], table: WeightTable, drop: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The tensors under the encoder's own names.

    Args:
      tensors: a checkpoint by the names in its file.
      table: of the encoder's names.
      drop: patterns of tensors that need not have the prefix, as they will be left out.

    Raises:
      CheckpointError: only some tensors have the prefix, or several networks are in the file.
    """
    kept, words = [name for name in tensors if not matches(name, drop, table)], table.words
    prefixes = sorted({name.removesuffix(words).removesuffix(table.prefix) for name in kept if name.endswith(words)})
    if len(prefixes) > 1:
        shown = ", ".join(repr(prefix) for prefix in prefixes)
        raise CheckpointError(
            f"the checkpoint holds {len(prefixes)} networks, under the prefixes {shown}; leave all but one out with "
            f"--drop, such as --drop {f'{prefixes[-1]}*'!r}"
        )
    prefix = prefixes[0] if prefixes else ""
    if not prefix:
        return dict(tensors)
    others = [name for name in kept if not name.startswith(prefix)]
    if others:
        raise CheckpointError(
            f"{len(kept) - len(others)} of {len(kept)} tensors have the prefix {prefix!r}, and {_listed(others)} do "
            f"not; leave those out with --drop, or save the network inside of {prefix!r} alone"
        )
    logger.info("the prefix %r of every tensor was left out", prefix)
    return {name.removeprefix(prefix) if name in kept else name: tensor for name, tensor in tensors.items()}


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} others"
