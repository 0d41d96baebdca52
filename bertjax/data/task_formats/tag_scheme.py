"""Tag schemes: how the labels of words say where an entity begins, goes on and ends.

Sources: IOB1 (Ramshaw and Marcus 1995), IOB2 and IOE (Tjong Kim Sang and Veenstra 1999), BILOU (Ratinov and Roth 2009).
IOB2 is called bio here; bioes is IOBES, of which BMES and BMEWO are other letters.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from bertjax.data.table import TagScheme

CONVERTED: tuple[TagScheme, ...] = ("iob1", "ioe")  # into bio, when their rows are read
STRICT: tuple[TagScheme, ...] = ("bioes", "bilou")  # an entity counts if all of its letters are right

OUTSIDE = "O"
UNTYPED = "_"  # seqeval's name for the type of a bare B, I, ...
# Role -> the letters for it; roles are the letters of bioes and bilou.
_LETTERS = {"B": "B", "I": "IM", "E": "E", "S": "SW", "L": "L", "U": "U"}
_ROLE_OF = {letter: role for role, letters in _LETTERS.items() for letter in letters}
# The roles of each scheme, in the order in which they are recognised.
_ROLES: dict[TagScheme, str] = {"bio": "BI", "ioe": "IE", "bioes": "BIES", "bilou": "BILU"}
_OUTSIDE = ("o", "0", "out", "outside", "other", "none", "_")
_LAST_AND_SINGLE: dict[TagScheme, tuple[str, str]] = {"bioes": ("E", "S"), "bilou": ("L", "U")}
_GOES_ON, _CLOSES = "IEL", "ELSU"  # roles that need one before them, and that need none behind
_ANY_LETTER = "".join(_ROLE_OF)
_LETTER_FIRST = re.compile(rf"(?P<letter>[{_ANY_LETTER}])(?P<separator>[^\w\s]|_)(?P<type>.+)", re.IGNORECASE)
_LETTER_LAST = re.compile(rf"(?P<type>.+)(?P<separator>[^\w\s]|_)(?P<letter>[{_ANY_LETTER}])", re.IGNORECASE)


class Tag(NamedTuple):
    """A tag of an entity's word, in its parts: `B-PER`, `b_per`, `PER-B`, or a bare `B`."""

    letter: str  # as it is written
    type: str
    separator: str = ""  # empty for a bare letter
    last: bool = False  # whether the letter stands behind the type

    @property
    def role(self) -> str:
        """The letter of bioes or bilou."""
        return _ROLE_OF[self.letter.upper()]

    def __str__(self) -> str:
        if not self.separator:
            return self.letter
        parts = (self.type, self.letter) if self.last else (self.letter, self.type)
        return self.separator.join(parts)

    def with_letter(self, letter: str) -> "Tag":
        """The same with another letter, in the case of its own."""
        return self._replace(letter=letter.lower() if self.letter.islower() else letter.upper())


@lru_cache(maxsize=2**14)
def parse_tag(text: str) -> Tag | None:
    """The parts of a tag; None where it has no letter of a scheme.

    >>> parse_tag("B-PER"), str(parse_tag("PER_i"))
    (Tag(letter='B', type='PER', separator='-', last=False), 'PER_i')
    """
    if len(text) == 1 and text.upper() in _ROLE_OF:
        return Tag(text, UNTYPED)
    if first := _LETTER_FIRST.fullmatch(text):
        return Tag(first["letter"], first["type"], first["separator"])
    if last := _LETTER_LAST.fullmatch(text):
        return Tag(last["letter"], last["type"], last["separator"], last=True)
    return None


def is_outside(text: str) -> bool:
    """Whether a tag says that a word is in no entity."""
    return text.lower() in _OUTSIDE


def outside_of(names: Sequence[str], scheme: TagScheme | None = None) -> str | None:
    """The tag for words in no entity among label names, as it is spelled there.

    Args:
      names: of the labels.
      scheme: theirs; default: the one that the names show. Without one only O is such a tag.
    """
    scheme = scheme or scheme_of_names(names).scheme
    return next((name for name in names if (name == OUTSIDE if scheme == "none" else is_outside(name))), None)


class Transition(NamedTuple):
    """Neighbouring tags of a sentence."""

    before: str | None  # "" at the start of the sentence, None for a word that has no label
    tag: str


def transitions(tags: Sequence[str | None]) -> Iterable[Transition]:
    """The neighbours in a sentence; a word without a label has the tag None."""
    return (Transition(before, tag) for before, tag in zip(("", *tags), tags, strict=False) if tag is not None)


class Recognised(NamedTuple):
    """The scheme of some tags."""

    scheme: TagScheme | None  # None where no word is in an entity, so that nothing can be said
    reason: str = ""  # why there is none, where the tags look as if there were one


def recognise(seen: Collection[Transition]) -> Recognised:
    """The scheme that the neighbouring tags of all sentences show."""
    names = {item.tag for item in seen}
    recognised = scheme_of_names(names)
    if recognised.scheme == "bio" and _begins_inside(seen):
        return Recognised("iob1")
    return recognised


def scheme_of_names(names: Collection[str]) -> Recognised:
    """The scheme of label names alone, by which an iob1 is a bio."""
    inside = sorted(name for name in names if not is_outside(name))
    if not inside:
        return Recognised(None)
    tags = {name: parse_tag(name) for name in inside}
    odd = [name for name, tag in tags.items() if tag is None]
    parsed = [tag for tag in tags.values() if tag is not None]
    roles = {tag.role for tag in parsed}
    scheme = next((scheme for scheme, letters in _ROLES.items() if roles <= set(letters)), None)
    if odd or scheme is None or not _is_one_spelling(parsed, has_outside=len(inside) < len(set(names))):
        looks = len(parsed) > 1 and len(parsed) > len(odd) and {"B", "I"} & roles
        if all(name.lstrip("-").isdecimal() for name in names):
            return Recognised("none", "integers without names do not say what is an entity")
        but = f"{odd[0]!r} has no letter of a scheme" if odd else "their letters or separators are not of one scheme"
        return Recognised("none", but if looks else "")
    return Recognised(scheme)


