"""Perturbations: small changes of a text, by name. English words are changed by lists, letters of any language by rule.

Each change of a text is drawn by a seed and the text alone, so it is the same in every run, whatever else is checked.
One that finds nothing to change returns the text as it was.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any, NamedTuple

from bertjax.errors import UserError, first_line
from bertjax.evaluation.behaviour.located import Located
from bertjax.evaluation.behaviour.word_lists import (
    AUXILIARIES,
    CONTRACTIONS,
    FIRST_NAMES,
    NEGATED,
    NEUTRAL_SENTENCES,
)

Change = Callable[[str, Random], str]
"""(text, what chooses) -> the changed text, or the same where there is nothing to change."""


class Perturbation(NamedTuple):
    """A change of texts.

    Attributes:
      name: with its argument, such as `typos` or `case: upper`.
      change: what it does.
    """

    name: str
    change: Change

    def __call__(self, text: str, seed: int) -> str:
        """The changed text; the text itself where there is nothing to change, or nothing would be left."""
        # ascii: half of a surrogate pair has no bytes to seed with.
        changed = self.change(text, Random(f"{seed} {self.name} {text!a}"))
        return changed if changed.strip() else text


def swap_letters(text: str, random: Random, count: int = 1) -> str:
    """Swaps two neighbouring letters that differ, in `count` places, or in as many as there are."""
    places = [i for i in range(len(text) - 1) if text[i : i + 2].isalpha() and text[i] != text[i + 1]]
    random.shuffle(places)
    letters, taken = list(text), set[int]()
    for place in places:
        if len(taken) == 2 * count:
            break
        if taken.isdisjoint((place, place + 1)):
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
            taken |= {place, place + 1}
    return "".join(letters)


def strip_punctuation(text: str, random: Random) -> str:
    """Removes the punctuation that is not inside a word or a number."""
    kept = [sign for i, sign in enumerate(text) if not _is_punctuation(sign) or _is_inside(text, i)]
    return text if len(kept) == len(text) else " ".join("".join(kept).split())


def add_full_stop(text: str, random: Random) -> str:
    """Ends a text with a full stop where it ends without punctuation."""
    body = text.rstrip()
    return text if not body or _is_punctuation(body[-1]) else f"{body}.{text[len(body) :]}"


def replace_names(text: str, random: Random) -> str:
    """Replaces first names that it knows by others, the same name by the same one."""
    others: dict[str, str] = {}
    for names in FIRST_NAMES:
        present = [name for name in names if name in text]
        unused = [name for name in names if name not in present]
        others |= zip(present, random.sample(unused, min(len(present), len(unused))), strict=False)
    return re.sub(r"\b\w+\b", lambda word: others.get(word[0], word[0]), text)


def replace_numbers(text: str, random: Random) -> str:
    """Replaces each digit of the numbers that stand alone by another; a number keeps its length."""

    def other(number: re.Match[str]) -> str:
        digits = []
        for i, digit in enumerate(number[0]):
            value = unicodedata.decimal(digit)
            least = 1 if i == 0 and len(number[0]) > 1 else 0
            drawn = random.choice([choice for choice in range(least, 10) if choice != value])
            digits.append(chr(ord(digit) - value + drawn))
        return "".join(digits)

    return re.sub(r"(?<!\w)\d+(?!\w)", other, text)


_APOSTROPHE = "['\N{RIGHT SINGLE QUOTATION MARK}]"
_AUXILIARY = rf"\b({'|'.join(AUXILIARIES)})\b"
_NOT_YET = re.compile(rf"{_AUXILIARY}(?!{_APOSTROPHE})(?!\s+not\b)", re.IGNORECASE)
_NEGATED = re.compile(rf"{_AUXILIARY}\s+not\b", re.IGNORECASE)


def add_negation(text: str, random: Random) -> str:
    """Puts `not` after the first auxiliary that has none."""
    return _NOT_YET.sub(lambda found: f"{found[0]} {'NOT' if _is_shouted(found[0]) else 'not'}", text, count=1)


def remove_negation(text: str, random: Random) -> str:
    """Removes `not` behind auxiliaries, as a word and as `n't`."""
    return _AFFIRM(_NEGATED.sub(lambda found: found[1], text))


def _rewriter(rewritten: Mapping[str, str]) -> Callable[[str], str]:
    """Rewrites phrases of lower case wherever they stand as whole words, in the case of the first letter found.

    White space between words may be any, and an apostrophe straight or curly.
    """
    longest_first = sorted(rewritten, key=len, reverse=True)
    patterns = [re.escape(phrase).replace(r"\ ", r"\s+").replace("'", _APOSTROPHE) for phrase in longest_first]
    pattern = re.compile(rf"\b(?:{'|'.join(patterns)})\b(?!{_APOSTROPHE})", re.IGNORECASE)

    def rewrite(found: re.Match[str]) -> str:
        phrase = " ".join(re.sub(_APOSTROPHE, "'", found[0]).lower().split())
        new = rewritten.get(phrase, found[0])  # letters of other alphabets may match those of English, and are left
        if _is_shouted(found[0]):
            return new.upper()
        return new[0].upper() + new[1:] if found[0][0].isupper() else new

    return lambda text: pattern.sub(rewrite, text)


_AFFIRM = _rewriter({negated: auxiliary for auxiliary, negated in NEGATED.items()} | {"cannot": "can"})
_CONTRACT = _rewriter(CONTRACTIONS)
_EXPAND = _rewriter({short: long for long, short in CONTRACTIONS.items()} | {"can't": "cannot"})


def put_before(text: str, random: Random, sentence: str | None = None) -> str:
    """Puts a sentence before a text, by default one that says nothing of any subject."""
    return f"{sentence or random.choice(NEUTRAL_SENTENCES)} {text}" if text.strip() else text


def put_behind(text: str, random: Random, sentence: str | None = None) -> str:
    """Puts a sentence behind a text, which gets a full stop where it ends without punctuation."""
    body = add_full_stop(text, random).rstrip()
    return f"{body} {sentence or random.choice(NEUTRAL_SENTENCES)}" if body else text


def _is_punctuation(sign: str) -> bool:
    return unicodedata.category(sign).startswith("P")


def _is_inside(text: str, place: int) -> bool:
    return 0 < place < len(text) - 1 and text[place - 1].isalnum() and text[place + 1].isalnum()


def _is_shouted(words: str) -> bool:
    return len(words) > 1 and words.isupper() and words.lower() not in ("i'm", "i am")


class _Kind(NamedTuple):
    """A name for a perturbation.

    Attributes:
      variants: argument -> change; the first one is meant where there is no argument.
      argument: reads any other argument; None where there is none.
    """

    variants: Mapping[str, Change]
    argument: Callable[[Located], Change] | None = None


def _sentence(put: Callable[..., str]) -> _Kind:
    return _Kind({"": put}, lambda value: partial(put, sentence=value.text("the sentence").strip()))


PERTURBATIONS: Mapping[str, _Kind] = {
    "typos": _Kind({"": swap_letters}, lambda value: partial(swap_letters, count=value.count("typos", 1))),
    "case": _Kind({"lower": lambda text, random: text.lower(), "upper": lambda text, random: text.upper()}),
    "punctuation": _Kind({"strip": strip_punctuation, "add": add_full_stop}),
    "names": _Kind({"": replace_names}),
    "numbers": _Kind({"": replace_numbers}),
    "negation": _Kind({"add": add_negation, "remove": remove_negation}),
    "contractions": _Kind({"contract": lambda text, random: _CONTRACT(text),
                           "expand": lambda text, random: _EXPAND(text)}),
    "prefix": _sentence(put_before),
    "suffix": _sentence(put_behind),
}  # fmt: skip


def read_perturbation(value: Located) -> Perturbation:
    """A perturbation of a file: its name, a mapping of the name to an argument, or a function of a text.

    Raises:
      ConfigError: there is none of that name, or it takes no such argument.
    """
    if callable(value.content):
        return _of_function(value)
    if isinstance(value.content, str):
        kind = value.known("perturbation", value.content, PERTURBATIONS)
        default = next(iter(kind.variants))
        return Perturbation(value.content + (f": {default}" if default else ""), kind.variants[default])
    entry = value.mapping("a perturbation")
    if len(entry) > 1:
        raise value.wrong(f"a perturbation is a name, or one name and its argument, got {', '.join(entry)}")
    ((name, argument),) = entry.items()
    kind = argument.known("perturbation", name, PERTURBATIONS)
    if kind.argument is not None:
        return Perturbation(f"{name}: {argument.content}", kind.argument(argument))
    choices = {variant: change for variant, change in kind.variants.items() if variant}
    if not choices:
        raise argument.wrong(f"{name} takes no argument; write the name alone")
    variant = argument.text(f"the argument of {name}")
    return Perturbation(f"{name}: {variant}", argument.known(f"argument of {name}", variant, choices))


def _of_function(value: Located) -> Perturbation:
    """A user's function (text) -> text, None or the same text where there is nothing to change."""
    function: Callable[[str], Any] = value.content
    name = getattr(function, "__name__", type(function).__name__)

    def change(text: str, random: Random) -> str:
        try:
            changed = function(text)
        except UserError:
            raise
        except Exception as error:
            raise value.wrong(f"{name} raised {type(error).__name__}: {first_line(error)}") from error
        if changed is not None and not isinstance(changed, str):
            raise value.wrong(f"{name} returned {type(changed).__name__}; a perturbation returns a text or None")
        return text if changed is None else changed

    return Perturbation(name, change)
