"""Files of checks: what they make, and that each mistake names its line."""

import re
from pathlib import Path

import pytest

from bertjax.cli.main import main
from bertjax.errors import UserError
from bertjax.evaluation.behaviour.behaviour_file import load_checks

ROOT = Path(__file__).parents[3]


@pytest.fixture
def checks_of(tmp_path):
    def checks_of(text, name="checks.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return load_checks(path)

    return checks_of


def test_the_projects_have_seven_checks_over_eight_texts():
    checks = load_checks(ROOT / "experiments" / "projects_behaviour.yaml").checks
    texts = {t["text"] for check in checks for case in check.cases for t in (case.text, case.changed) if t}
    assert (len(checks), sum(len(check.cases) for check in checks), len(texts)) == (7, 7, 8)


TEMPLATES = """
slots: {task: [reading, "{curly}"]}
checks:
  - name: pairs
    kind: minimum_functionality
    expect: no
    templates: [{text: "{a} {{x}} {task}", pair: "{a}"}, "{task}"]
    slots: {a: [1.0, yes]}
  - name: varied
    kind: invariance
    templates: ["{adverb}good {task}"]
    slots: {adverb: ["", "very ", "so "]}
    vary: adverb
  - name: written
    kind: direction
    texts: [{title: a, body: b, becomes: [c, {body: d}]}]
    perturb: [{case: upper}]
    on: [title, body]
    direction: {x: not up}
"""


def test_every_combination_is_a_text_and_words_stay_as_written(checks_of):
    pairs, varied, written = checks_of(TEMPLATES).checks
    assert pairs.expect.content == "no"
    assert [list(case.text.values()) for case in pairs.cases] == [
        ["1.0 {x} reading", "1.0"], ["1.0 {x} {curly}", "1.0"], ["yes {x} reading", "yes"], ["yes {x} {curly}", "yes"],
        ["reading"], ["{curly}"],
    ]  # fmt: skip
    assert [(case.text["text"], case.changed["text"], case.change) for case in varied.cases][:2] == [
        ("good reading", "very good reading", "adverb: very "),
        ("good reading", "so good reading", "adverb: so "),
    ]
    assert [tuple(case.changed.values()) for case in written.cases] == [("c", "b"), ("a", "d"), ("A", "B")]


def test_a_cap_draws_the_same_distinct_combinations(checks_of):
    digits = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
    slots = ", ".join(f"{name}: {digits}" for name in "abcdefghijklmnopqrstuvw")
    template = "".join(f"{{{name}}}" for name in "abcdefghijklmnopqrstuvw")
    text = "{most_texts: 50, seed: SEED, checks: [{name: n, kind: minimum_functionality, expect: x, "
    text += f'slots: {{{slots}}}, templates: ["{template}"]}}]}}'

    def drawn(seed):
        (check,) = checks_of(text.replace("SEED", str(seed))).checks
        assert check.combinations == 10**23
        return [case.text["text"] for case in check.cases]

    assert len(set(drawn(0))) == 50
    assert drawn(0) == drawn(0) != drawn(1)


HEAD = "checks:\n  - name: n\n    kind: invariance\n"
MINIMUM = "checks:\n  - name: n\n    kind: minimum_functionality\n"
_WHOLE = HEAD + "    texts: a\n    perturb: case"
MISTAKES = {
    "unknown key": (HEAD + "    text: a\n    perturb: typos", 4, "key of a check 'text' is unknown; did you mean 'tex"),
    "file key": ("check: []", 1, "key of a file of checks 'check' is unknown; did you mean 'checks'?"),
    "unknown slot": (HEAD + "    perturb: case\n    templates:\n      - a {x}", 6, "slot 'x' is unknown; there are"),
    "unused slot": (HEAD + "    perturb: case\n    slots:\n      x: [a]\n    templates: b", 6, "has the slot 'x'"),
    "odd slot": (HEAD + "    perturb: case\n    templates: ['{0}']", 5, "{0} is no slot"),
    "odd brace": (HEAD + "    perturb: case\n    templates: ['a } b']", 5, "Single '}'"),
    "perturbation": (HEAD + "    texts: a\n    perturb: [case, tipos]", 5, "perturbation 'tipos' is unknown"),
    "nothing changes": (HEAD + "    texts:\n      - a", 5, "nothing changes this text"),
    "kind": ("checks:\n  - name: n\n    kind: invariant", 3, "kind 'invariant' is unknown; did you mean 'invariance'?"),
    "no name": ("checks:\n  - kind: invariance", 2, "a check needs a name"),
    "no texts": (HEAD + "    perturb: case", 2, "has no texts"),
    "no expectation": (MINIMUM + "    texts: a", 2, "needs 'expect'"),
    "meaningless": (MINIMUM + "    texts: a\n    expect: b\n    perturb: case", 6, "'perturb' means nothing"),
    "empty list": (MINIMUM + "    expect: b\n    texts: []", 5, "texts is an empty list"),
    "nothing": (MINIMUM + "    expect: b\n    texts:", 5, "texts must be a list, got nothing"),
    "empty text": (MINIMUM + "    expect: b\n    texts:\n      - ''", 6, "a text is empty"),
    "list for text": (MINIMUM + "    expect: b\n    texts: a\n    capability: [c]", 6, "capability must be a text"),
    "text for mapping": (MINIMUM + "    expect: b\n    texts: a\n    slots: c", 6, "slots must be a mapping, got 'c'"),
    "tolerance": (HEAD + "    texts: a\n    perturb: case\n    tolerance: much", 6, "must be a number, got 'much'"),
    "infinite": (HEAD + "    texts: a\n    perturb: case\n    tolerance: inf", 6, "must be 0 or more, got inf"),
    "seed": ("seed: -1\nchecks: []", 1, "seed must be 0 or more, got -1"),
    "twice": (_WHOLE + "\n" + _WHOLE.removeprefix("checks:\n"), 6, "two checks named"),
    "key twice": (HEAD + "    kind: direction", 4, "'kind' is given twice"),
    "vary": (HEAD + "    templates: ['{a}']\n    slots: {a: [b]}\n    vary: a", 6, "has one filler"),
    "on": (HEAD + "    texts: a\n    perturb: case\n    on: title", 6, "'on' names 'title'"),
    "brace": (HEAD + "    templates:\n      - {a} b", 5, "a text with a brace or a colon needs quotes"),
    "indent": ("checks:\n  - name: n\n   kind: x", 3, "block"),
    "control character": ("checks:\n  - name: '\x07'", 2, "special characters are not allowed"),
    "two documents": ("a: b\n---\nc: d", 2, "expected a single document"),
    "tab": ("checks:\n\t- a", 2, "found character '\\t'"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_names_its_line(checks_of, case):
    text, line, complaint = MISTAKES[case]
    with pytest.raises(UserError) as error:
        checks_of(text)
    assert re.search(rf"checks\.yaml line {line}: .*{re.escape(complaint)}", str(error.value)), error.value
    assert "\n" not in str(error.value)


WHOLE_FILES = {
    "empty": ("", "is empty"),
    "recursive": ("checks: &a [*a]", "is nested too deeply, or within itself"),
    "deep": ("[" * 3000, "is nested too deeply"),
}


@pytest.mark.parametrize("case", WHOLE_FILES)
def test_a_file_that_is_none(checks_of, case):
    text, complaint = WHOLE_FILES[case]
    with pytest.raises(UserError, match=complaint):
        checks_of(text)


PYTHON = """
from bertjax import BehaviourCheck, behaviour_check

SEED = 3

@behaviour_check("invariance", capability="case", perturb=[str.upper, "typos"])
def shouted():
    return (f"{word} film" for word in ("good", "bad"))

alias = shouted
number = BehaviourCheck("near", "minimum_functionality", texts=["a"], expect=0.1, tolerance=1)
"""


def test_checks_in_python(checks_of):
    checks = checks_of(PYTHON, "checks.py")
    assert [(check.name, check.capability) for check in checks.checks] == [
        ("shouted", "case"),
        ("near", "minimum functionality"),
    ]
    assert [case.changed["text"] for case in checks.checks[0].cases][::2] == ["GOOD FILM", "BAD FILM"]
    assert (checks.seed, checks.checks[1].expect.content) == (3, "0.1")


_IMPORT = "from bertjax import BehaviourCheck as C\n"
BAD_PYTHON = {
    "x = (": "line 1: SyntaxError: '(' was never closed",
    "x = 1\ny = x / 0": "line 2: ZeroDivisionError: division by zero",
    "CHECKS = []": "has no checks; give it CHECKS",
    "CHECKS = 3": "CHECKS is no list",
    "CHECKS = ['a']": "CHECKS holds 'a', which is no BehaviourCheck",
    _IMPORT + "CHECKS = [C('n', 'invariance', texts=['a'])]": "check 'n': nothing changes this",
    _IMPORT + "CHECKS = [C('n', 'invariance', texts=[b'a'])]": "check 'n': b'a' (bytes) is no",
    _IMPORT + "CHECKS = [C('n', 'invariance', texts=['a'], perturb=[int])]":
        "check 'n': int raised ValueError",
    _IMPORT + "CHECKS = [C('n', 'invariance', texts=['a'], perturb=[len])]":
        "check 'n': len returned int",
    "from bertjax import behaviour_check\n@behaviour_check('invariance', perturbs=[])\ndef f(): return []":
        "line 2: a behaviour check has no 'perturbs'",
}  # fmt: skip


@pytest.mark.parametrize("source", BAD_PYTHON)
def test_mistakes_in_python(checks_of, source):
    with pytest.raises(UserError, match=re.escape(BAD_PYTHON[source])):
        checks_of(source, "checks.py")


FLAGS = {
    "no data": ([], "--data must name the table to judge; --behaviour alone needs none"),
    "gate": (["--data", "d.csv", "--min-pass-rate", "0.9"], "--min-pass-rate is of behavioural tests"),
    "rate": (["--behaviour", "c.yaml", "--min-pass-rate", "2"], "min_pass_rate must be in [0, 1]"),
    "threshold": (["--behaviour", "c.yaml", "--threshold", "0.5"], "a threshold is judged on labelled rows"),
    "missing": (["--behaviour", "nowhere.yaml"], "nowhere.yaml cannot be read"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_flags(case, capsys):
    flags, complaint = FLAGS[case]
    assert main(["evaluate", "--model", "nowhere", *flags]) == 2
    shown = capsys.readouterr().err
    assert complaint in shown
    assert shown.count("\n") == 1
