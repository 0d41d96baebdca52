"""`Preprocessing`: named steps from the cells of a row to the text that is tokenized, saved with the model.

No step that changes a text is on by default: BERT was trained on text as people write it. The preset `classic` is the
cleaning recipe of Made With ML (https://madewithml.com), with one change: it removes links before it removes the
punctuation that makes them recognisable.
"""

import html
import re
import reprlib
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache, partial
from typing import Any, Literal, NamedTuple

from bertjax.errors import ConfigError

JOIN, DROP_EMPTY, DROP_DUPLICATES = "join", "drop_empty", "drop_duplicates"


class Step(NamedTuple):
    """A step: `apply` is text -> text, or (parameter, text) -> text.

    It is None for steps that do not change a text: `join` makes it of the columns, `drop_empty` and `drop_duplicates`
    drop training rows.
    """

    apply: Callable[..., str] | None
    parameter: Literal["count", "words"] | None = None  # a number after the name, as in `head:200`, or the stop words
    finds: str | None = None  # what it looks for by its punctuation
    hides_punctuation: bool = False  # removes punctuation, or puts spaces around it


@dataclass(frozen=True)
class Preprocessing:
    """A pure function of a text: its steps, one after the other. Without steps it returns the text unchanged.

    Steps that drop rows do so in training: `drop_empty` drops rows without text after the steps before it, and
    `drop_duplicates` rows whose text at that step an earlier row has. A predictor answers for each row, so it drops
    none.

    Attributes:
      steps: names of `STEPS`, with a number in `head:N` and `tail:N`; the name of a preset is replaced by its steps,
        so that a saved model does not change with the preset.
      stop_words: words that the step `stop_words` removes; by default a copy of scikit-learn's English list, for the
        same reason.
      text, text_pair: the columns that the step `join` joins by a space, for the first text and the second.

    Raises:
      ConfigError: a step that is unknown, lacks its number, or follows a step that hides what it looks for; stop words
        that are not single words, or that no step removes; columns without `join` as the first step, or `join`
        without columns.

    >>> Preprocessing(("strip_markup", "lower", "head:3"))("So <b>good</b>, I read it &amp; read it again")
    'so good, i'
    """

    steps: tuple[str, ...] = ()
    stop_words: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    text_pair: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        steps = _expanded(self.steps)
        stop_words = tuple(self.stop_words)
        if any(_parse(step)[0].parameter == "words" for step in steps):
            stop_words = stop_words or _english_stop_words()
        elif stop_words:
            raise ConfigError("stop words are given, but no preprocessing step removes them; add the step 'stop_words'")
        for word in stop_words:
            if not _patterns().word.fullmatch(word):
                raise ConfigError(f"stop word {word!r} is not a single word; give words without spaces or punctuation")
        if JOIN in steps[1:]:
            raise ConfigError(f"preprocessing step {JOIN!r} makes the text that all others change; put it first")
        if (JOIN in steps) != bool(self.text) or (self.text_pair and not self.text):
            raise ConfigError(f"preprocessing step {JOIN!r} needs columns of text, and columns need that step")
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "stop_words", stop_words)

    def __call__(self, text: str) -> str:
        """The text after every step."""
        for _, apply in self.stages:
            text = apply(text) if apply else text
        return text

    @property
    def changing(self) -> tuple[str, ...]:
        """The steps that change texts."""
        return tuple(step for step, apply in self.stages if apply)

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads."""
        lists = {"stop_words": self.stop_words, "text": self.text, "text_pair": self.text_pair}
        return {"steps": list(self.steps), **{key: list(names) for key, names in lists.items() if names}}

    @classmethod
    def from_json(cls, values: Any) -> "Preprocessing":
        """The inverse of `to_json`.

        Raises:
          ConfigError: other values than `to_json` writes.
        """
        well_formed = (
            isinstance(values, Mapping)
            and {"steps"} <= set(values) <= {field.name for field in fields(cls)}
            and all(isinstance(names, list) for names in values.values())
            and all(isinstance(name, str) for names in values.values() for name in names)
        )
        if not well_formed:
            raise ConfigError(
                f"preprocessing must hold lists of strings, 'steps' and perhaps 'stop_words', 'text' and 'text_pair', "
                f"got {reprlib.repr(values)}; the steps are {_known_steps()}"
            )
        return cls(**{key: tuple(names) for key, names in values.items()})

    @cached_property
    def stages(self) -> tuple[tuple[str, Callable[[str], str] | None], ...]:
        """The name of each step and its function of a text; None for steps that do not change a text."""
        words = frozenset(map(_folded, self.stop_words))

        def function(step: str) -> Callable[[str], str] | None:
            kind, count = _parse(step)
            parameter = words if kind.parameter == "words" else count
            return partial(kind.apply, parameter) if kind.apply and kind.parameter else kind.apply

        return tuple((step, function(step)) for step in self.steps)


def strip_markup(text: str) -> str:
    """Replaces HTML entities by their characters and tags by a space, or by nothing where they only style letters.

    Only whole tags and whole entities are markup: `a < b`, `<3` and `R&D` stay. The content of comments, scripts and
    style sheets is removed.
    """
    return _MARKUP.sub(_unmarked, text) if "<" in text or "&" in text else text


def strip_urls(text: str) -> str:
    """Removes links: `http://`, `https://` and `ftp://` anywhere, `www.` and `mailto:` where a word begins.

    Punctuation that ends the sentence, not the link, stays.
    """
    return _LINK.sub("", text)


def remove_stop_words(words: frozenset[str], text: str) -> str:
    """Removes whole words in any case, each with one of the spaces around it.

    `we're` and `co-operate` are words of their own, which `we` and `co` do not touch.
    """
    gap, *others = _patterns().word.split(text)
    kept = [gap]
    for word, gap in zip(others[::2], others[1::2], strict=True):
        if _folded(word) not in words:
            kept += (word, gap)
        elif gap[:1].isspace():
            kept[-1] += gap.lstrip()
        else:
            kept[-1] = kept[-1].rstrip() + gap
    return "".join(kept)


def space_punctuation(text: str) -> str:
    """Puts a space on each side of a punctuation mark that has none."""
    return _patterns().edge.sub(" ", text)


def remove_punctuation(text: str) -> str:
    """Removes the punctuation of BERT's tokenizer: all ASCII symbols, and Unicode's punctuation marks."""
    return _patterns().punctuation.sub("", text)


def keep_alphanumeric(text: str) -> str:
    """Keeps letters, with their accents and vowel signs, digits and white space; all else becomes a space.

    Invisible characters such as soft hyphens are removed, since they separate no words.
    """
    return _patterns().other.sub(" ", _patterns().invisible.sub("", text))


def collapse_spaces(text: str) -> str:
    """Replaces each run of white space by one space, and removes it at the ends."""
    return " ".join(text.split())


def head(count: int, text: str) -> str:
    """The first `count` words, with the white space between them."""
    words = text.split(maxsplit=count)
    return text if len(words) <= count else text[: len(text) - len(words[-1])].rstrip()


def tail(count: int, text: str) -> str:
    """The last `count` words, with the white space between them."""
    words = text.rsplit(maxsplit=count)
    return text if len(words) <= count else text[len(words[0]) :].lstrip()


STEPS: Mapping[str, Step] = {
    "unicode_nfc": Step(partial(unicodedata.normalize, "NFC")),
    "lower": Step(str.lower),
    "strip_markup": Step(strip_markup, finds="markup"),
    "strip_urls": Step(strip_urls, finds="links"),
    "stop_words": Step(remove_stop_words, parameter="words"),
    "space_punctuation": Step(space_punctuation, hides_punctuation=True),
    "punctuation": Step(remove_punctuation, hides_punctuation=True),
    "alphanumeric": Step(keep_alphanumeric, hides_punctuation=True),
    "collapse_spaces": Step(collapse_spaces),
    JOIN: Step(None),
    DROP_EMPTY: Step(None),
    DROP_DUPLICATES: Step(None),
    "head": Step(head, parameter="count"),
    "tail": Step(tail, parameter="count"),
}

PRESETS: Mapping[str, tuple[str, ...]] = {
    "classic": ("lower", "strip_urls", "stop_words", "space_punctuation", "alphanumeric", "collapse_spaces"),
}

# A comment or a script ends where the next one begins, so that a text of nothing but openings is scanned once, not once
# for each. The number of digits is limited, since Python refuses to parse very long numbers.
_MARKUP = re.compile(
    r"<!--(?:(?!<!--).)*?-->"
    r"|<(script|style)\b[^<>]*>(?:(?!<\1\b).)*?</\1\s*>"
    r"|</?(?P<tag>[a-z][a-z0-9]*)(?:[\s/][^<>]*)?>"
    r"|<[!?][a-z][^<>]*>"
    r"|(?P<entity>&(?:\#[0-9]{1,7}|\#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});)",
    re.IGNORECASE | re.DOTALL,
)
# HTML elements that style letters, also within words.
_STYLING = {
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd", "mark", "q",
    "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "tt", "u", "var", "wbr",
}  # fmt: skip
# Chinese and Japanese put no space between a link and the rest of the sentence, only their own punctuation.
_LINK = re.compile(
    r"""(?:(?:https?|ftp)://|(?<!\w)(?:www\.|mailto:)[^\s<>"\u3000-\u303f\uff01-\uff65])"""
    r"""[^\s<>"\u3000-\u303f\uff01-\uff65]*(?<![.,;:!?)\]}'])""",
    re.IGNORECASE,
)


