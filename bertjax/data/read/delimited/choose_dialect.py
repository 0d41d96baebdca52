r"""Chooses the dialect of a delimited file by a bounded look at its lines, before the rows are parsed.

The delimiter is that of the suffix, unless the header and most of the first rows agree on another one: the candidate
that gives the most rows the header's number of cells, which must be two or more. A first line `sep=;`, as Excel writes
it, decides.

Quotes are decided at the first cell that begins with one, since until then they change nothing. With a comma and the
like cells have quotes. With a tab they have them only if the file clearly uses them:

- a quoted cell in the header decides for them;
- a row is *clear* where a quoted cell holds a delimiter, a line break or a doubled quote;
- a row is *contrary* where quoting breaks it, or makes it swallow lines, each of which alone is a whole row.

The many decide, at ten to one; else the file is refused, so that nothing is guessed. Without clear and contrary rows,
cells have quotes if each row has one.

In quoted cells `\"` is a quote if fewer rows are broken so. Spaces after delimiters are dropped where each of the first
rows has them after each delimiter, and where quotes follow them and no more rows are broken so.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from bertjax.data.read.delimited.dialect import Dialect, DialectSettings, cells_of_any_length, spans
from bertjax.data.read.text_lines import Lines
from bertjax.errors import DataError

DELIMITERS = (",", "\t", ";", "|")
HEAD_LINES = 2**7
"""Lines that decide the delimiter."""

LOOK_AHEAD_LINES = 2**16
"""Lines from the first quoted cell on that decide the quoting."""

OUTNUMBERS = 10
"""Rows that speak for one way, for each that speaks for the other."""


def choose_delimiter(lines: Lines, start: int, usual: str, source: str) -> str:
    """The delimiter of the file whose header is the first line from `start` on that is not blank.

    Raises:
      DataError: two candidates fit equally well.
    """
    shares = {
        delimiter: max(_share_of_regular_rows(lines, start, Dialect(delimiter, quoting)) for quoting in (True, False))
        for delimiter in dict.fromkeys([usual, *DELIMITERS])
    }
    fitting = [delimiter for delimiter, share in shares.items() if share == max(shares.values())]
    if usual in fitting:
        return usual
    if len(fitting) > 1:
        found = " or ".join(map(repr, fitting))
        raise DataError(f"{source}: its cells may be separated by {found}; name the right one: --delimiter")
    return fitting[0]


def _share_of_regular_rows(lines: Lines, start: int, dialect: Dialect) -> float:
    """Share of the first rows that have the header's number of cells; 0 unless these are two or more, and most rows
    fit."""
    header, *widths = [len(row) for row in _first_rows(lines, start, dialect)] or [0]
    share = widths.count(header) / len(widths) if widths and header > 1 else 0.0
    return share if share > 0.5 else 0.0


def has_spaced_cells(lines: Lines, start: int, delimiter: str) -> bool:
    """Whether spaces follow each delimiter of the header and of the first rows."""
    header, *rows = _first_rows(lines, start, Dialect(delimiter)) or [[]]
    spaced = all(cell.startswith(" ") for cell in header[1:])
    return len(header) > 1 and spaced and all(cell.startswith(" ") or not cell for row in rows for cell in row[1:])


@cells_of_any_length()
def _first_rows(lines: Lines, start: int, dialect: Dialect) -> list[list[str]]:
    """The rows of the first lines that are not blank, broken or not."""
    head = islice(lines.since(start), HEAD_LINES)
    return [row for row in dialect.reader(head, strict=False) if any(map(str.strip, row))]


class Evidence(NamedTuple):
    """What speaks for a dialect and against it: indices of lines."""

    in_header: bool  # whether the header has a cell in quotes
    clear: tuple[int, ...]  # rows with a cell that is surely quoted
    contrary: tuple[int, ...]  # rows that would be whole if quotes were text, and are not
    num_broken: int  # rows that cannot be read, or have another number of cells than the header
    all_quoted: bool  # whether each row has a cell in quotes
    spaced: bool  # whether a cell begins with spaces and a quote


def choose_quoting(
    lines: Lines,
    start: int,
    plain: Dialect,
    width: int | None,
    settings: DialectSettings,
    source: str,
    is_first_row: bool,
) -> Dialect:
    """The dialect of a file from line `start` on, which is the first with a cell that begins with a quote.

    Args:
      lines: of the file.
      start: index of that line.
      plain: the dialect of the lines before.
      width: cells of the header; None where it begins at `start`.
      settings: what is decided already.
      source: name for messages.
      is_first_row: whether no row but the header comes before.

    Raises:
      DataError: some rows say that quotes are around cells, and others that they are text.
    """
    given = plain._replace(quoting=settings.quoting != "off", escape=settings.escape or None)
    if not given.quoting:
        return given
    window = list(islice(lines.since(start), LOOK_AHEAD_LINES))
    is_whole = start + len(window) not in lines
    with_quotes, found = _best_with_quotes(window, given, width, is_whole, escapes=settings.escape is None)
    if settings.quoting == "on" or given.delimiter != "\t" or found.in_header:
        return with_quotes
    clear, contrary = len(found.clear), len(found.contrary)
    if clear and contrary and max(clear, contrary) < OUTNUMBERS * min(clear, contrary):
        quoted_line, text_line = start + found.clear[0] + 1, start + found.contrary[0] + 1
        raise DataError(
            f"{source}: line {quoted_line} has a cell in quotes, and in line {text_line} a quote may be text; say "
            f"which holds: --quoting on or --quoting off"
        )
    has_quotes = clear > contrary or (clear == contrary and is_first_row and found.all_quoted)
    return with_quotes if has_quotes else given._replace(quoting=False)


def _best_with_quotes(
    window: Sequence[str], given: Dialect, width: int | None, is_whole: bool, escapes: bool
) -> tuple[Dialect, Evidence]:
    """The dialect with quotes that breaks the fewest rows, with escapes and without, skipping spaces or not; and what
    speaks for it."""
    judged = {given: evidence(window, given, width, is_whole)}
    characters = {given.escape, "\\" if escapes and any('\\"' in line for line in window) else given.escape}
    skips = {given.skip_initial_space, judged[given].spaced}
    for dialect in (given._replace(escape=escape, skip_initial_space=skip) for escape in characters for skip in skips):
        judged[dialect] = judged.get(dialect) or evidence(window, dialect, width, is_whole)
    best = min(judged, key=lambda d: (judged[d].num_broken, d.escape != given.escape, not d.skip_initial_space))
    return best, judged[best]


def evidence(window: Sequence[str], dialect: Dialect, width: int | None, is_whole: bool) -> Evidence:
    """Judges a dialect by lines of a file; see the module.

    Args:
      window: the lines.
      dialect: with quoting.
      width: cells of the header; None where it is the first row of the window.
      is_whole: whether the file ends with the window; otherwise its last row may be cut.
    """
    clear, contrary = [], []
    in_header = False
    num_broken, all_quoted, spaced = 0, True, False
    quoted_cell = _quoted_cell(dialect)
    shows_quoting = re.compile(rf'""|[\r\n]|{re.escape(dialect.delimiter)}').search
    for first, end, cells in spans(Lines(iter(window)), 0, dialect):
        text = window[first:end]
        if cells is not None and not any(map(str.strip, cells)):
            continue
        spaced = spaced or (cells is not None and _has_spaces_before_quotes(text, cells, dialect))
        is_header = width is None
        width = width or (dialect.width(text[0]) if cells is None else len(cells))
        if cells is None or len(cells) != width:
            if end == len(window) and not is_whole and first > 0:
                continue
            num_broken += 1
            if dialect.width(text[0]) == width and dialect.cell_opens_with_quote(text[0]):
                contrary.append(first)
            continue
        inside = [match.group(1) for match in quoted_cell.finditer("".join(text))]
        all_quoted = all_quoted and bool(inside)
        if is_header:
            in_header = bool(inside)
        is_swallowing = swallows(text, dialect, width)
        if is_swallowing:
            contrary.append(first)
        # In a single column each line looks like a row, so that line breaks say as much for quotes as against them.
        if (not is_swallowing or width == 1) and any(map(shows_quoting, inside)):
            clear.append(first)
    return Evidence(in_header, tuple(clear), tuple(contrary), num_broken, all_quoted, spaced)


@cells_of_any_length()
def _has_spaces_before_quotes(text: Sequence[str], cells: Sequence[str], dialect: Dialect) -> bool:
    """Whether a cell of a row begins with spaces and a quote, and is not itself in quotes."""
    suspects = [cell for cell in cells if re.match(' +"', cell)]
    if not suspects:
        return False
    # In quotes, spaces are never skipped.
    skipping = next(dialect._replace(skip_initial_space=True).reader(text, strict=False))
    return any(cell not in skipping for cell in suspects)


def swallows(text: Sequence[str], dialect: Dialect, width: int) -> bool:
    """Whether each of the lines of one row, read alone and with its quotes as text, is a whole row."""
    return len(text) > 1 and all(dialect.width(line) == width for line in text if line.strip())


@lru_cache
def _quoted_cell(dialect: Dialect) -> re.Pattern[str]:
    """Finds quoted cells in a row that the csv module can read; group 1 is what is between the quotes."""
    delimiter = re.escape(dialect.delimiter)
    escape = re.escape(dialect.escape) if dialect.escape else ""
    plain, special = rf'[^"{escape}]*', rf'(?:""|{escape}.)' if escape else '""'
    return re.compile(rf'(?:^|(?<={delimiter})) *"({plain}(?:{special}{plain})*)" *(?={delimiter}|[\r\n]|$)', re.DOTALL)
