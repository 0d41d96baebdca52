"""A user's file with a rule: it decides the label and hides nothing of the model's; a mistake in it is one line."""

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bertjax.errors import UserError
from bertjax.inference.decision_rule import DecisionRule, RuleFailed, load_rule
from bertjax.user_files import UserFileError

PREDICTION = {"label": "good", "probability": 0.75, "probabilities": {"good": 0.75, "bad": 0.25}}
TITLE, BODY = {"title": "a film"}, "what a film"


@pytest.fixture
def rule_file(tmp_path: Path) -> Callable[[str], Path]:
    def written(source: str) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(source, encoding="utf-8")
        return path

    return written


@pytest.mark.parametrize(
    ("body", "entry", "expected"),
    [
        ("return 'other'", BODY, {"label": "other"}),
        ("return prediction['label']", BODY, {"label": "good"}),
        ("return row['title']", TITLE, {"label": "a film"}),
        ("return row", BODY, {"label": BODY}),
        ("return {'label': 'other', 'why': {'words': 2, 'none': None}}", BODY,
         {"label": "other", "why": {"words": 2, "none": None}}),
        ("return {'why': 'sure'}", BODY, {"label": "good", "why": "sure"}),
        ("return prediction | {'label': 'other'}", BODY, {"label": "other"}),
        ("prediction['label'] = 'other'\n    return prediction", BODY, {"label": "other"}),
        ("prediction['probabilities'].clear()\n    row.clear()\n    return 'other'", TITLE, {"label": "other"}),
    ],
    ids=["a label", "the own one", "of a row", "of a text", "more keys", "no label", "all of it", "in place", "clears"],
)  # fmt: skip
def test_what_it_decides(rule_file, body, entry, expected):
    """The label changes, and the model's own answer stays, whatever the function does to what it is given."""
    rule = load_rule(rule_file(f"def decide(prediction, row):\n    {body}\n"))
    (answer,) = rule([PREDICTION], [entry])
    assert answer == PREDICTION | {"predicted": "good"} | expected
    assert list(answer)[:2] == ["label", "predicted"]
    assert PREDICTION["probabilities"] == {"good": 0.75, "bad": 0.25}
    assert TITLE == {"title": "a film"}


def test_answers_without_a_label_of_the_models(rule_file):
    """Numbers, answers to questions: the rule adds a label, and nothing is called the model's."""
    rule = load_rule(rule_file("def decide(prediction, row):\n    return str(prediction['values']['stars'] > 3)\n"))
    values = [{"values": {"stars": 4.5}}, {"values": {"stars": 1.0}}]
    assert rule(values, ["a", "b"]) == [values[0] | {"label": "True"}, values[1] | {"label": "False"}]


SOURCE = "def decide(prediction, row):\n    return row.upper()\n"


def test_it_travels_to_processes_that_lack_the_file(rule_file, tmp_path):
    path = rule_file(SOURCE)
    (tmp_path / "rule.pickle").write_bytes(pickle.dumps(load_rule(path)))
    path.unlink()
    code = (
        "import pickle, sys\n"
        f"rule = pickle.load(open({str(tmp_path / 'rule.pickle')!r}, 'rb'))\n"
        "print(rule([{'label': 'a'}], ['b'])[0])\n"
        "try: rule([{'label': 'a'}], [{}])\n"
        "except ValueError as error: print(pickle.loads(pickle.dumps(error)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    answer, error = done.stdout.splitlines()
    assert answer == "{'label': 'B', 'predicted': 'a'}"
    assert error == f"row 1: {path} line 2: AttributeError: 'dict' object has no attribute 'upper'"


def test_the_file_runs_once_and_leaves_the_import_path_alone(rule_file, tmp_path, capsys):
    """Under a name of its own, with what lies beside it at hand, and with nothing installed hidden by that."""
    (tmp_path / "words_of_mine.py").write_text("WORDS = ['film']\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('not the real one')\n")
    path = rule_file(
        "from __future__ import annotations\nimport json\nfrom dataclasses import dataclass\n"
        "from words_of_mine import WORDS\nprint('runs')\n"
        "@dataclass\nclass Found:\n    word: str\n"
        "def decide(prediction, row):\n    return json.dumps([Found(word).word for word in WORDS])\n"
    )
    before = list(sys.path)
    rule = load_rule(path)
    pickle.loads(pickle.dumps(rule))
    assert rule([PREDICTION], [BODY])[0]["label"] == '["film"]'
    assert (sys.path, capsys.readouterr().out) == (before, "runs\n")
    assert "mine" not in sys.modules
    path.write_text(SOURCE)  # an edited file is another rule
    assert load_rule(path)([PREDICTION], [BODY])[0]["label"] == BODY.upper()


def test_a_folder_that_is_on_the_import_path_stays_there(rule_file, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.path)
    load_rule(rule_file(SOURCE))
    assert sys.path == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "{path} has no function decide, nor any other; write def decide(prediction, row), which"),
        ("def rule(p, r): ...\nasync def later(): ...\n", "{path} has no function decide, only rule (line 1); write"),
        ("def decide(p, r):\n    return p\n\ndef decide(p, r):\n    return r\n",
         "{path} defines decide 2 times, on lines 1, 4; leave one"),
        ("decide = 'other'\n", "{path}: decide is no function; write def decide(prediction, row)"),
        ("X = 1\ndef decide(prediction):\n    return 'a'\n",
         "{path} line 2: decide(prediction) does not take a prediction and a row"),
        ("def decide(p, r, limit):\n    return 'a'\n", "{path} line 1: decide(p, r, limit) does not take"),
        ("async def decide(p, r):\n    return 'a'\n", "{path} line 1: decide is a coroutine or a generator"),
        ("def decide(p, r):\n    yield 'a'\n", "{path} line 1: decide is a coroutine or a generator"),
        ("def decide(p, r):\nreturn 'a'\n", "{path} line 2: IndentationError: expected an indented block"),
        ("x = 'a\0b'\n", "{path}: SyntaxError: source code string cannot contain null bytes"),
        ("# -*- coding: klingon -*-\n", "{path} is no Python: unknown encoding"),
        ("x = 1\nimport nothing_of_the_kind\n", "{path} line 2: ModuleNotFoundError: No module named 'nothing_of_the"),
        ("def limit():\n    return 1 / 0\nLIMIT = limit()\n", "{path} line 2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", "{path} line 2: SystemExit: 3"),
    ],
    ids=["empty", "another name", "twice", "no function", "one argument", "three arguments", "coroutine", "generator",
         "syntax", "NUL", "encoding", "import", "raises", "exits"],
)  # fmt: skip
def test_a_file_that_is_no_rule(rule_file, source, message):
    path = rule_file(source)
    import_path = list(sys.path)
    with pytest.raises(UserFileError) as raised:
        load_rule(path)
    assert str(raised.value).startswith(message.format(path=path))
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, UserError)
    assert sys.path == import_path