def _unmarked(match: re.Match[str]) -> str:
    if match["entity"]:
        return html.unescape(match[0])
    return "" if match["tag"] and match["tag"].lower() in _STYLING else " "


class _Patterns(NamedTuple):
    """Patterns for every script."""

    word: re.Pattern[str]  # with the marks and joiners of its letters, in a group so that `split` keeps it
    punctuation: re.Pattern[str]
    edge: re.Pattern[str]  # the empty place between a punctuation mark and its neighbour
    invisible: re.Pattern[str]  # a format character, which separates no words
    other: re.Pattern[str]  # no letter, digit or white space, with its marks; or marks without a letter


@lru_cache
def _patterns() -> _Patterns:
    # Python's regular expressions have no names for these categories.
    chars_of = defaultdict[str, list[str]](list)
    for char in map(chr, range(sys.maxunicode + 1)):
        category = unicodedata.category(char)
        chars_of[category if category == "Cf" else category[0]].append(char)
    marks, punctuation, invisible = (re.escape("".join(chars_of[kind])) for kind in ("M", "P", "Cf"))
    # A class of thousands of characters is slow; the look-ahead skips it for common characters.
    rare = r"(?=[^\x00-\x7f\w\s])"
    joiners = r"\u00ad\u200c\u200d"
    sign = rf"(?:[!-/:-@\[-`{{-~]|{rare}[{punctuation}])"
    return _Patterns(
        word=re.compile(rf"(\w+(?:(?:['\u2019-](?=\w)|{rare}[{joiners}{marks}])\w*)*)"),
        punctuation=re.compile(sign),
        edge=re.compile(rf"(?<=\S)(?={sign})|(?<={sign})(?=\S)"),
        invisible=re.compile(rf"{rare}[{invisible}]"),
        other=re.compile(
            rf"(?:[^a-zA-Z0-9\s\x80-\U0010ffff]|{rare}[^{marks}])(?:{rare}[{marks}])*|(?<!\S)(?:{rare}[{marks}])+"
        ),
    )


