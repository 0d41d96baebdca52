"""The bounds of small networks, whatever the size of their numbers; `check_parity` lets them grow with large ones."""

from collections.abc import Iterable

from bertjax.baselines.parity.check_parity import FORWARD_BOUND, LOGITS_BOUND, LOSS_BOUND, Comparison


def beyond_absolute_bounds(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Those of the forward pass, the loss, and the losses and logits of training that differ by more."""
    return [c for c in comparisons if (bound := _absolute_bound(c)) is not None and c.absolute > bound]


def _absolute_bound(comparison: Comparison) -> float | None:
    if comparison.name.startswith("logits after"):
        return LOGITS_BOUND
    if comparison.section == "loss" or comparison.name.startswith("loss at"):
        return LOSS_BOUND
    return FORWARD_BOUND if comparison.section == "forward" else None
