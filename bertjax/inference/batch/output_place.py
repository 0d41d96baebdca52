"""Where answers go: a file, or a folder of parts; and what may stand there already.

answers.csv          the file, which appears whole when all parts are done
answers.csv.parts/   its parts until then

answers/             a folder that keeps its parts
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bertjax.data.read.sources import File
from bertjax.errors import ConfigError, DataError, RunFolderError
from bertjax.inference.batch.part_formats import FORMATS, PartFormat
from bertjax.storage.folder_lock import contents

MANIFEST = "_manifest.jsonl"  # readers of folders of parquet leave out what begins so
_WRITTEN = re.compile(rf"\.?(part|_left-out)-\d{{5,}}\.\w+(\.tmp)?|{re.escape(MANIFEST)}|\..*\.tmp")


class OutputPlace(NamedTuple):
    """A file, or a folder of parts.

    Attributes:
      out: as the user named it.
      is_folder: whether the parts stay.
      format: of the parts.
    """

    out: Path
    is_folder: bool
    format: PartFormat

    @classmethod
    def of(cls, out: str, format_name: str | None) -> "OutputPlace":
        """The place that a user names: a file by its suffix; a name without one, or with a slash at its end, a folder.

        Raises:
          ConfigError: an unknown suffix, or a format that is not the file's.
        """
        path = Path(out)
        suffixes = {known.suffix: name for name, known in FORMATS.items()}
        if path.is_dir() or out.endswith("/") or not path.suffix:
            return cls(path, True, FORMATS[format_name or "parquet"])
        name = suffixes.get(path.suffix.lower())
        if name is None:
            known = ", ".join(suffixes)
            raise ConfigError(f"--out {out}: bertjax writes {known}; a name with / at its end is a folder of parts")
        if format_name not in (None, name):
            raise ConfigError(f"--out {out} is written as {name} by its suffix; leave out --format {format_name}")
        return cls(path, False, FORMATS[name])

    @property
    def parts(self) -> Path:
        """The folder of parts and manifest."""
        return self.out if self.is_folder else self.out.with_name(f"{self.out.name}.parts")

    @property
    def manifest(self) -> Path:
        return self.parts / MANIFEST

    def part(self, number: int) -> Path:
        """The file of a part."""
        return self.parts / f"part-{number:05d}{self.format.suffix}"

    def left_out(self, number: int) -> Path:
        """The rows of a part that have no answer; missing where all have one."""
        return self.parts / f"_left-out-{number:05d}.jsonl"

    def check_inputs(self, files: Iterable[File]) -> None:
        """Raises DataError where an input is the output, or one of its parts."""
        out, parts = self.out.resolve(), self.parts.resolve()
        for file in files:
            path = Path(file.name).resolve()
            if path == out or parts in path.parents:
                raise DataError(f"--data matches {file.name}, which --out {self.out} writes; choose another --out")

    def check(self, resume: bool, overwrite: bool) -> None:
        """Checks that parts may be written.

        Raises:
          RunFolderError: something is there that must not be replaced.
        """
        there, begun = contents(self.parts), self.manifest.exists()
        foreign = [path.name for path in there if path.is_dir() or not _WRITTEN.fullmatch(path.name)]
        if foreign:
            raise RunFolderError(
                f"{self.parts} holds {min(foreign)}, which is no part of a prediction; choose another --out"
            )
        if (begun and resume) or overwrite:
            return
        if not self.is_folder and self.out.exists():
            complete = " and no part of an earlier start is left to go on with" if resume else ""
            raise RunFolderError(f"--out {self.out} exists{complete}; --overwrite replaces it")
        if begun:
            raise RunFolderError(
                f"{self.parts} holds parts of an earlier start; --resume goes on with them, --overwrite begins again"
            )
        if there and self.is_folder:
            raise RunFolderError(f"--out {self.out} is not empty; --overwrite replaces it")

    def clear(self) -> None:
        """Removes what an earlier start left."""
        # The manifest first: without it, nothing goes on with what is left where this is interrupted.
        for path in sorted(contents(self.parts), key=lambda path: path.name != MANIFEST):
            path.unlink()
