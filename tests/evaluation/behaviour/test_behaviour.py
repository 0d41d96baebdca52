"""Behaviour of real models: what they answer is what `Predictor` answers; the command, its files and its gate."""

import json
import re
from pathlib import Path

import jax
import pytest

from bertjax.cli.main import main
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.errors import UserError
from bertjax.evaluation.behaviour.behaviour_file import load_checks
from bertjax.evaluation.behaviour.behaviour_report import judge_behaviour
from bertjax.inference.loaded_model import LoadedModel, load_model
from bertjax.inference.predictor import Predictor
from bertjax.report_pages.blocks import Details
from bertjax.tasks import make_model
from tests.support.models import TINY

CHECKS = """
checks:
  - name: good
    capability: vocabulary
    kind: minimum_functionality
    templates: ["the {what} and good and great ."]
    slots: {what: [film, book]}
    expect: good
  - name: wrong <b>on purpose</b>
    capability: vocabulary
    kind: minimum_functionality
    texts: ["the film , bad and dull . <script>alert(1)</script>", "<script>alert(1)</script>"]
    expect: good
  - name: case
    kind: invariance
    texts: [the film bad and dull ., {title: the film, body: good and great .}]
    perturb: [{case: upper}, numbers]
    tolerance: 0.00001
  - name: worse
    kind: direction
    texts: [{text: the film good and great ., becomes: the film bad and dull .}]
    direction: {good: down, bad: not down}
"""


@pytest.fixture
def evaluate(finished_run, tmp_path, capsys):
    def evaluate(*flags, checks=CHECKS):
        path = tmp_path / "checks.yaml"
        path.write_text(checks)
        status = main(["evaluate", "--model", str(finished_run.model_dir), "--behaviour", str(path), *flags])
        return status, *capsys.readouterr()

    return evaluate


def test_the_command_without_a_table(evaluate, finished_run, tmp_path):
    out = tmp_path / "out"
    status, shown, complaint = evaluate("--out", str(out), "--min-pass-rate", "0.9")
    written = json.loads((out / "behaviour.json").read_text())
    assert status == 1
    summary = f"behaviour: {written['passed']} of {written['passed'] + written['failed']} cases of 4 checks pass"
    assert summary in shown
    assert complaint.splitlines()[-1].startswith(f"bertjax: {summary}")
    assert complaint.endswith("; --min-pass-rate asks for 0.9\n")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test/behaviour/pass_rate"] == written["pass_rate"]
    assert metrics["test/behaviour/vocabulary/pass_rate"] == written["capabilities"]["vocabulary"]["pass_rate"]

    predictor = Predictor.load(finished_run.model_dir)
    good, wrong, case, worse = written["checks"]
    assert [one["status"] for one in good["cases"]] == ["passed", "passed"]
    assert wrong["cases"][0]["status"] == "failed"
    for one in (*good["cases"], *wrong["cases"]):
        (answer,) = predictor([one["text"]])
        assert one["got"].startswith(answer["label"])
        assert one["probability"] == pytest.approx(answer["probability"], abs=1e-5)
    assert [one["status"] for one in case["cases"]] == ["passed", "not applicable"] * 2
    assert (case["passed"], case["failed"], case["not_applicable"], case["pass_rate"]) == (2, 0, 2, 1)
    assert worse["cases"][0]["status"] == "passed"
    assert evaluate("--out", str(out), "--overwrite", "--min-pass-rate", repr(written["pass_rate"]))[0] == 0


def test_the_command_beside_a_table(evaluate, reviews, tmp_path):
    out = tmp_path / "out"
    status, shown, _ = evaluate("--data", str(reviews), "--out", str(out))
    assert status == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"test/accuracy", "test/behaviour/pass_rate"} <= metrics.keys()
    assert {path.name for path in out.iterdir()} >= {"behaviour.json", "predictions.jsonl", "report.html"}
    assert shown.index("test: accuracy") < shown.index("behaviour by check")


def test_nothing_applicable_is_no_pass(evaluate):
    checks = "checks: [{name: n, kind: invariance, texts: a film, perturb: numbers}]"
    status, shown, complaint = evaluate("--min-pass-rate", "0", checks=checks)
    assert status == 1
    assert "tests anything, 1 not applicable; --min-pass-rate asks for 0" in complaint
    assert "undefined" in shown


