"""Settings: `Table` of the rows to read, their text and label columns and the split; `Masking` of masked words."""

from dataclasses import dataclass
from typing import Annotated, Literal

from bertjax.settings import LONGEST, Count, CountFromZero, InnerShare, Positive, Range, Seed, check_ranges, require

Side = Literal["train", "validation", "test"]
Documents = Literal["line", "file"]
AnswerAs = Literal["text", "letter", "index0", "index1"]
TagScheme = Literal["bio", "iob1", "ioe", "bioes", "bilou", "none"]


@dataclass(frozen=True)
class Table:
    """A labelled table and how it is split.

    A source is a file (csv, tsv, json, json lines, parquet, xlsx, CoNLL, lines of plain text; compressed or not), a
    pattern of several (`*.csv`), an address of one, or a data set of the catalog.
    """

    train: str = "trec"
    """Rows to train on: a file, a URL, or a data set of the catalog."""

    validation: str | None = None
    """Rows to evaluate after each epoch."""

    test: str | None = None
    """Rows to evaluate at the end; without it, a stratified share of the training rows is held out."""

    text: tuple[str, ...] = ("text",)
    """Columns with the text, joined by a space; of CoNLL files by number, too."""

    text_pair: tuple[str, ...] = ()
    """Columns with the second text of a pair, which becomes segment 1."""

    label: str = "label"
    """Column with the label: a string or an integer, several of them where a row can have several, a number where
    numbers are learned."""

    labels: tuple[str, ...] = ()
    """Columns with one label each, instead of a single one: numbers to learn, or 0 and 1 for what a row has."""

    label_delimiter: str | None = None
    """Separator of the labels in a cell, where it is no list."""

    labels_as: Literal["names", "flags"] | None = None
    """What a list in the label column holds: the row's labels (`names`), or a 0 or 1 for each of --label-names
    (`flags`). Default: names, but lists of one length that hold only 0 and 1 are refused."""

    label_names: tuple[str, ...] | None = None
    """Labels that the places of such a list of 0 and 1 stand for, in their order."""

    label_probabilities: str | None = None
    """How the columns of the training table begin that hold a probability for each class, in the place of its label
    column: `weak_p_` for weak_p_sport and weak_p_politics. The rows are trained on these probabilities; where rows of
    this table are evaluated, their most probable class is their label."""

    label_spelling: Literal["merge", "keep"] | None = None
    """What becomes of labels that look alike but are written differently (1 and 1.0, invisible characters, composed and
    decomposed letters): `merge` makes one of them, `keep` leaves them apart. Default: they are refused."""

    tag_scheme: TagScheme | None = None
    """How the labels of words mark entities: bio (also called IOB2), iob1, ioe, bioes (IOBES, BMES, BMEWO), bilou, each
    with any separator and the letter first or last (B-PER, B_PER, PER/B); none: every label stands for itself, and
    words are judged one by one. Default: the scheme that the labels of the first table show."""

    label_scale: Positive = 1.0
    """Similarity scores of two texts are divided by this, so that the highest is 1: 5 for scores from 0 to 5."""

    candidates: tuple[str, ...] = ()
    """Columns with the candidates of a multiple choice, one each, or the one column that lists them."""

    answer_as: AnswerAs | None = None
    """How the label column names the right candidate: by its text, its letter, or its number, counted from 0 or from 1.
    Default: decided from the whole column."""

    doc_stride: CountFromZero | None = None
    """Tokens that neighbouring windows over a long context share, where questions are answered; default: a quarter of
    max_length."""

    test_size: Positive | None = None
    """Rows to hold out where there is no test table: a count (1 or more) or a share. Default: the catalog's own for
    its data sets, else 0.2."""

    validation_size: Positive | None = None
    """Rows to hold out of the training rows for validation, in the same way, where no table has them: a count, or a
    share. Default: none are."""

    split_seed: Seed = 1234
    """Seed of that split; it does not follow the training seed, so every run sees the same test rows."""

    per_class: Count | None = None
    """Train on at most this many rows of each class, drawn after the split, so that the test rows stay the same."""

    per_class_seed: Seed = 0
    """Of that draw. With the same seed, the rows of a smaller draw are among those of a larger one."""

    reader: Literal["pandas", "ray"] = "pandas"
    """pandas reads all rows into memory; ray streams the training rows through Ray Data, however many there are, and
    gives the same batches."""

    encoding: str = "utf-8"
    """Encoding of text files."""

    delimiter: str | None = None
    """What separates the cells of a csv or tsv file, a single character (\\t for a tab); default: a comma or a tab, as
    its suffix says, unless its first lines agree on another one."""

    quoting: Literal["on", "off"] | None = None
    """Whether a cell of a csv or tsv file that begins with a quote ends with one; off: quotes are text. Default: on,
    and where a tab separates the cells, off unless the file clearly uses quotes so."""

    escape: str | None = None
    """Character of a csv or tsv file after which a quote or a delimiter is text; default: none, unless the file writes
    a quote inside quotes as \\"."""

    documents: Documents = "line"
    """What a row of plain text (.txt) is: a line, or the whole of a file."""

    on_bad_row: Literal["stop", "skip"] = "stop"
    """What to do with a broken row: stop and name its line, or skip it, count it and list it."""

    steps: tuple[str, ...] = ()
    """Preprocessing, in this order; saved with the model and applied again when it predicts. `join`, which joins the
    columns, is the first step; training rows without text and those that repeat an earlier text are dropped at the
    end, or where `drop_empty` and `drop_duplicates` stand. Predicting drops no row."""

    stop_words: tuple[str, ...] = ()
    """Words that the step `stop_words` removes; default: scikit-learn's English list."""

    split: Literal["stratified", "grouped", "time", "kfold"] = "stratified"
    """How test rows are held out where there is no test table; what has no single class is split at random, not by
    strata."""

    group: str | None = None
    """Column whose values never stand on both sides of a grouped split."""

    time: str | None = None
    """Column that orders a time split: the latest rows are held out."""

    folds: Annotated[int, Range(2, LONGEST)] = 5
    """Parts of a k-fold split."""

    fold: CountFromZero = 0
    """Which part of a k-fold split is held out, counted from 0."""

    leaks: Literal["remove", "report"] = "remove"
    """Training rows whose text is in the validation or test rows too: remove them, or only report how many."""

    contract: str | None = None
    """A JSON file of what to expect of the tables: columns, types, unique keys, labels, lengths; checked before
    training."""

    def __post_init__(self) -> None:
        check_ranges(self)
        for name in ("test_size", "validation_size"):
            size = getattr(self, name)
            fits = size is None or size < 1 or size == int(size)
            require(fits, f"{name} is a share of the rows, in (0, 1), or a whole number of them", size)
        if self.delimiter is not None:
            one = len(self.delimiter) == 1 and self.delimiter not in '"\r\n'
            require(one or self.delimiter == r"\t", "delimiter must be one character (\\t for a tab)", self.delimiter)
        if self.escape:
            one = len(self.escape) == 1 and self.escape not in '"\r\n' and self.escape != self.delimiter
            require(one, "escape must be one character, no quote and not the delimiter", self.escape)

    @property
    def flag_names(self) -> tuple[str, ...]:
        """The labels that a list of flags stands for; none where lists hold labels."""
        return self.label_names or () if self.labels_as == "flags" else ()

    @property
    def merges_labels(self) -> bool:
        """Whether labels that look alike are one."""
        return self.label_spelling == "merge"

    @property
    def order_column(self) -> str | None:
        """The column of groups or times that the split goes by."""
        return self.group or self.time

    @property
    def evaluated(self) -> dict[Side, str]:
        """The tables to evaluate on, as far as they are named."""
        tables: dict[Side, str | None] = {"validation": self.validation, "test": self.test}
        return {side: source for side, source in tables.items() if source}


@dataclass(frozen=True)
class Masking:
    """Which tokens a masked language model learns to fill in (BERT, section 3.1, task 1)."""

    mask_share: InnerShare = 0.15
    """Share of each text's tokens to predict, at least one; other ones in each epoch."""

    whole_words: bool = False
    """Choose words, and hide all of their pieces, instead of single pieces."""

    def __post_init__(self) -> None:
        check_ranges(self)
