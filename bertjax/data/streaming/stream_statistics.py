"""`StreamStatistics`: what a pass over training rows must remember of them all, a few numbers a row and no text."""

import hashlib
import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from bertjax.data.encode.examples import Examples
from bertjax.data.encode.masking import DynamicMasking
from bertjax.data.read.bad_rows import BadRow
from bertjax.data.read.sources import check_same_columns, listing, stop
from bertjax.data.rows.data_report import TableReport
from bertjax.data.rows.label_vocabulary import LabelNames, consecutive
from bertjax.data.rows.labelled_rows import FirstOfKind, check_one_kind, count_of, nothing_left
from bertjax.data.rows.timestamps import sortable_times
from bertjax.data.split.hold_out import Known
from bertjax.data.split.read_splits import broken_contract, not_ordered, preprocessing_of
from bertjax.data.streaming.disk_store import DiskStore, StoredExamples
from bertjax.data.streaming.encode_rows import EncodedRows
from bertjax.data.streaming.ray_blocks import FileBlock
from bertjax.data.streaming.stream_contract import StreamContract
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat
from bertjax.data.task_formats.answer_format import warn_of_unlearnable
from bertjax.data.validate.contract import Contract, Finding, complaint
from bertjax.errors import DataError

logger = logging.getLogger(__name__)


