"""A JSONL file that only grows: the tracking events of a run, the trials of a sweep."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bertjax.errors import RunFolderError

Entry = Mapping[str, Any]


class AppendOnlyLog:
    """One JSON object a line, written by one process and read by any number.

    An entry exists once its newline is written. A process that is killed in the middle of a write leaves a torn tail:
    readers ignore it, and the next writer cuts it off before its first line.
    """

    def __init__(self, path: Path, *, fsync: bool = False):
        """A log; nothing is read or written yet. With `fsync`, entries survive a crash of the machine too."""
        self.path = path
        self._fsync = fsync
        self._is_writable = False  # whether the file ends with a newline

    def lines(self, start: int = 0) -> Iterator[tuple[Entry, int]]:
        """The complete entries from an offset in bytes to the present end, each with the offset of the next line.

        Raises:
          RunFolderError: a line is no JSON object, or the file cannot be read.
        """
        end = start
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    end += len(line)
                    yield self._entry(line, end), end
        except FileNotFoundError:
            return
        except OSError as error:
            raise RunFolderError(f"{self.path} cannot be read: {error.strerror or error}; mend or remove it") from None

    def entries(self) -> Iterator[Entry]:
        """Every complete entry."""
        return (entry for entry, _ in self.lines())

    def append(self, entry: Entry) -> None:
        """Adds an entry in one write; threads that share a log take turns."""
        if not self._is_writable:
            self._cut_torn_tail()
        self._is_writable = False  # a full disk may take a part of the line
        with self.path.open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            if self._fsync:
                os.fsync(file.fileno())
        self._is_writable = True

    def _entry(self, line: bytes, end: int) -> Entry:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            fault = f"is not valid JSON ({error})"
        else:
            if isinstance(entry, dict):
                return entry
            fault = "must be a JSON object"
        number = self.path.read_bytes()[:end].count(b"\n")
        raise RunFolderError(f"{self.path}, line {number}: {fault}; restore the file, or remove that line")

    def _cut_torn_tail(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)
        self._is_writable = True
