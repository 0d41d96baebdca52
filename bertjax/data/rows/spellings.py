"""Finds labels that look alike but differ (case, white space, Unicode), and labels that read like missing cells."""

import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

from bertjax.errors import DataError

logger = logging.getLogger(__name__)

_LISTED = 3
_INTEGER = re.compile(r"([+-]?)0*([0-9]+)(?:\.0*)?")
# What pandas.read_csv takes for a missing cell unless it is told otherwise; here only an empty cell is.
MISSING_WORDS = frozenset({
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
})  # fmt: skip


def plain_spelling(label: str) -> str:
    """The spelling that labels share where they look alike: composed characters of the usual width, no invisible ones,
    single spaces, integers without leading zeros and decimals.

    >>> [plain_spelling(label) for label in ("01", "1.0", "very\\xa0good", "cafe\\u0301", "spam\\u200b", "1.5")]
    ['1', '1', 'very good', 'café', 'spam', '1.5']
    """
    if not (label.isascii() and label.isprintable()):
        label = unicodedata.normalize("NFC", "".join(map(_plain_character, label)))
    label = " ".join(label.split())
    integer = _INTEGER.fullmatch(label)
    return label if integer is None else f"{'-' if integer[1] == '-' else ''}{integer[2]}"


def _plain_character(character: str) -> str:
    if character.isspace():
        return " "
    if unicodedata.category(character) in ("Cc", "Cf") or "\ufe00" <= character <= "\ufe0f":  # variation selectors
        return ""
    is_wide = unicodedata.decomposition(character).startswith(("<wide>", "<narrow>"))
    return unicodedata.normalize("NFKC", character) if is_wide else character


def check_spellings(counts: Mapping[str, int], source: str, are_settled: bool) -> None:
    """Refuses labels that look alike, and warns of those that may be one, or no label.

    Args:
      counts: rows of each label.
      source: named in messages.
      are_settled: whether a setting says what becomes of labels that look alike.

    Raises:
      DataError: two labels have one plain spelling, and nothing is settled.
    """
    alike = look_alikes(counts, plain_spelling)
    if alike and not are_settled:
        raise DataError(
            f"{source}: labels look alike but are different: {_listing(alike, counts)}; --label-spelling merge makes "
            f"one label of them, --label-spelling keep leaves them apart"
        )
    other_case = [names for names in look_alikes(counts, str.casefold) if names not in alike]
    if other_case:
        logger.warning("%s: labels differ only by case, and are different: %s", source, _listing(other_case, counts))
    words = sorted(MISSING_WORDS & counts.keys())
    if words:
        logger.warning(
            "%s: some programs write a missing cell as a word that is a label here: %s; leave the cell empty where "
            "there is no label",
            source, _listing([[word] for word in words], counts),
        )  # fmt: skip


def look_alikes(labels: Iterable[str], spelling: Callable[[str], str]) -> list[list[str]]:
    """The groups of several labels that share a spelling, such as `plain_spelling` or `str.casefold`."""
    groups: dict[str, list[str]] = {}
    for label in sorted(labels):
        groups.setdefault(spelling(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def _listing(groups: list[list[str]], counts: Mapping[str, int]) -> str:
    listed = [" and ".join(_counted(label, counts) for label in group) for group in groups[:_LISTED]]
    more = [f"{len(groups) - _LISTED} more"] if len(groups) > _LISTED else []
    return "; ".join(listed + more)


def _counted(label: str, counts: Mapping[str, int]) -> str:
    # Invisible characters are told apart by their escapes alone.
    return f"{label!a} ({counts[label]} row{'' if counts[label] == 1 else 's'})"
