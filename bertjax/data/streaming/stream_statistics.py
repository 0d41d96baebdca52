"""`StreamStatistics`: what one pass over training rows keeps of them all, a few numbers a row and no text."""

import hashlib
import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from bertjax.data.encode.examples import Examples, LostWords, WordLabels
from bertjax.data.encode.masking import DynamicMasking
from bertjax.data.read.bad_rows import BadRow
from bertjax.data.read.sources import check_same_columns, listing, stop
from bertjax.data.rows.cells import FirstCell, check_one_type
from bertjax.data.rows.label_vocabulary import RowLabels, consecutive
from bertjax.data.rows.timestamps import sortable_times
from bertjax.data.split.labelled_table import contract_error, no_text_error, preprocessing_of
from bertjax.data.split.read_splits import Split, blank_order_error
from bertjax.data.split.split_rows import RowKeys
from bertjax.data.streaming.disk_store import DiskStore, StoredExamples
from bertjax.data.streaming.encode_block import EncodedBlock
from bertjax.data.streaming.ray_blocks import FileBlock
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat
from bertjax.data.task_formats.answer_format import warn_of_unlearnable
from bertjax.data.validate.contract import CheckedPart, Contract, Finding, describe_broken, findings_of
from bertjax.data.validate.data_report import TableReport
from bertjax.errors import DataError

logger = logging.getLogger(__name__)


