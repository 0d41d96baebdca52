"""`bertjax parity`: JAX against PyTorch on one checkpoint, layer by layer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.process.exit_codes import ExitCode
from bertjax.config import Execution
from bertjax.errors import ConfigError, writing
from bertjax.settings import Seed

if TYPE_CHECKING:
    from bertjax.baselines.parity.check_parity import Comparison
    from bertjax.baselines.parity.checkpoint_parity import ParityResult


@dataclass(frozen=True)
class Arguments:
    """Compare a checkpoint's numbers with those of transformers' PyTorch model.

    Forward pass, loss, gradients, training, on padded and packed batches. Prints a table and the first layer that
    departs; the exit status is 1 when a bound is broken.
    """

    model: str = "minilm-l6"
    """The checkpoint: a folder, a hub id, a name of the catalog, or models:/NAME@ALIAS of MLflow's registry."""

    task: str | None = None
    """Task whose head to compare; default: the checkpoint's own, or a classifier on a bare encoder."""

    seed: Seed = 0
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
    if parsed.json is not None and not parsed.json.absolute().parent.is_dir():
        raise ConfigError(f"--json {parsed.json}: there is no folder {parsed.json.absolute().parent}")
    from bertjax.baselines.parity.checkpoint_parity import parity

    result = parity(
        parsed.model,
        parsed.task,
        seed=parsed.seed,
        init_missing=parsed.init_missing,
        drop=parsed.drop,
        execution=parsed.execution,
    )
    _show(result)
    if parsed.json is not None:
        with writing(parsed.json, "choose another file"):
            parsed.json.write_text(json.dumps(result.to_json(), indent=2) + "\n")
    return ExitCode.OK if result.holds else ExitCode.FAILED


def _show(result: "ParityResult") -> None:
    from rich.text import Text

    from bertjax.report_pages.text_table import TextTable, print_table

    table = TextTable("part", "layout", "what", "max abs", "max rel", "bound", "")
    for comparison in _condensed(result):
        bound = "" if comparison.bound is None else f"{comparison.bound:.2g} {comparison.bounded[:3]}"
        holds = "" if comparison.bound is None else "ok" if comparison.holds else Text("BROKEN", "red")
        table.add_row(
            comparison.section, comparison.layout, comparison.name,
            f"{comparison.absolute:.1e}", f"{comparison.relative:.1e}", bound, holds,
        )  # fmt: skip
    print_table(table, width_of_a_log=140)
    left_out = result.vanishing_gradients
    if left_out:
        print(f"gradient zero in exact arithmetic, left out where AdamW's parameters are compared ({len(left_out)}):")
        for reason in sorted(set(left_out.values())):
            names = [name for name, why in left_out.items() if why == reason]
            print(f"  {names[0]}{f' .. {names[-1]}' if len(names) > 1 else ''}: it {reason}")
    if (first := result.first_departure) is not None:
        print(f"the first to depart is {first.name}, on {first.layout} batches: {first.absolute:.1e}")
    total = len(result.comparisons)
    print("parity holds" if result.holds else f"parity is broken: {len(result.broken)} of {total} comparisons")


def _condensed(result: "ParityResult") -> list["Comparison"]:
    """The comparisons for the table: of the gradients that hold, only the worst of each layer and kind."""
    rows: dict[Any, Comparison] = {}
    for number, comparison in enumerate(result.comparisons):
        key: Any = number
        if comparison.section == "gradient" and comparison.holds:
            key = (comparison.layout, _layer(comparison.name), comparison.name in result.vanishing_gradients)
        if key not in rows or comparison.relative > rows[key].relative:
            rows[key] = comparison
    return list(rows.values())


def _layer(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[:4]) if "layer" in parts else parts[1] if parts[0] == "bert" else parts[0]
