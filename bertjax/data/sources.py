"""Tables from anywhere, as pandas frames: files, URLs, and the data sets of the catalog.

A csv has no types, so its cells are read as text and only an empty cell is missing: the words "NA" and "null" are
words, and the label "01" stays "01".
"""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from bertjax import catalog
from bertjax.errors import DataError

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_COMPRESSIONS = (".gz", ".bz2", ".zst", ".xz", ".zip")


def read_table(source: str, encoding: str = "utf-8") -> pd.DataFrame:
    """All columns and rows of a source.

    Args:
      source: a path, a URL, or the name of a catalog data set.
      encoding: of text files; a byte order mark is dropped.

    Raises:
      DataError: the source is missing, empty, broken (with its line) or of an unknown format.
      AssetError: a catalog data set cannot be fetched.
    """
    if source in catalog.names("data") and not Path(source).exists():
        return _read_catalog(source)
    read = _reader(source)
    is_url = re.match(r"[a-z][a-z0-9+]*://", source) is not None
    if not is_url and not Path(source).is_file():
        raise DataError(f"{source} does not exist; give a file, a URL, or one of {', '.join(catalog.names('data'))}")
    try:
        frame = read(source, encoding)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(
            f"{source} is not {encoding}: byte 0x{byte:02x} cannot be read; save it as UTF-8 or name its --encoding"
        ) from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{source} is empty; it needs a header and rows") from None
    except pd.errors.ParserError as error:
        raise DataError(f"{source}: {_parser_complaint(error)}") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{source} cannot be read: {error}") from None
    except (ValueError, ImportError) as error:
        raise DataError(f"{source} cannot be read: {str(error).splitlines()[0]}") from None
    if frame.empty:
        raise DataError(f"{source} has no rows")
    return frame


def _reader(source: str) -> Callable[[str, str], pd.DataFrame]:
    suffixes = [suffix.lower() for suffix in Path(source.split("?", maxsplit=1)[0]).suffixes]
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind in (".csv", ".tsv"):
        return lambda path, encoding: _read_csv(path, "," if kind == ".csv" else "\t", encoding)
    if kind in (".jsonl", ".ndjson"):
        return _read_json_lines
    if kind == ".parquet":
        return lambda path, encoding: pd.read_parquet(path)
    raise DataError(f"{source}: unknown format; bertjax reads {', '.join(FORMATS)}, compressed or not")


def _read_csv(path: str, separator: str, encoding: str) -> pd.DataFrame:
    return pd.read_csv(
        path,
        sep=separator,
        dtype=str,
        keep_default_na=False,
        na_values=[""],
        encoding=encoding,
        index_col=False,
        # pandas cuts a row that is too long with a warning when index_col is False; here it is an error.
        on_bad_lines="error",
    )


def _read_json_lines(path: str, encoding: str) -> pd.DataFrame:
    # pandas would guess types from names and values; a text that looks like a date must stay a text.
    return pd.read_json(path, lines=True, encoding=encoding, dtype=False)


def _parser_complaint(error: Exception) -> str:
    """pandas' sentence about a broken row, in the words of the table's owner."""
    found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
    if found:
        expected, line, saw = found.groups()
        return f"line {line} has {saw} fields, the header has {expected}; quote cells that contain the separator"
    found = re.search(r"EOF inside string starting at row (\d+)", str(error))
    if found:
        # pandas counts lines from 0 here, and from 1 above.
        return f"the quote that opens in line {int(found.group(1)) + 1} is never closed"
    return str(error).splitlines()[0]


def _read_catalog(name: str) -> pd.DataFrame:
    folder = catalog.fetch(name)
    (file,) = catalog.CATALOG[name].files
    return _CATALOG_READERS[name](folder / file)


def _read_trec(path: Path) -> pd.DataFrame:
    """Li and Roth 2002: lines of `COARSE:fine text`, in Latin-1; columns text, label (coarse) and fine."""
    rows = [line.split(" ", 1) for line in path.read_text(encoding="latin-1").splitlines() if line.strip()]
    frame = pd.DataFrame(rows, columns=["fine", "text"])
    return frame.assign(label=frame["fine"].str.split(":").str[0], text=frame["text"].str.strip())


def _read_sms_spam(path: Path) -> pd.DataFrame:
    """Almeida et al. 2011: one message a line; columns text and label (ham, spam).

    Most lines are `number,0 or 1,text`, the others still `ham or spam<tab>text`, inside quotes that never close: a csv
    reader would fold hundreds of messages into eight.
    """
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    rows = [re.fullmatch(r"(?:\d+,([01]),|(ham|spam)\t)(.*)", line) for line in lines if line]
    broken = rows.index(None) if None in rows else None
    if broken is not None:
        raise DataError(f"{path}: line {broken + 2} is no message")
    parts = [row.groups() for row in rows if row is not None]
    return pd.DataFrame(
        {
            "label": [word or ("spam" if flag == "1" else "ham") for flag, word, _ in parts],
            "text": [text.strip().strip('"').replace('""', '"') for _, _, text in parts],
        }
    )


_CATALOG_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {"trec": _read_trec, "sms-spam": _read_sms_spam}