@pytest.mark.parametrize("name", ["missing.py", "."])
def test_no_such_file(tmp_path, name):
    with pytest.raises(UserFileError, match=r"cannot be read: .*; give a Python file with a rule$"):
        load_rule(tmp_path / name)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return row['budget']", "{path} line 2: KeyError: 'budget'"),
        ("raise ValueError", "{path} line 2: ValueError"),
        ("raise ValueError('one\\ntwo')", "{path} line 2: ValueError: one"),
        ("return helper(row)\ndef helper(row):\n    return row['budget']", "{path} line 4: KeyError: 'budget'"),
        ("import json; return json.loads('{')", "{path} line 2: JSONDecodeError: Expecting property name"),
        ("return decide(prediction, row)", "{path} line 2: RecursionError: maximum recursion depth exceeded"),
        ("raise SystemExit", "{path} line 2: SystemExit"),
        ("return None", "{path}: decide returned NoneType; it must return a label, or a dict"),
        ("return 3", "{path}: decide returned int; it must return"),
        ("return {'label': 3}", "{path}: decide returned a label of type int, which is no text"),
        ("return {'label': None}", "{path}: decide returned a label of type NoneType, which is no text"),
        ("return {1: 'a'}", "{path}: decide returned a dict with a key that is no text"),
        ("return {'score': float('nan')}", "{path}: decide returned what JSON cannot hold: "),
        ("return {'words': {1, 2}}", "{path}: decide returned what JSON cannot hold: Object of type set is not JSON"),
        ("import numpy\n    return {'probability': numpy.ones(2)}", "{path}: decide returned what JSON cannot hold: "),
        ("return {'probability': 1.0}", "{path}: decide returned another 'probability'; that is the model's own"),
        ("return {'predicted': 'bad'}", "{path}: decide returned another 'predicted'; that is the model's own"),
    ],
)
def test_a_rule_that_gives_no_answer_names_the_row(rule_file, body, reason):
    path = rule_file(f"def decide(prediction, row):\n    {body}\n")
    rule = load_rule(path)
    with pytest.raises(RuleFailed) as raised:
        rule([PREDICTION], [TITLE])
    assert raised.value.reason.startswith(reason.format(path=path))
    assert (raised.value.index, str(raised.value)) == (0, f"row 1: {raised.value.reason}")
    assert "\n" not in str(raised.value)


def test_the_row_is_counted_within_the_call(rule_file):
    rule = load_rule(rule_file("def decide(prediction, row):\n    return row if row != 'bad' else 1\n"))
    with pytest.raises(RuleFailed, match=r"^row 3: .* returned int") as raised:
        rule([PREDICTION] * 4, ["a", "b", "bad", "c"])
    assert raised.value.index == 2
    assert rule([], []) == []


def test_two_rules_of_one_name_do_not_mix(tmp_path):
    answers = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "mine.py"
        path.write_text(f"def decide(prediction, row):\n    return {folder!r}\n")
        answers.append(load_rule(path))
    assert [rule([PREDICTION], [BODY])[0]["label"] for rule in answers] == ["one", "two"]
    assert all(isinstance(rule, DecisionRule) for rule in answers)


@pytest.mark.parametrize(
    ("entry", "label", "probability", "decided"),
    [
        ({"title": "A REFUND", "description": "please"}, "other", 0.99, "ask a person"),
        ({"title": "a film", "description": "good"}, "mlops", 0.94, "uncertain"),
        ("a film", "mlops", 0.95, "mlops"),
        ("a film", "other", 0.5, "other"),
        ("a film", "vision", 0.79, "uncertain"),
    ],
)
def test_the_rule_of_the_documents(rule_file, entry, label, probability, decided):
    page = (Path(__file__).parents[2] / "docs" / "custom_logic.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python[^\n]*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (answer,) = load_rule(rule_file(source))([{"label": label, "probability": probability}], [entry])
    assert (answer["label"], answer["predicted"]) == (decided, label)
