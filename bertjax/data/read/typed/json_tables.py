"""Tables in JSON: an array of records, an object of columns, the other shapes that pandas writes, and SQuAD's nesting.

    [{"text": ..., "label": ...}, ...]                      records
    {"text": [...], "label": [...]}                         columns; pandas writes each as {"0": ..., "1": ...}
    {"data": [{...}, ...], "version": ...}                  records beside other things; `orient="table"` of pandas
    {"columns": [...], "data": [[...], ...]}                `orient="split"` of pandas
    {"0": {"text": ..., "label": ...}, ...}                 `orient="index"` of pandas
    [{"context": ..., "qas": [{"question": ..., ...}]}]     questions, also below `paragraphs` as in SQuAD

Every other shape is an error, and so is an object of objects that may be columns as well as records.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bertjax.data.read.bad_rows import BadRow
from bertjax.data.read.content import Content, frame_of_columns, frame_of_records
from bertjax.data.read.notes import Note
from bertjax.data.read.text_lines import line_breaks
from bertjax.errors import DataError

_RECORDS = "save it as an array of objects, one for each row (orient='records' in pandas)"


def read_json_lines(content: Content) -> Iterable[pd.DataFrame]:
    """Frames of the records of a file that has one a line."""
    return content.frames(_records_of_lines(content), frame_of_records)


def _records_of_lines(content: Content) -> Iterator[tuple[int, Mapping[str, Any]]]:
    source, on_bad_row = content.source, content.on_bad_row
    is_empty = True
    for number, line in enumerate(content.lines(), start=1):
        if not line.strip():
            continue
        is_empty = False
        try:
            record = _parse_json(line)
        except ValueError as error:
            problem = f"{error.msg} (character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else error
            on_bad_row(BadRow(source, number, f"is no JSON object: {problem}"))
            continue
        if isinstance(record, dict):
            yield from ((number, row) for row in _questions([record]) or [record])
        else:
            hint = " (name a file that is one array .json)" if isinstance(record, list) else ""
            on_bad_row(BadRow(source, number, f"is no JSON object but {_kind(record)}{hint}"))
    if is_empty:
        raise DataError(f"{source} is empty; it needs one JSON object a line")


def read_json(content: Content) -> Iterable[pd.DataFrame]:
    """The rows of a JSON document, as one frame."""
    source, text = content.source, "".join(content.lines())
    if not text.strip():
        raise DataError(f"{source} is empty; it needs an array of objects")
    try:
        table = _parse_json(text)
    except json.JSONDecodeError as error:
        hint = "; name a file with one object a line .jsonl" if error.msg == "Extra data" else ""
        line = 1 + line_breaks(text[: error.pos])
        raise DataError(f"{source} cannot be read as JSON: line {line}: {error.msg}{hint}") from None
    except ValueError as error:
        raise DataError(f"{source} cannot be read: {error}") from None
    if isinstance(table, list):
        return [_frame_of_array(table, source)]
    if isinstance(table, dict):
        return [_frame_of_object(table, content)]
    raise DataError(f"{source} is no table; it must hold an array of objects, or an object of columns")


def _frame_of_array(items: Sequence[Any], source: str) -> pd.DataFrame:
    bad = next((i for i, row in enumerate(items) if not isinstance(row, dict)), None)
    if bad is not None:
        raise DataError(f"{source} is no table: item {bad + 1} of its array is {_kind(items[bad])}, no object")
    return frame_of_records(_questions(items) or items)


def _frame_of_object(table: Mapping[str, Any], content: Content) -> pd.DataFrame:
    source = content.source
    if _is_split(table):
        content.on_note(Note(source, "its rows are in 'data', and their columns in 'columns'"))
        return frame_of_columns({name: [row[i] for row in table["data"]] for i, name in enumerate(table["columns"])})
    lists = [key for key, value in table.items() if isinstance(value, list)]
    if lists and all(_holds_objects(table[key]) for key in lists):
        if len(lists) > 1:
            raise DataError(f"{source} holds several tables, {', '.join(map(repr, lists))}; save each as its own file")
        return _frame_of_key(lists[0], table[lists[0]], content)
    if table and all(isinstance(value, dict) for value in table.values()):
        return _frame_of_objects(table, content)
    if all(isinstance(value, list | dict) for value in table.values()):
        return _frame_of_columns(table, source)
    raise DataError(f"{source} is no table; it must hold an array of objects, or an object of columns")


def _frame_of_key(key: str, items: Sequence[Any], content: Content) -> pd.DataFrame:
    if not _questions(items):
        content.on_note(Note(content.source, f"its rows are in {key!r}"))
    return _frame_of_array(items, content.source)


def _holds_objects(value: Sequence[Any]) -> bool:
    return bool(value) and all(isinstance(item, dict) for item in value)


def _is_split(table: Mapping[str, Any]) -> bool:
    names, rows = table.get("columns"), table.get("data")
    return (
        set(table) <= {"columns", "index", "data"}
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(rows, list)
        and all(isinstance(row, list) and len(row) == len(names) for row in rows)
    )


def _frame_of_objects(table: Mapping[str, Mapping[str, Any]], content: Content) -> pd.DataFrame:
    """An object of objects: columns, from row label to cell, or rows, from column to cell.

    Row labels are 0, 1, 2 and so on unless someone gave the frame an index, and no column has such a name. Columns have
    the same rows, while a row may lack a cell.
    """
    source = content.source
    outer, inner = list(table), list(dict.fromkeys(name for item in table.values() for name in item))
    outer_are_rows, inner_are_rows = (all(name.isdecimal() for name in names) for names in (outer, inner))
    is_rectangle = all(list(item) == inner for item in table.values())
    if inner_are_rows or (is_rectangle and not outer_are_rows and len(outer) <= len(inner)):
        return _frame_of_columns(table, source)
    if outer_are_rows or not is_rectangle:
        content.on_note(Note(source, "its rows are the values of its object"))
        return _frame_of_array(list(table.values()), source)
    raise DataError(f"{source} is an object of objects, each of which may be a row or a column; {_RECORDS}")


def _frame_of_columns(table: Mapping[str, Any], source: str) -> pd.DataFrame:
    columns = list(table.values())
    # pandas writes a column as an object, from row label to cell.
    labels = [list(column) if isinstance(column, dict) else len(column) for column in columns]
    if any(label != labels[0] for label in labels):
        raise DataError(f"{source} is no table: its columns have different rows")
    cells = [list(column.values()) if isinstance(column, dict) else column for column in columns]
    return frame_of_columns(dict(zip(table, cells, strict=True)))


def _questions(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A record for each question, where the items are articles of SQuAD (Rajpurkar et al. 2016, 2018) or its
    paragraphs; else nothing. Plausible answers of SQuAD 2.0 are not answers."""
    if items and all(isinstance(item.get("paragraphs"), list) for item in items):
        return [record for item in items for part in item["paragraphs"] for record in _asked(part, item.get("title"))]
    if items and all(isinstance(item.get("qas"), list) and "context" in item for item in items):
        return [record for item in items for record in _asked(item, item.get("title"))]
    return []


def _asked(paragraph: Mapping[str, Any], title: Any) -> Iterator[dict[str, Any]]:
    for question in paragraph.get("qas", []):
        yield {
            "id": question.get("id"),
            "title": title,
            "context": paragraph.get("context"),
            "question": question.get("question"),
            "answers": [] if question.get("is_impossible") else question.get("answers"),
        }


def _parse_json(text: str) -> Any:
    """The value of JSON text.

    Raises:
      ValueError: the text is no JSON, is nested too deeply, or escapes half of a character.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # A lone surrogate is legal JSON but no text: neither files nor tokenizers accept it.
    if re.search(r"\\u[dD]", text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(r"a \u escape is half of a surrogate pair") from None
    return value


def _kind(value: object) -> str:
    kinds = {list: "an array", dict: "an object", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