def _folded(word: str) -> str:
    return word.lower().replace("\u2019", "'")


def _expanded(names: tuple[str, ...]) -> tuple[str, ...]:
    """The steps with presets replaced, after a check that no step hides what a later one looks for."""
    steps: list[str] = []
    hiding = None
    for name in names:
        for step in PRESETS.get(name, (name,)):
            kind, _ = _parse(step)
            if kind.finds and hiding:
                preset = f" of {name!r}" if name in PRESETS else ""
                raise ConfigError(
                    f"preprocessing step {step!r}{preset} comes after {hiding!r}, which leaves no {kind.finds} to "
                    f"find; put it before"
                )
            if kind.hides_punctuation and hiding is None:
                hiding = step
            steps.append(step)
    return tuple(steps)


def _english_stop_words() -> tuple[str, ...]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return tuple(sorted(ENGLISH_STOP_WORDS))


def _parse(name: str) -> tuple[Step, int | None]:
    base, colon, count = name.partition(":")
    step = STEPS.get(base)
    if step is None:
        raise ConfigError(f"preprocessing step {name!r} is unknown; bertjax has {_known_steps()}")
    if step.parameter != "count":
        if colon:
            raise ConfigError(f"preprocessing step {base!r} takes no number, got {name!r}")
        return step, None
    if not re.fullmatch("[1-9][0-9]{0,8}", count):
        raise ConfigError(f"preprocessing step {base!r} needs a number of words, as in '{base}:200', got {name!r}")
    return step, int(count)


def _known_steps() -> str:
    names = [f"{name}:N" if step.parameter == "count" else name for name, step in STEPS.items()]
    return f"{', '.join(names)}, and the preset {', '.join(PRESETS)}"