class StreamStatistics:
    """Gathers a table block by block: `add` every block, then `finish`, then ask for keys, report and splits."""

    def __init__(
        self,
        table: Table,
        task_format: TaskFormat,
        store: DiskStore,
        token_dtype: np.dtype,
        contract: Contract | None,
    ):
        """Statistics of no row; `store` will keep the tokens, as `token_dtype`."""
        self._table, self._format, self._store, self._token_dtype = table, task_format, store, token_dtype
        self._contract, self._checked = contract, list[CheckedPart]()
        self._findings: tuple[Finding, ...] = ()
        self._first_unusable: BadRow | None = None
        self._skipped: list[BadRow] = []
        self._num_read = self._num_usable = self._num_rows = self._truncated = self._unlearnable = 0
        self._file_columns: dict[str, dict[str, None]] = {}
        self._cell_types: dict[str, FirstCell] = {}
        self._num_candidates: int | None = None
        self._special_tokens = 0
        self._code_of_name: dict[str, int] = {}
        self._order: list[pd.Series] = []
        self._masking: DynamicMasking | None = None
        self._token_labels = hashlib.sha256()
        self._arrays: dict[str, list[np.ndarray]] = {}

    def add(self, block: FileBlock) -> None:
        """Adds the next block; raises DataError for an error of the worker, or an unusable row that ends the run."""
        if block.file not in self._file_columns:
            self._check_last_file()
        self._file_columns.setdefault(block.file, {}).update(dict.fromkeys(block.columns))
        self._skip(block.broken)
        if block.error:
            raise DataError(block.error)
        if block.encoded is not None:
            self._add_rows(block.encoded)

    def _add_rows(self, block: EncodedBlock) -> None:
        for name, first in block.cell_types.items():
            self._cell_types.setdefault(name, first._replace(row=first.row + self._num_read))
        check_one_type(self._cell_types, self._table.label, self._table.train)
        if block.checked is not None:
            self._checked.append(block.checked)
        # Formats that know the lines of their rows count these instead.
        skipped = [row._replace(line=row.line + self._num_read) if row.unit == "row" else row for row in block.skipped]
        if self._contract and skipped and self._table.on_bad_row == "stop":
            # Broken expectations of the whole table are reported before its rows.
            self._first_unusable = self._first_unusable or skipped[0]
        else:
            self._skip(skipped)
        if block.examples is not None:
            self._append("positions", self._num_read + block.keys.positions)
        self._num_read += block.num_rows
        self._append("blank_order", self._num_usable + block.blank_order)
        self._num_usable += block.num_rows - len(block.skipped)
        if block.examples is not None:
            self._add_examples(block, block.examples)

    def _add_examples(self, block: EncodedBlock, examples: Examples) -> None:
        self._check_candidates(block, examples)
        labels = block.keys.labels
        code_of = self._code_of_name
        codes = np.array([code_of.setdefault(name, len(code_of)) for name in labels.names], np.int32)
        if examples.words is not None:
            lost = examples.words.lost
            self._append("lost_rows", self._num_rows + lost.rows)
            self._append("lost_before", lost.before)
            self._append("lost_labels", codes[lost.labels])
            self._append("unlabelled", self._num_rows + examples.words.unlabelled)
        self._num_rows += labels.num_rows
        self._special_tokens = examples.special_tokens
        self._truncated += examples.truncated
        self._unlearnable += examples.unlearnable
        self._append("lengths", examples.lengths.astype(np.int32))
        self._append("text_hashes", block.keys.texts)
        self._append("leak_hashes", block.keys.leaks)
        self._append("answer_hashes", block.keys.answers)
        if block.order is not None:
            self._order.append(block.order)
        self._append("codes", codes[labels.codes])
        if not self._format.classes and labels.per_row is not None:
            self._append("labels_per_row", labels.per_row)
        if examples.row_of is not None:
            self._append("examples_per_row", np.bincount(examples.row_of, minlength=labels.num_rows).astype(np.int32))
        if examples.text_lengths is not None:
            self._append("text_lengths", examples.text_lengths.astype(np.int32))
        stored = {
            "token_ids": examples.token_ids.astype(self._token_dtype),
            "token_type_ids": examples.token_type_ids.astype(np.uint8),
        }
        if examples.masking is not None:
            self._masking = examples.masking._replace(words=np.empty(0, np.int32))
            stored["words"] = examples.masking.words
        elif examples.labels_of == "tokens":
            indices = examples.labels
            stored["labels"] = np.where(indices < 0, indices, codes[np.maximum(indices, 0)]).astype(np.int32)
            self._token_labels.update(stored["labels"].tobytes())
        elif not self._format.indexed:
            self._append("labels", examples.labels)
        self._store.append(**stored)

    def finish(self) -> None:
        """Ends the pass; raises DataError where no row is left, or the table breaks its contract."""
        self._check_last_file()
        source = self._table.train
        if not self._num_read:
            but = f" but {listing(self._skipped)}" if self._skipped else ""
            raise DataError(f"{source} has no rows{but}")
        if self._contract:
            columns = dict.fromkeys(name for of_file in self._file_columns.values() for name in of_file)
            self._findings = findings_of(self._contract, self._table, list(columns), self._checked)
            if broken := describe_broken(self._findings):
                raise contract_error(self._table, source, broken)
        if self._first_unusable:
            stop(self._first_unusable)
        if not self._num_usable:
            raise DataError(f"{source} has no row that can be used; the first is {self._skipped[0]}")
        if not self._num_rows:
            raise no_text_error(source, preprocessing_of(self._table), self._num_usable)
        if self._skipped:
            logger.warning("%s: left out %s", source, listing(self._skipped))
        warn_of_unlearnable(source, self._unlearnable)

    def report(self) -> TableReport:
        """The outcome of reading the table."""
        emptied = self._num_usable - self._num_rows
        return TableReport(self._table.train, self._num_usable, tuple(self._skipped), self._findings, emptied)

    def row_keys(self) -> RowKeys:
        """The keys; raises DataError where a row lacks the group or time that the split goes by."""
        blank = self._array("blank_order")
        if len(blank):
            raise blank_order_error(self._table, blank)
        order = None
        if self._order:
            cells = pd.concat(self._order, ignore_index=True)
            order = cells.to_numpy() if self._table.group else sortable_times(cells, self._table.train)
        return RowKeys(
            texts=self._array("text_hashes"),
            leaks=self._array("leak_hashes"),
            labels=self._labels(),
            answers=self._array("answer_hashes"),
            positions=self._array("positions"),
            order=order,
        )

    def split(self, rows: np.ndarray, vocabulary: Sequence[str]) -> Split[StoredExamples]:
        """The examples of some rows (indices among those that have text), in their order."""
        examples = self._examples(rows, vocabulary)
        return Split(self._table.train, examples, self._digest(rows), len(rows))

    def _digest(self, rows: np.ndarray) -> str:
        content = self._token_labels.copy()
        labels = [self._array("labels")] if "labels" in self._arrays else []
        for array in (self._array("text_hashes")[rows], self._labels().take(rows).codes, *labels):
            content.update(array.tobytes())
        content.update(repr(list(self._code_of_name)).encode())
        return content.hexdigest()[:16]

    def _examples(self, rows: np.ndarray, vocabulary: Sequence[str]) -> StoredExamples:
        places, row_of = rows, None
        if "examples_per_row" in self._arrays:
            per_row = self._array("examples_per_row")
            begins = np.cumsum(per_row, dtype=np.int64) - per_row
            places = consecutive(begins[rows], per_row[rows])
            row_of = np.repeat(np.arange(len(rows)), per_row[rows])
        index = {name: i for i, name in enumerate(vocabulary)}
        label_of_code = np.array([index.get(name, -1) for name in self._code_of_name], np.int32)
        tokens_have_labels = self._masking is not None or "labels" in self._store
        return StoredExamples(
            self._store,
            np.concatenate([[0], np.cumsum(self._array("lengths"), dtype=np.int64)]),
            places,
            None if tokens_have_labels else self._example_labels(rows, places, label_of_code, len(vocabulary)),
            self._truncated,
            text_lengths=self._array("text_lengths")[places] if "text_lengths" in self._arrays else None,
            masking=self._masking,
            token_labels=label_of_code if "labels" in self._store else None,
            row_of=row_of,
            words=self._words(label_of_code).take(rows) if "lost_rows" in self._arrays else None,
            special_tokens=self._special_tokens,
        )

    def _words(self, label_of_code: np.ndarray) -> WordLabels:
        """What tokens do not tell of the words of all rows."""
        lost = LostWords(
            self._array("lost_rows"), self._array("lost_before"), label_of_code[self._array("lost_labels")]
        )
        return WordLabels(self._table.tag_scheme, lost, self._array("unlabelled"))

    def _example_labels(
        self, rows: np.ndarray, places: np.ndarray, label_of_code: np.ndarray, num_labels: int
    ) -> np.ndarray | csr_array:
        if "labels" in self._arrays:
            return self._array("labels")[places]
        labels = self._labels().take(rows)
        indices = label_of_code[labels.codes]
        if labels.per_row is None:
            return indices
        ends = np.concatenate([[0], np.cumsum(labels.per_row, dtype=np.int64)])
        return csr_array((np.ones(len(indices), np.bool_), indices, ends), shape=(len(rows), num_labels))

    def _labels(self) -> RowLabels:
        """The label names of all rows, in the order in which they were met."""
        per_row = self._array("labels_per_row") if "labels_per_row" in self._arrays else None
        return RowLabels(tuple(self._code_of_name), self._array("codes"), per_row)

    def _append(self, name: str, values: np.ndarray) -> None:
        self._arrays.setdefault(name, []).append(values)

    def _array(self, name: str) -> np.ndarray:
        """The appended arrays, end to end."""
        arrays = self._arrays[name]
        if len(arrays) > 1:
            arrays[:] = [np.concatenate(arrays)]  # keeping the parts would double the memory
        return arrays[0]

    def _skip(self, rows: Sequence[BadRow]) -> None:
        for row in rows:
            if self._table.on_bad_row == "stop":
                stop(row)
            self._skipped.append(row)

    def _check_candidates(self, block: EncodedBlock, examples: Examples) -> None:
        """Checks that all questions have the same number of candidates."""
        number = None if examples.text_lengths is None else examples.text_lengths.shape[1]
        if self._num_candidates not in (None, number):
            raise DataError(
                f"{self._table.train}: the question {block.first_text} has {number} candidates, those before have "
                f"{self._num_candidates}; all questions of a table need as many"
            )
        self._num_candidates = number

    def _check_last_file(self) -> None:
        """Checks that the last file has the columns of the first, as far as both have rows."""
        files = self._file_columns.items()
        last = next(reversed(files), None)
        if last is not None and last[1]:
            check_same_columns(*next(file for file in files if file[1]), *last)
