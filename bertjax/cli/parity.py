"""`bertjax parity`: JAX against PyTorch on one checkpoint, layer by layer."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertjax.cli.flags import parse
from bertjax.config import Execution
from bertjax.errors import ConfigError, writing

if TYPE_CHECKING:
    from bertjax.baselines.parity.check_parity import Comparison

BROKEN = 1  # exit status when a bound is broken


@dataclass(frozen=True)
class Arguments:
    """Compare a checkpoint's numbers with those of transformers' PyTorch model.

    Forward pass, loss, gradients, training, on padded and packed batches. Prints a table and the first layer that
    departs; the exit status is 1 when a bound is broken.
    """

    model: str = "minilm-l6"
    """The checkpoint: a folder, a hub id, or a name of the catalog."""

    task: str | None = None
    """Whose head to compare; default: the checkpoint's own, or a classifier on a bare encoder."""

    seed: int = 0
    """Of the examples, and of a head that the checkpoint does not have."""

    json: Path | None = None
    """File for every comparison, each parameter's gradient on a line of its own."""

    init_missing: tuple[str, ...] = ()
    """Tensors that the checkpoint may lack, by Hugging Face's names or patterns of them (`cls.*`)."""

    drop: tuple[str, ...] = ()
    """Tensors of the checkpoint to leave out, by Hugging Face's names or patterns of them."""

    execution: Execution = field(default_factory=Execution)
    """How our network is computed; the bounds are for float32."""


def main(arguments: Sequence[str]) -> int:
    """Prints the comparison."""
    parsed = parse(Arguments, arguments, "bertjax parity")
    if find_spec("torch") is None:
        raise ConfigError("parity needs PyTorch: pip install 'bertjax[torch]'")
    from bertjax.baselines.parity.check_parity import check_parity, vanishing_gradients
    from bertjax.baselines.torch.load_pair import load_pair

    if parsed.json is not None and not parsed.json.absolute().parent.is_dir():
        raise ConfigError(f"--json {parsed.json}: there is no folder {parsed.json.absolute().parent}")

    folder, model, params = load_pair(
        parsed.model, parsed.task, parsed.seed, parsed.init_missing, parsed.drop, parsed.execution
    )
    print(f"{parsed.model}, task {model.task}: bertjax against transformers' PyTorch model", file=sys.stderr)
    found: list[Comparison] = []
    for comparison in check_parity(model, params, folder, parsed.seed):
        if not found or (comparison.section, comparison.layout) != (found[-1].section, found[-1].layout):
            print(f"  {comparison.section}, {comparison.layout} batches", file=sys.stderr)
        found.append(comparison)
    left_out = vanishing_gradients(model, [c.name for c in found if c.section == "gradient"])
    _show(found, left_out)
    if parsed.json is not None:
        with writing(parsed.json, "choose another file"):
            parsed.json.write_text(json.dumps(_record(parsed, model.task, found, left_out), indent=2) + "\n")
    return 0 if all(comparison.holds for comparison in found) else BROKEN


def _show(found: Sequence["Comparison"], left_out: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("part", "layout", "what", "max abs", "max rel", "bound", "")
    for comparison in _shortened(found, left_out):
        bound = "" if comparison.bound is None else f"{comparison.bound:g} {comparison.bounded[:3]}"
        holds = "" if comparison.bound is None else "ok" if comparison.holds else "[red]BROKEN[/red]"
        table.add_row(
            comparison.section, comparison.layout, comparison.name,
            f"{comparison.absolute:.1e}", f"{comparison.relative:.1e}", bound, holds,
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    if left_out:
        reasons = sorted(set(left_out.values()))
        print(f"gradient zero in exact arithmetic, left out where AdamW's parameters are compared ({len(left_out)}):")
        for reason in reasons:
            names = [name for name, why in left_out.items() if why == reason]
            print(f"  {names[0]}{f' .. {names[-1]}' if len(names) > 1 else ''}: it {reason}")
    broken = [comparison for comparison in found if not comparison.holds]
    departing = next((c for c in broken if c.section == "forward"), None)
    if departing is not None:
        print(f"the first to depart is {departing.name}, on {departing.layout} batches: {departing.absolute:.1e}")
    print("parity holds" if not broken else f"parity is broken: {len(broken)} of {len(found)} comparisons")


def _shortened(found: Sequence["Comparison"], left_out: dict[str, str]) -> list["Comparison"]:
    """Of the gradients, the worst of each layer and each kind, and whatever breaks its bound."""
    lines: dict[Any, Comparison] = {}
    for number, comparison in enumerate(found):
        key: Any = number
        if comparison.section == "gradient" and comparison.holds:
            key = (comparison.layout, _layer(comparison.name), comparison.name in left_out)
        if key not in lines or comparison.relative > lines[key].relative:
            lines[key] = comparison
    return list(lines.values())


def _layer(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[:4]) if "layer" in parts else parts[1] if parts[0] == "bert" else parts[0]


def _record(parsed: Arguments, task: str, found: Sequence["Comparison"], left_out: dict[str, str]) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "model": parsed.model,
        "task": task,
        "seed": parsed.seed,
        "execution": asdict(parsed.execution),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "dm-haiku", "torch", "transformers")},
        "holds": all(comparison.holds for comparison in found),
        "first_departure": next((c.name for c in found if c.section == "forward" and not c.holds), None),
        "vanishing_gradients": left_out,
        "comparisons": [{**asdict(comparison), "holds": comparison.holds} for comparison in found],
    }
