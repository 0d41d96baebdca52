"""`Table`: which rows to read, and which of their columns are text and label. Settings only; `sources` reads them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A labelled table and how it is split.

    A source is a file (csv, tsv, json lines, parquet; compressed or not), a URL of one, or a data set of the catalog.
    """

    train: str = "trec"
    """Rows to train on: a file, a URL, or a data set of the catalog."""

    validation: str | None = None
    """Rows to evaluate after each epoch."""

    test: str | None = None
    """Rows to evaluate at the end; without it, a stratified share of the training rows is held out."""

    text: tuple[str, ...] = ("text",)
    """Columns with the text, joined by a space."""

    text_pair: tuple[str, ...] = ()
    """Columns with the second text of a pair, which becomes segment 1."""

    label: str = "label"
    """Column with the label, a string or an integer."""

    test_size: float | None = None
    """Rows to hold out where there is no test table: a count (1 or more) or a share. Default: the catalog's own for
    its data sets, else 0.2."""

    split_seed: int = 1234
    """Seed of that split; it does not follow the training seed, so every run sees the same test rows."""

    encoding: str = "utf-8"
    """Encoding of text files."""
