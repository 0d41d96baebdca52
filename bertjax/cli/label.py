"""`bertjax label`: weak labels of a table, from labelling functions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bertjax.cli.flags.parse_flags import parse
from bertjax.cli.process.messages import say
from bertjax.data.table import Table
from bertjax.errors import RunFolderError
from bertjax.settings import Seed

if TYPE_CHECKING:
    from bertjax.labeling.weak_labels import WeakLabels
    from bertjax.report_pages.text_table import TextTable

_TITLES = {"label_model": "label model", "majority": "majority vote"}


@dataclass(frozen=True)
class Arguments:
    """Label a table without labels, by functions that vote for a class of a text or abstain.

    The votes become a probability for each class, on which `bertjax finetune --label-probabilities weak_p_` trains.
    """

    functions: Path
    """Python file with the labelling functions; see docs/labeling.md."""

    data: str
    """The rows to label: a file, a pattern of several, an address, or a data set of the catalog."""

    out: Path
    """File to write (.parquet, .csv, .tsv or .jsonl): the rows with weak_label, weak_votes and a weak_p_CLASS for each
    class. What is known of the functions goes beside it, into a file that ends with .functions.json."""

    text_columns: tuple[str, ...] = Table.text
    """Columns with the text, joined by a space."""

    labelled: str | None = None
    """Rows with labels, on which functions and the ways to combine them are judged; nothing is learned from them."""

    label_column: str = Table.label
    """Column with the label of those rows."""

    balance: tuple[str, ...] = ("estimated",)
    """Share of each class among all rows, which the label model takes as known: `estimated` from the votes, `uniform`,
    or `label=share` for every class."""

    method: Literal["label_model", "majority"] = "label_model"
    """What makes probabilities of votes: Snorkel's label model, which needs three functions, or the majority vote."""

    uncovered: Literal["drop", "keep"] = "drop"
    """Rows that no function votes for: left out, or kept with the class balance as their probabilities."""

    seed: Seed = 0
    """Of the label model."""

    encoding: str = Table.encoding
    """Encoding of text files."""

    delimiter: str | None = None
    """What separates the cells of a csv or tsv file; default: as its suffix and its first lines say."""

    quoting: Literal["on", "off"] | None = None
    """Whether cells of a csv or tsv file may be in quotes; off: quotes are text. Default: as its first lines say."""

    escape: str | None = None
    """Character of a csv or tsv file after which a quote or a delimiter is text."""

    on_bad_row: Literal["stop", "skip"] = Table.on_bad_row
    """What a broken row, or one without text, does: end with its line, or be left out, counted and listed."""

    overwrite: bool = False
    """Replace the file if it is there."""


def main(arguments: Sequence[str]) -> int:
    """Prints the table of functions."""
    parsed = parse(Arguments, arguments, "bertjax label")
    from bertjax.labeling.weak_labels import PROBABILITY, weak_labels
    from bertjax.labeling.weak_table import check_format, write_table
    from bertjax.report_pages.text_table import print_table
    from bertjax.storage.atomic_write import write_json

    about = parsed.out.with_name(f"{parsed.out.stem}.functions.json")
    check_format(parsed.out)
    for path in (parsed.out, about):
        if path.is_dir() or (path.exists() and not parsed.overwrite):
            raise RunFolderError(f"--out: {path} is there already; --overwrite replaces a file, or choose another name")
    table = Table(
        parsed.data,
        text=parsed.text_columns,
        label=parsed.label_column,
        encoding=parsed.encoding,
        delimiter=parsed.delimiter,
        quoting=parsed.quoting,
        escape=parsed.escape,
        on_bad_row=parsed.on_bad_row,
    )
    labels = weak_labels(
        parsed.functions,
        table,
        None if parsed.labelled is None else replace(table, train=parsed.labelled),
        balance=parsed.balance,
        method=parsed.method,
        uncovered=parsed.uncovered,
        seed=parsed.seed,
    )
    write_table(labels.table, parsed.out)
    write_json(about, {"data": parsed.data, "seed": parsed.seed} | labels.summary())
    for shown in _tables(labels):
        print_table(shown, width_of_a_log=120)
    say(
        f"{parsed.out}: {len(labels.table)} rows by {_TITLES[labels.method]}; bertjax finetune --train {parsed.out} "
        f"--label-probabilities {PROBABILITY} trains on them"
    )
    return 0


def _tables(labels: "WeakLabels") -> list["TextTable"]:
    from bertjax.report_pages.text_table import TextTable

    judged = [("right", "accuracy"), ("of rows", "labelled")] if labels.scores else []
    functions = TextTable(
        "function", "votes for", "coverage", "overlap", "conflict", "faults", *(name for name, _ in judged)
    )
    for of_function in labels.functions:
        values = [of_function.coverage, of_function.overlap, of_function.conflict]
        cells = [of_function.name, ", ".join(of_function.labels) or "nothing", *map(_share, values)]
        row = of_function._asdict()
        functions.add_row(*cells, str(of_function.faults), *(_share(row[name]) for _, name in judged))
    shares = TextTable("class", "share of rows")
    for label, share in zip(labels.labels, labels.balance.tolist(), strict=True):
        shares.add_row(label, _share(share))
    if not labels.scores:
        return [functions, shares]
    scores = TextTable("on the labelled rows", "F1, weighted", "F1, macro", "accuracy", "covered", "F1 of covered")
    for method, of_method in labels.scores.items():
        of_all = map(_share, (of_method.f1_weighted, of_method.f1_macro, of_method.accuracy, of_method.covered))
        scores.add_row(_TITLES[method], *of_all, _share(of_method.f1_weighted_covered))
    return [functions, shares, scores]


def _share(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