_INVARIANCE = "expect: good}, {name: o, kind: invariance, perturb: case,"
_DIRECTION = "expect: good}, {name: o, kind: direction, texts: a, perturb: case,"
UNFIT = {
    "label": ("expect: god", 5, "label 'god' is unknown; did you mean 'good'?"),
    "column": (f"{_INVARIANCE}\ntexts: {{text: a, titel: b}}", 6, "no column 'text'"),
    "pair": (f"{_INVARIANCE}\ntexts: {{text: a, pair: b}}", 6, "this is a pair"),
    "direction": (f"{_DIRECTION}\ndirection: up", 6, "names what moves"),
    "way": (f"{_DIRECTION}\ndirection: {{good: north}}", 6, "'north' is"),
    "surrogate": (f'{_INVARIANCE}\ntexts: "\\ud800"', 6, "surrogate"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
def test_a_check_that_does_not_fit_the_model_names_its_line(evaluate, case):
    end, line, complaint = UNFIT[case]
    checks = f"checks: [\n{{name: n,\nkind: minimum_functionality,\ntexts: a,\n{end}}}]"
    status, _, shown = evaluate(checks=checks)
    assert status == 2
    assert re.search(rf"checks\.yaml line {line}: .*{re.escape(complaint)}", shown), shown
    assert shown.count("\n") == 1


def test_a_section_is_plain_text_failures_open_and_passes_folded(finished_run, tmp_path):
    (tmp_path / "checks.yaml").write_text(CHECKS)
    behaviour = judge_behaviour(load_model(finished_run.model_dir), load_checks(tmp_path / "checks.yaml"))
    details = [block for block in behaviour.finding().section.blocks if isinstance(block, Details)]
    assert {block.is_open for block in details if block.summary.endswith("failed")} == {True}
    assert {block.is_open for block in details if not block.summary.endswith("failed")} == {False}
    assert details[0].summary.startswith("wrong <b>on purpose</b>: ")
    assert "<script>alert(1)</script>" in str(details[0])


TASKS = {
    "multi_label": ("{kind: minimum_functionality, texts: a film, expect: [], name: n}", ("odd", "even")),
    "regression": ("{kind: invariance, texts: a film, perturb: case, tolerance: 0.001, name: n}", ("score",)),
    "token_classification": ("{kind: invariance, texts: a film, perturb: case, name: n}", ("O", "B-PER", "I-PER")),
    "next_sentence": ("{kind: invariance, texts: {text: a film, pair: a book}, perturb: case, name: n}", ()),
    "sentence_embedding": (
        "{kind: direction, texts: {text: a film, pair: a film, becomes: a book}, direction: down, name: n}", ()
    ),
    "question_answering": ("{kind: invariance, texts: {text: what film, pair: a film}, perturb: case, name: n}", ()),
}  # fmt: skip


@pytest.fixture
def loaded_for(tiny_model):
    def loaded_for(task, labels=()):
        model = make_model(TINY, task, labels)
        return LoadedModel(model, model.init(jax.random.PRNGKey(0)), load_tokenizer(tiny_model), max_length=24)

    return loaded_for


@pytest.mark.parametrize("task", TASKS)
def test_other_tasks(loaded_for, tmp_path, task):
    """The tokenizer lowers letters, so an upper case changes no answer."""
    check, labels = TASKS[task]
    path = Path(tmp_path / "checks.yaml")
    path.write_text(f"checks: [{check.replace('perturb: case', 'perturb: {case: upper}')}]")
    behaviour = judge_behaviour(loaded_for(task, labels), load_checks(path))
    (outcome,) = behaviour.results[0].outcomes
    if task != "multi_label":
        assert outcome.status == "passed"
    assert outcome.expected
    assert outcome.got


REFUSED = {
    "encoder": ("texts: a, expect: b", (), "does not predict texts"),
    "masked_lm": ("texts: a, expect: b", (), "a model of 'masked_lm' gives none"),
    "regression": ("texts: a, expect: 1", ("score",), "line 1: the model answers with numbers; say how near"),
    "token_classification": ("texts: a, expect: [{a: PERS}]", ("O", "B-PER"), "line 1: label 'PERS' is unknown"),
    "next_sentence": ("texts: a, expect: follows", (), "line 1: must be a pair of strings"),
}


@pytest.mark.parametrize("task", REFUSED)
def test_what_a_task_cannot_answer(loaded_for, tmp_path, task):
    check, labels, complaint = REFUSED[task]
    path = tmp_path / "checks.yaml"
    path.write_text(f"checks: [{{name: n, kind: minimum_functionality, {check}}}]")
    with pytest.raises(UserError, match=re.escape(complaint)):
        judge_behaviour(loaded_for(task, labels), load_checks(path))
