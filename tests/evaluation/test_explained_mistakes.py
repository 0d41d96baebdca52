"""Explained answers of an evaluation: of each kind the right rows, and what the command writes of them."""

import json

import pytest

from bertjax.cli.main import main
from bertjax.evaluation.evaluate_table import evaluate
from bertjax.evaluation.explained_mistakes import explained_mistakes
from bertjax.evaluation.look_settings import ExplainedMistakes
from bertjax.report_pages.blocks import ColouredText, DataTable, Paragraph


@pytest.fixture(scope="module")
def odd_reviews(tmp_path_factory):
    """Rows of which a fifth have the other label."""
    path = tmp_path_factory.mktemp("odd") / "odd.csv"
    words = {"good": "good and great", "bad": "bad and dull"}
    rows = [
        (f"the {subject}", words[said], true)
        for subject in ("film", "book", "<script>plot</script>", "song", "film and song")
        for said, true in (("good", "good"), ("bad", "bad"), ("good", "bad"), ("bad", "good"))
    ]
    path.write_text("title,body,stars\n" + "".join(f"{','.join(row)}\n" for row in rows))
    return path


def test_the_most_and_least_sure_of_right_and_wrong_answers(finished_run, odd_reviews):
    judged = evaluate(str(finished_run.model_dir), str(odd_reviews)).judged
    finding = explained_mistakes(judged, ExplainedMistakes(2))
    titles = [block.text for block in finding.section.blocks if isinstance(block, Paragraph)][1:]
    assert titles == ["Wrong, and most sure", "Wrong, and least sure", "Right, and most sure", "Right, and least sure"]
    records = [json.loads(line) for line in finding.files["explanations.jsonl"].splitlines()]
    assert len(records) == len({record["row"] for record in records}) == 8
    answers = {answer["row"]: answer for answer in judged.predictions()}
    wrong, right = records[:4], records[4:]
    assert all(answers[record["row"]]["label"] != record["true"] for record in wrong)
    assert all(answers[record["row"]]["label"] == record["true"] for record in right)
    assert {record["true"] for record in wrong[:2]} == {"good", "bad"}  # of both classes
    for of_kind in (wrong, right):
        of_same = [a for a in answers.values() if (a["label"] == a["true"]) == (of_kind is right)]
        surest = max(of_same, key=lambda answer: answer["probability"])
        assert surest["row"] in [record["row"] for record in of_kind[:2]]
        unsure = min(of_same, key=lambda answer: answer["probability"])
        assert unsure["row"] in [record["row"] for record in of_kind]
    coloured = [block for block in finding.section.blocks if isinstance(block, ColouredText)]
    assert len(coloured) == 8
    for block, record in zip(coloured, records, strict=True):
        assert "".join(part for part, _ in block.parts) == answers[record["row"]]["text"]
        assert max(abs(share) for _, share in block.parts) == 1
    assert isinstance(finding.section.blocks[-1], DataTable)


def test_the_command_writes_them(finished_run, odd_reviews, tmp_path, capsys):
    command = ["evaluate", "--model", str(finished_run.model_dir), "--data", str(odd_reviews), "--explain", "1"]
    assert main(command) == 2
    assert "name it with --out" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "e")]) == 0
    lines = (tmp_path / "e" / "explanations.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert main([*command[:-2], "--out", str(tmp_path / "e"), "--overwrite"]) == 0
    assert not (tmp_path / "e" / "explanations.jsonl").exists()
