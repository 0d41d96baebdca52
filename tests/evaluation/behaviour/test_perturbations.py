"""Perturbations: what each does to a text; none raises, whatever the text, and each is the same in every run."""

# ruff: noqa: RUF001  letters of other alphabets look like English ones, which is what is tested

import re
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.errors import ConfigError
from bertjax.evaluation.behaviour.located import of_python
from bertjax.evaluation.behaviour.perturbations import PERTURBATIONS, read_perturbation
from bertjax.evaluation.behaviour.word_lists import FIRST_NAMES

ALL = [
    *PERTURBATIONS, {"typos": 3}, {"case": "upper"}, {"punctuation": "add"}, {"negation": "remove"},
    {"contractions": "expand"}, {"prefix": "Good morning."}, {"suffix": "Thanks."},
]  # fmt: skip


def perturbation(written):
    return read_perturbation(of_python(written, "checks.yaml line 1"))


CHANGED = {
    "case": ("case", "GPT is Fun", "gpt is fun"),
    "upper case": ({"case": "upper"}, "Straße 1", "STRASSE 1"),
    "punctuation stays in words": ("punctuation", "Oh, it's 3.5 (state-of-the-art)!", "Oh it's 3.5 state-of-the-art"),
    "full stop": ({"punctuation": "add"}, "a film\n", "a film.\n"),
    "not": ("negation", "This isn't it, it is good and was fine.", "This isn't it, it is not good and was fine."),
    "not twice": ("negation", "It is not good", "It is not good"),
    "NOT": ("negation", "IT IS GOOD", "IT IS NOT GOOD"),
    "no not": ({"negation": "remove"}, "It is not so, I can't, you cannot, Won’t.", "It is so, I can, you can, Will."),
    "contraction": ("contractions", "It is fine, I am; they do not. DO NOT", "It's fine, I'm; they don't. DON'T"),
    "expansion": ({"contractions": "expand"}, "It's fine; you can’t, I'm sure", "It is fine; you cannot, I am sure"),
    "prefix": ({"prefix": "Hello."}, "A film", "Hello. A film"),
    "suffix": ({"suffix": "Bye."}, "A film", "A film. Bye."),
    "nothing to swap": ("typos", "aa 1 b", "aa 1 b"),
    "nothing would be left": ("punctuation", "?!", "?!"),
    "no name": ("names", "Annabel and Grace", "Annabel and Grace"),
    "digits in words": ("numbers", "GPT2 and v10", "GPT2 and v10"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGED)
def test_what_becomes_of_a_text(case):
    written, text, changed = CHANGED[case]
    assert perturbation(written)(text, 0) == changed


def test_typos_swap_as_many_neighbours_as_they_say():
    text = "transformers for text"
    for count in (1, 2, 4):
        changed = perturbation({"typos": count})(text, 0)
        differ = [i for i in range(len(text)) if text[i] != changed[i]]
        assert len(differ) == 2 * count
        assert all(changed[i : i + 2] == text[i : i + 2][::-1] for i in differ[::2])


def test_a_name_becomes_one_of_its_line_the_same_each_time():
    changed = perturbation("names")("Maria met John; Maria's film, John's book.", 0)
    names = re.fullmatch(r"(\w+) met (\w+); (\w+)'s film, (\w+)'s book.", changed).groups()
    assert names[:2] == names[2:]
    assert (names[0] in FIRST_NAMES[0], names[1] in FIRST_NAMES[1]) == (True, True)
    assert not {"Maria", "John"} & set(names)


def test_numbers_keep_their_length_and_script():
    changed = perturbation("numbers")("in 2019, 3.5 or ٤٢", 0)
    assert re.fullmatch(r"in [1-9]\d{3}, \d\.\d or [١-٩][٠-٩]", changed)
    assert not set(zip("20193542", re.sub(r"\D", "", changed), strict=False)) & {(d, d) for d in "0123456789"}


@pytest.mark.parametrize("written", ALL, ids=str)
@given(
    text=st.text()
    | st.text("abc 123.,!?'’isnotIcan\u0301")
    | st.text("مرحبا שלום 你好 สวัสดี 😀👍🏽\u200d\u200f٣")
    | st.sampled_from(["", " ", "It is 5, Anna isn't.", "\ud800", "İt İs nŎt", "ſhe iſ", "ıt is", "K can not"])
)
def test_no_text_raises_and_each_change_repeats(written, text):
    change = perturbation(written)
    changed = change(text, 7)
    assert changed == perturbation(written)(text, 7)
    assert changed == text or changed.strip()
    if written in ("typos", "numbers", {"typos": 3}):
        assert len(changed) == len(text)
    if written == "numbers":
        assert [c for c in changed if unicodedata.decimal(c, None) not in range(10)] == [
            c for c in text if unicodedata.decimal(c, None) not in range(10)
        ]


def test_another_process_draws_the_same():
    """Python's own hash differs between processes."""
    code = (
        "from bertjax.evaluation.behaviour.located import of_python as p\n"
        "from bertjax.evaluation.behaviour.perturbations import read_perturbation as r\n"
        "print(r(p('typos', ''))('transformers for text', 5))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == perturbation("typos")("transformers for text", 5)


WRONG = {
    "tipos": "perturbation 'tipos' is unknown; did you mean 'typos'?",
    "swap words": "perturbation 'swap words' is unknown; there are typos, case, punctuation, names,",
    "argument": ({"case": "title"}, "argument of case 'title' is unknown; there are lower, upper"),
    "count": ({"typos": 0}, "typos must be 1 or more, got 0"),
    "share": ({"typos": 1.5}, "typos must be a whole number, got 1.5"),
    "no argument": ({"names": "Anna"}, "names takes no argument; write the name alone"),
    "two": ({"typos": 1, "case": "upper"}, "a perturbation is a name, or one name and its argument, got typos, case"),
    "empty sentence": ({"suffix": ""}, "the sentence is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_name_their_line(case):
    written, complaint = WRONG[case] if isinstance(WRONG[case], tuple) else (case, WRONG[case])
    with pytest.raises(ConfigError, match=re.escape(f"checks.yaml line 1: {complaint}")):
        perturbation(written)