class StreamStatistics:
    """The rows of a table, as the pass over them has met them.

    Attributes:
      emptied: rows in which the preprocessing left no text.
      names: of the labels, in the order in which they were met; codes are places in them.
    """

    def __init__(
        self,
        table: Table,
        task_format: TaskFormat,
        spill: DiskStore,
        vocabulary_size: int,
        contract: Contract | None = None,
    ):
        self._promises = None if contract is None else StreamContract(contract)
        self._findings: tuple[Finding, ...] = ()
        self._bad: BadRow | None = None
        self._all_columns: dict[str, None] = {}
        self._table, self._format, self._spill = table, task_format, spill
        self._token = np.min_scalar_type(vocabulary_size - 1)
        self._first_file: tuple[str, dict[str, None]] | None = None
        self._file: tuple[str, dict[str, None]] | None = None
        self._kinds: dict[str, FirstOfKind] = {}
        self._skipped: list[BadRow] = []
        self._num_read = self._num_usable = self.num_rows = self._truncated = self._unlearnable = self.emptied = 0
        self._texts: int | None = None
        self._index: dict[str, int] = {}
        self._order: list[pd.Series] = []
        self._unordered: list[int] = []
        self._masking: DynamicMasking | None = None
        self._token_labels = hashlib.sha256()
        self._columns: dict[str, list[np.ndarray]] = {}

    @property
    def names(self) -> list[str]:
        """Of the labels, in the order in which they were met; a code is a place in them."""
        return list(self._index)

    def add(self, block: FileBlock) -> None:
        """Takes a block in.

        Raises:
          DataError: what a worker met, or a bad row where one ends the run.
        """
        if self._file is None or block.file != self._file[0]:
            self._check_file()
            self._file = (block.file, {})
        self._file[1].update(dict.fromkeys(block.columns))
        self._all_columns.update(dict.fromkeys(block.columns))
        self._skip(block.broken)
        if block.mistake:
            raise DataError(block.mistake)
        encoded = block.encoded
        if encoded is None:
            return
        for kind, first in encoded.kinds.items():
            self._kinds.setdefault(kind, first._replace(row=first.row + self._num_read))
        check_one_kind(self._kinds, self._table.label, self._table.train)
        if self._promises and encoded.checked:
            self._promises.add(encoded.checked)
        # Rows of a format that knows their lines are named by these.
        bad = [row._replace(line=row.line + self._num_read) if row.unit == "row" else row for row in encoded.bad]
        if self._promises and bad and self._table.on_bad_row == "stop":
            self._bad = self._bad or bad[0]  # a contract, which is about the whole table, comes before its rows
        else:
            self._skip(bad)
        self._num_read += encoded.num_rows
        self._unordered += [self._num_usable + place for place in encoded.unordered]
        self._num_usable += encoded.num_rows - len(encoded.bad)
        self.emptied += encoded.emptied
        if encoded.examples is not None:
            self._add_examples(encoded, encoded.examples)

    def _add_examples(self, encoded: EncodedRows, examples: Examples) -> None:
        self._check_texts(encoded, examples)
        codes = self._codes(encoded.labels.names)
        num_rows = encoded.labels.num_rows
        self.num_rows += num_rows
        self._truncated += examples.truncated
        self._unlearnable += examples.unlearnable
        self._keep("lengths", examples.lengths.astype(np.int32))
        self._keep("text_keys", encoded.text_keys)
        self._keep("leak_keys", encoded.leak_keys)
        if encoded.order is not None:
            self._order.append(encoded.order)
        self._keep("codes", codes[encoded.labels.codes])
        if not self._format.classes and encoded.labels.counts is not None:
            self._keep("counts", encoded.labels.counts)
        if examples.row_of is not None:
            self._keep("examples", np.bincount(examples.row_of, minlength=num_rows).astype(np.int32))
        if examples.text_lengths is not None:
            self._keep("text_lengths", examples.text_lengths.astype(np.int32))
        spilled = {
            "token_ids": examples.token_ids.astype(self._token),
            "token_type_ids": examples.token_type_ids.astype(np.uint8),
        }
        if examples.masking is not None:
            self._masking = examples.masking._replace(words=np.empty(0, np.int32))
            spilled["words"] = examples.masking.words
        elif examples.labels_of == "tokens":
            labels = examples.labels
            spilled["labels"] = np.where(labels < 0, labels, codes[np.maximum(labels, 0)]).astype(np.int32)
            self._token_labels.update(spilled["labels"].tobytes())
        elif not self._format.indexed:
            self._keep("labels", examples.labels)
        self._spill.append(**spilled)

    def finish(self) -> None:
        """Whether anything is left.

        Raises:
          DataError: nothing is.
        """
        self._check_file()
        source = self._table.train
        if not self._num_read:
            but = f" but {listing(self._skipped)}" if self._skipped else ""
            raise DataError(f"{source} has no rows{but}")
        if self._promises:
            self._findings = self._promises.findings(self._table, list(self._all_columns))
            if broken := complaint(self._findings):
                raise DataError(broken_contract(self._table, source, broken))
        if self._bad:
            stop(self._bad)
        if not self._num_usable:
            raise DataError(f"{source} has no row that can be used; the first is {self._skipped[0]}")
        if not self.num_rows:
            raise nothing_left(source, preprocessing_of(self._table), count_of(self._num_usable, "row"))
        if self._skipped:
            logger.warning("%s: left out %s", source, listing(self._skipped))
        warn_of_unlearnable(source, self._unlearnable)
        if self.emptied:
            logger.info("the preprocessing left no text in %d rows, which were dropped", self.emptied)

    def column(self, name: str) -> np.ndarray | None:
        """What the blocks have told of one thing, end to end; None where they told nothing of it."""
        arrays = self._columns.get(name)
        if arrays is None:
            return None
        if len(arrays) > 1:
            whole = np.concatenate(arrays)
            arrays[:] = [whole]  # the parts would take as much memory again
        return arrays[0]

    def data_report(self) -> TableReport:
        """What was read of the table."""
        return TableReport(self._table.train, self._num_usable, tuple(self._skipped), self._findings)

    def labels_of(self, rows: np.ndarray) -> LabelNames:
        """The label names of some rows."""
        codes, counts = self.column("codes"), self.column("counts")
        assert codes is not None
        return LabelNames(tuple(self.names), codes, counts).take(rows)

    def known_of(self, rows: np.ndarray) -> Known:
        """What a split of some rows may go by.

        Raises:
          DataError: rows lack it, or hold something else.
        """
        if self._unordered:
            raise not_ordered(self._table, len(self._unordered), self._unordered[0])
        if not self._order:
            return Known(self.labels_of(rows), None)
        order = pd.concat(self._order, ignore_index=True).iloc[rows].reset_index(drop=True)
        return Known(
            self.labels_of(rows), order.to_numpy() if self._table.group else sortable_times(order, self._table.train)
        )

    def digest(self, rows: np.ndarray) -> str:
        """16 hexadecimal digits that change with the texts and labels of these rows, and with their order."""
        keys, labels = self.column("text_keys"), self.column("labels")
        assert keys is not None
        content = self._token_labels.copy()
        for array in (keys[rows], self.labels_of(rows).codes, *(() if labels is None else (labels,))):
            content.update(array.tobytes())
        content.update(repr(self.names).encode())
        return content.hexdigest()[:16]

    def examples(self, rows: np.ndarray, vocabulary: Sequence[str]) -> StoredExamples:
        """The examples of some rows, in the order of these.

        Args:
          rows: their places among those that are left.
          vocabulary: the label names, in index order.
        """
        lengths, per_row, text_lengths = self.column("lengths"), self.column("examples"), self.column("text_lengths")
        assert lengths is not None
        places, row_of = rows, None
        if per_row is not None:
            begins = np.cumsum(per_row, dtype=np.int64) - per_row
            places = consecutive(begins[rows], per_row[rows])
            row_of = np.repeat(np.arange(len(rows)), per_row[rows])
        index = {name: i for i, name in enumerate(vocabulary)}
        label_of_code = np.array([index.get(name, -1) for name in self.names], np.int32)
        of_tokens = self._masking is not None or "labels" in self._spill
        return StoredExamples(
            self._spill,
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            places,
            None if of_tokens else self._labels(rows, places, label_of_code, len(vocabulary)),
            self._truncated,
            text_lengths=None if text_lengths is None else text_lengths[places],
            masking=self._masking,
            token_labels=label_of_code if "labels" in self._spill else None,
            row_of=row_of,
        )

    def _labels(
        self, rows: np.ndarray, places: np.ndarray, label_of_code: np.ndarray, size: int
    ) -> np.ndarray | csr_array:
        labels = self.column("labels")
        if labels is not None:
            return labels[places]
        of_rows = self.labels_of(rows)
        indices = label_of_code[of_rows.codes]
        if self._format.classes:
            return indices
        assert of_rows.counts is not None
        ends = np.concatenate([[0], np.cumsum(of_rows.counts, dtype=np.int64)])
        return csr_array((np.ones(len(indices), np.bool_), indices, ends), shape=(len(rows), size))

    def _keep(self, name: str, values: np.ndarray) -> None:
        self._columns.setdefault(name, []).append(values)

    def _codes(self, names: Sequence[str]) -> np.ndarray:
        return np.array([self._index.setdefault(name, len(self._index)) for name in names], np.int32)

    def _skip(self, rows: Sequence[BadRow]) -> None:
        for row in rows:
            if self._table.on_bad_row == "stop":
                stop(row)
            self._skipped.append(row)

    def _check_texts(self, encoded: EncodedRows, examples: Examples) -> None:
        """Whether all questions have as many candidates."""
        if examples.text_lengths is None:
            return
        texts = examples.text_lengths.shape[1]
        if self._texts not in (None, texts):
            raise DataError(
                f"{self._table.train}: the question {encoded.first_text} has {texts} candidates, those before have "
                f"{self._texts}; all questions of a table need as many"
            )
        self._texts = texts

    def _check_file(self) -> None:
        """Whether the file that has ended has the columns of the first, as far as either has rows."""
        if self._file is None or not self._file[1]:
            return
        if self._first_file is None:
            self._first_file = self._file
        check_same_columns(*self._first_file, *self._file)
