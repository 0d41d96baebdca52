"""Small labelled tables of every task, and files to keep them in."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from bertjax.data.read.content import Reading
from bertjax.data.read.sources import read_table
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.split.read_splits import RowSplits, read_splits
from bertjax.data.table import Table
from bertjax.tasks import find_format

SUBJECTS = ["film", "book", "plot", "song", "film and book", "the song", "a plot", "very film"]
OPENINGS = ["the", "a very", "it was a", "so , the", "what a", "and the"]
TEXTS = [f"{opening} {subject}" for opening in OPENINGS for subject in SUBJECTS]


def _labelled(label_of: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of 48 texts, with a label by the number of each."""
    return [{"text": text, **label_of(i)} for i, text in enumerate(TEXTS)]


TABLES: dict[str, list[dict[str, Any]]] = {
    "classification": _labelled(lambda i: {"label": "xyz"[i % 3]}),
    "multi_label": _labelled(lambda i: {"labels": [name for name, n in (("odd", 2), ("third", 3)) if i % n]}),
    "regression": _labelled(lambda i: {"label": i / 10}),
    "token_classification": [
        {"tokens": [*words, "song", "book"], "tags": [*["O"] * len(words), "B-FILM", "I-FILM"]}
        for words in map(str.split, TEXTS)
    ],
    "question_answering": [
        {
            "id": f"q{i}",
            "question": f"what was the {SUBJECTS[i % 4]} ?" if i % 2 else "what ?",
            "context": f"{text} , and the song was good" + " . what a book" * (i % 2),
            "answers": {"text": ["song was good"], "answer_start": [len(text) + len(" , and the ")]}
            if i % 3
            else {"text": [], "answer_start": []},
        }
        for i, text in enumerate(TEXTS)
    ],
    "multiple_choice": _labelled(
        lambda i: {"choices": ["good film", "a bad and dull book", "great"], "answer": "ABC"[i % 3]}
    ),
    "next_sentence": _labelled(lambda i: {"next": ("and", "so")[i % 2] + " it was good", "label": i % 2}),
    "masked_lm": _labelled(lambda i: {}),
    "sentence_embedding": _labelled(lambda i: {"text2": ("a dull book", "good")[i % 2], "label": i % 2}),
}
COLUMNS = {"next_sentence": {"text_pair": ("next",)}}

CONTEXT = "The films, so great; what a plot! And the song was very bad, it was dull and not a good book at all."
QUESTIONS = [("q1", "what was dull ?", "song"), ("q2", "who was good ?", "films"), ("q3", "how was it ?", "not a good")]


def squad(*questions: tuple[str, str, str | None], version: str = "1.1") -> dict[str, Any]:
    """SQuAD's own nesting around (id, question, answer or None) of `CONTEXT`."""
    qas = []
    for name, question, answer in questions:
        answers = [] if answer is None else [{"text": answer, "answer_start": CONTEXT.index(answer)}]
        about = {"is_impossible": answer is None, "plausible_answers": [{"text": "x"}]} if version == "v2.0" else {}
        qas.append({"id": name, "question": question, "answers": answers, **about})
    return {"version": version, "data": [{"title": "T", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]}


def splits_of(table: Table, task: str = "classification") -> RowSplits:
    """The rows of a table as a task reads and splits them."""
    return read_splits(table, find_format(task))


def rows_of(texts: list[Any], pairs: list[Any] | None, labels: list[Any]) -> Rows:
    """Rows at the beginning of a table."""
    return Rows(texts, pairs, labels, list(range(len(texts))))


def columns_of(
    source: str, encoding: str = "utf-8", on_bad_row: Literal["stop", "skip"] = "stop"
) -> dict[str, list[Any]]:
    """The cells of a source, column by column."""
    return read_table(source, Reading(encoding), on_bad_row).frame.to_dict("list")


def zipped(content: bytes, *names: str) -> bytes:
    """An archive that has the same content under each name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return buffer.getvalue()


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Writes a frame in the format of the path's suffix."""
    match path.suffix:
        case ".csv" | ".tsv":
            frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
        case ".xlsx":
            frame.to_excel(path, index=False)
        case ".parquet":
            frame.to_parquet(path)
        case _:
            frame.to_json(path, orient="records", lines=path.suffix == ".jsonl")


def flip_labels(path: Path) -> None:
    """Gives each row of a csv file with the labels good and bad in its last column the other one."""
    header, *lines = path.read_text().splitlines()
    other = {"good": "bad", "bad": "good"}
    rows = (line.rsplit(",", 1) for line in lines)
    path.write_text("\n".join([header, *(f"{text},{other[label]}" for text, label in rows)]) + "\n")
