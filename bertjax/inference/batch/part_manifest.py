"""The manifest of a prediction: what it is made from, and which parts are finished.

    {"version": 1, "made_from": {...}, "plan": {...}}                  the first line
    {"part": 0, "rows": 32768, "answered": 32768, "left_out": 0, "bytes": 2911023, "columns": [...]}  one a part

A part's line is written after its file. Parts are finished in their order, so a start that was killed has the parts
before some number, and whatever else is in the folder is written again.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice, takewhile
from typing import Any, NamedTuple

from bertjax.errors import RunFolderError
from bertjax.inference.batch.column_types import schema_of_text, schema_text
from bertjax.inference.batch.output_place import OutputPlace
from bertjax.inference.batch.row_source import RowSource, Survey
from bertjax.settings import differences
from bertjax.storage.append_only_log import AppendOnlyLog

logger = logging.getLogger(__name__)

_VERSION = 1
_LISTED = 3
_READ = ("text", "text_pair", "candidates")  # settings of the table that the files' columns may name


class FinishedPart(NamedTuple):
    """A part whose file is complete.

    Attributes:
      rows: readable rows of it.
      answered: those of them that have an answer.
      left_out: rows, readable or not, that have no answer.
      bytes: size of the file.
      columns: names of all columns.
    """

    part: int
    rows: int
    answered: int
    left_out: int
    bytes: int
    columns: list[str]


class Plan(NamedTuple):
    """What is known before anything is computed.

    Attributes:
      source: the rows, their text columns named as in the files.
      survey: of them.
      schema: of the input columns in Arrow's types; None for a format without types.
    """

    source: RowSource
    survey: Survey
    schema: Any

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads."""
        return {
            **self.survey._asdict(),
            "read": {name: getattr(self.source.table, name) for name in _READ},
            "schema": None if self.schema is None else schema_text(self.schema),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], source: RowSource) -> "Plan":
        """The inverse, for the same rows.

        Raises:
          KeyError, TypeError, ValueError: other values than `to_json` writes.
        """
        columns: dict[str, Any] = {name: tuple(stored["read"][name]) for name in _READ}
        survey = Survey(tuple(stored["columns"]), stored["rows"], stored["left_out"])
        if not all(isinstance(name, str) for name in survey.columns) or not isinstance(survey.rows, int):
            raise TypeError
        schema = None if stored["schema"] is None else schema_of_text(stored["schema"])
        return cls(source._replace(table=replace(source.table, **columns)), survey, schema)


class PartManifest:
    """The manifest of an output; nothing is read or written yet."""

    def __init__(self, place: OutputPlace):
        self._place = place
        self._log = AppendOnlyLog(place.manifest, fsync=True)

    def begin(self, made_from: Mapping[str, Any], plan: Plan) -> None:
        """Writes the first line."""
        self._log.append({"version": _VERSION, "made_from": made_from, "plan": plan.to_json()})

    def plan(self, made_from: Mapping[str, Any], source: RowSource) -> Plan | None:
        """The plan of an earlier start; None where there was none.

        Args:
          made_from: by this start, which must be the same.
          source: the rows, as the model says to read them.

        Raises:
          RunFolderError: the earlier start was made from something else, or the manifest is damaged.
        """
        first = next(self._log.entries(), None)
        if first is None:
            return None
        try:
            stored, plan = first["made_from"], Plan.from_json(first["plan"], source)
            changed = differences(stored, json.loads(json.dumps(made_from)))  # lists, as JSON has them
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._damaged(1) from None
        if changed:
            more = f" and {len(changed) - _LISTED} more" if len(changed) > _LISTED else ""
            raise RunFolderError(
                f"{self._place.parts} holds parts of another prediction: {', '.join(changed[:_LISTED])}{more}; give "
                f"the same again, or --overwrite to begin again"
            )
        return plan

    def finished(self) -> list[FinishedPart]:
        """The finished parts, from the first one on; a part that is not as it was written counts as unfinished.

        Raises:
          RunFolderError: the manifest is damaged.
        """
        latest: dict[int, FinishedPart] = {}
        for line, entry in enumerate(islice(self._log.entries(), 1, None), start=2):
            match entry:
                case {
                    "part": int(part),
                    "rows": int(rows),
                    "answered": int(answered),
                    "left_out": int(left_out),
                    "bytes": int(size),
                    "columns": list(columns),
                }:
                    latest[part] = FinishedPart(part, rows, answered, left_out, size, columns)
                case _:
                    raise self._damaged(line)
        return list(takewhile(self._is_whole, (latest[part] for part in range(len(latest)) if part in latest)))

    def _is_whole(self, part: FinishedPart) -> bool:
        path = self._place.part(part.part)
        whole = path.is_file() and path.stat().st_size == part.bytes
        if not whole:
            logger.warning("%s is not as it was written; it is computed again, and so are the parts after it", path)
        return whole

    def add(self, part: FinishedPart) -> None:
        """Records a part whose file is complete."""
        self._log.append(part._asdict())

    def _damaged(self, line: int) -> RunFolderError:
        return RunFolderError(
            f"{self._place.manifest}, line {line}: is no line of a manifest; restore the file, or begin again with "
            f"--overwrite"
        )