def _is_one_spelling(tags: Sequence[Tag], has_outside: bool) -> bool:
    """Whether tags are spelled in one way, and cannot be labels of another kind that happen to look so."""
    if len({(tag.separator, tag.last) for tag in tags}) > 1:
        return False
    separator, last = tags[0].separator, tags[0].last
    if (separator, last) == ("-", False) and {tag.role for tag in tags} <= set(_ROLES["bio"]):
        return True
    num_types = len({tag.type for tag in tags})
    has_several_roles = len({(tag.type, tag.role) for tag in tags}) > num_types  # of one type
    if last:
        return has_several_roles and has_outside
    return has_several_roles or (has_outside and bool(separator))


def _begins_inside(seen: Iterable[Transition]) -> bool:
    """Whether entities begin with I, and B stands only where one follows another of its type."""
    first_letters = set()
    for before, text in seen:
        tag = parse_tag(text)
        if tag is not None and before is not None and not _same_type(parse_tag(before), tag):
            first_letters.add(tag.role)
    return first_letters == {"I"}


def _same_type(before: Tag | None, tag: Tag) -> bool:
    return before is not None and before.type == tag.type


def as_bio(tags: Sequence[str | None]) -> tuple[str | None, ...]:
    """The tags of a sentence in iob1 or ioe, as bio."""
    converted: list[str | None] = []
    for before, text in zip(("", *tags), tags, strict=False):
        tag = None if text is None or is_outside(text) else parse_tag(text)
        if tag is None:
            converted.append(text)
            continue
        previous = parse_tag(before) if before else None
        follows = previous is not None and previous.type == tag.type and previous.role != "E"
        begins = tag.role == "B" or (before is not None and not follows)
        converted.append(str(tag.with_letter("B" if begins else "I")))
    return tuple(converted)


class Fault(NamedTuple):
    """The first word at which the tags of a sentence break their scheme."""

    word: int
    reason: str  # continues "labels 'c' (word 2) I-PER, "


def fault_of(tags: Sequence[str | None], scheme: TagScheme) -> Fault | None:
    """What breaks the scheme of a sentence, if anything does. A word without a label may be anything."""
    return None if scheme == "none" else next(_faults(tags, scheme), None)


def _faults(tags: Sequence[str | None], scheme: TagScheme) -> Iterator[Fault]:
    open_tag: Tag | None = None  # of the entity that the last word left open
    known = True  # whether the last word has a label
    roles = _ROLES["bio" if scheme == "iob1" else scheme]
    for i, text in enumerate(tags):
        tag = None if text is None or is_outside(text) else parse_tag(text)
        if text is not None and not is_outside(text) and (tag is None or tag.role not in roles):
            yield Fault(i, f"which is no tag of the scheme {scheme} (--tag-scheme none takes any labels)")
        goes_on = tag is not None and tag.role in _GOES_ON
        if scheme not in CONVERTED and tag is not None and goes_on and known and not _same_type(open_tag, tag):
            yield Fault(i, _never_begun(tag, scheme))
        if scheme in STRICT and open_tag is not None and not goes_on and text is not None:
            yield Fault(i - 1, _never_ended(open_tag, scheme))
        known = text is not None
        open_tag = None if tag is None or (scheme in STRICT and tag.role in _CLOSES) else tag
    if scheme in STRICT and open_tag is not None:
        yield Fault(len(tags) - 1, _never_ended(open_tag, scheme))


def _never_begun(tag: Tag, scheme: TagScheme) -> str:
    other = "iob1 lets it start so" if scheme == "bio" else "none judges each word by itself"
    what = tag.type if tag.separator else "entity"
    return f"but no {what} begins before it: an entity starts with {tag.with_letter('B')} (--tag-scheme {other})"


def _never_ended(tag: Tag, scheme: TagScheme) -> str:
    last, single = _LAST_AND_SINGLE[scheme]
    return (
        f"but the entity does not end: its last word has {tag.with_letter(last)}, its only word "
        f"{tag.with_letter(single)} (--tag-scheme none judges each word by itself)"
    )


def completed(names: Iterable[str], scheme: TagScheme) -> set[str]:
    """Label names, and those that the same scheme may need of their types: what begins may go on and end, whether or
    not the training rows have a case of it.
    """
    names = set(names)
    tags = [tag for tag in map(parse_tag, (name for name in names if not is_outside(name))) if tag is not None]
    written = {tag.letter.upper() for tag in tags}
    middle = "M" if written & set("MW") else "I"
    for role in _ROLES["bio" if scheme in CONVERTED else scheme]:
        unseen = middle if role == "I" else role
        letter = next((letter for letter in _LETTERS[role] if letter in written), unseen)
        names |= {str(tag.with_letter(letter)) for tag in tags}
    if not any(map(is_outside, names)):
        names.add(str(tags[0].with_letter(OUTSIDE)._replace(separator="")) if tags else OUTSIDE)
    return names


def as_seqeval(name: str) -> str:
    """A label name as seqeval spells it: `B-PER`, with the letters of bioes or bilou, and `O`."""
    tag = None if is_outside(name) else parse_tag(name)
    return OUTSIDE if tag is None else f"{tag.role}-{tag.type}"
