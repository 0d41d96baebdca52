"""`bertjax evaluate --threshold` and `--fit-threshold`: what a fallback does, on the page, in the files, in words."""

import json
import re
from pathlib import Path

import jax
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from bertjax.cli.main import main
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.evaluation.evaluate_table import evaluate as evaluate_table
from bertjax.inference.predictor import Predictor
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.tasks import make_model
from bertjax.tasks.postprocess import AnswerOptions
from tests.support.models import TINY


@pytest.fixture(scope="module")
def predictor(finished_run):
    return Predictor.load(finished_run.model_dir)


@pytest.fixture(scope="module")
def unsure_mistake(predictor, reviews, tmp_path_factory) -> tuple[Path, float]:
    """A table whose labels are the model's but for that of which it is the least sure, and a probability between that
    one and the next."""
    frame = pd.read_csv(reviews)
    answers = predictor(frame)
    frame["stars"] = [answer["label"] for answer in answers]
    sure = sorted(range(len(answers)), key=lambda i: answers[i]["probability"])
    frame.loc[sure[0], "stars"] = {"good": "bad", "bad": "good"}[answers[sure[0]]["label"]]
    path = tmp_path_factory.mktemp("unsure") / "table.csv"
    frame.to_csv(path, index=False)
    return path, (answers[sure[0]]["probability"] + answers[sure[1]]["probability"]) / 2


@pytest.fixture
def evaluate(finished_run, capsys):
    def evaluate(data, *flags, model=finished_run.model_dir):
        status = main(["evaluate", "--model", str(model), "--data", str(data), *flags])
        return status, *capsys.readouterr()

    return evaluate


def test_metrics_answers_and_page_of_a_threshold(evaluate, predictor, unsure_mistake, tmp_path):
    table, threshold = unsure_mistake
    out = tmp_path / "judged"
    status, shown, _ = evaluate(table, "--threshold", repr(threshold), "--out", str(out))
    assert status == 0
    frame = pd.read_csv(table)
    said = predictor(frame, AnswerOptions(threshold=threshold))
    assert [answer["label"] for answer in said].count("uncertain") == 1
    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    for key in ("label", "predicted"):
        assert [prediction[key] for prediction in predictions] == [answer[key] for answer in said]

    metrics = json.loads((out / "metrics.json").read_text())
    for average in ("weighted", "macro"):
        for prefix, key in (("test/fallback", "label"), ("test", "predicted")):
            answers = [answer[key] for answer in said]
            expected = f1_score(frame.stars, answers, labels=["bad", "good"], average=average)
            assert metrics[f"{prefix}/f1_{average}"] == pytest.approx(expected)
    assert metrics["test/fallback/kept_share"] == 59 / 60
    assert metrics["test/fallback/threshold"] == threshold
    page = (out / "report.html").read_text()
    for text in (shown, page.replace("&#39;", "'")):
        assert "weighted, with fallback" in text
        assert f"98.3% keep their label, the others, below {threshold:g}, are 'uncertain'" in text
    assert "F1, weighted, with fallback" in page
    assert "test/fallback/f1_macro" in page


def test_the_fitted_threshold_is_the_flag_to_use(evaluate, unsure_mistake, tmp_path):
    """What the fit says of these rows is what an evaluation with its flag finds on them."""
    table, threshold = unsure_mistake
    status, shown, _ = evaluate(table, "--fit-threshold", "--out", str(tmp_path / "fitted"))
    assert status == 0
    said = re.search(r"raises macro F1 from (0.\d+) to (0.\d+) .* 98.3% .* use it: --threshold (\S+) of", shown)
    assert said is not None
    flag = said[3]
    assert evaluate(table, "--threshold", flag, "--out", str(tmp_path / "given"))[0] == 0
    assert float(flag) == pytest.approx(threshold, rel=0.1)
    fitted, given = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("fitted", "given"))
    assert fitted == given
    assert (f"{fitted['test/f1_macro']:.4f}", f"{fitted['test/fallback/f1_macro']:.4f}") == (said[1], said[2])


def test_no_threshold_where_none_helps(evaluate, predictor, reviews, tmp_path):
    frame = pd.read_csv(reviews)
    frame["stars"] = [answer["label"] for answer in predictor(frame)]
    frame.to_csv(tmp_path / "right.csv", index=False)
    status, shown, _ = evaluate(tmp_path / "right.csv", "--fit-threshold", "--out", str(tmp_path / "judged"))
    assert status == 0
    assert "no threshold has a higher macro F1 than none (1.0000) on these rows" in shown
    assert "fallback" not in (tmp_path / "judged" / "metrics.json").read_text()
    assert "predicted" not in (tmp_path / "judged" / "predictions.jsonl").read_text()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--threshold", "0.5", "--fit-threshold"), "--fit-threshold finds the threshold that --threshold gives"),
        (("--threshold", "1.5"), "threshold must be in [0, 1], got 1.5 (see bertjax evaluate --help)"),
        (("--threshold", "nan"), "threshold must be a finite number, got nan"),
        (("--threshold", "high"), "--threshold"),
    ],
)
def test_flags_that_cannot_be(evaluate, reviews, flags, complaint):
    status, shown, said = evaluate(reviews, *flags)
    assert (status, shown, said.count("\n")) == (2, "", 1)
    assert complaint in said


@pytest.mark.parametrize("flags", [("--threshold", "0.5"), ("--fit-threshold",)])
def test_a_model_that_gives_no_single_label(evaluate, tiny_model, tmp_path, flags):
    """Told before the rows are read."""
    model = make_model(TINY, "multi_label", ("good", "bad"))
    folder = save_pretrained(tmp_path / "model", model, model.init(jax.random.PRNGKey(0)), load_tokenizer(tiny_model))
    status, _, said = evaluate(tmp_path / "nowhere.csv", *flags, model=folder)
    complaint = "a threshold with a fallback is for models that give a row one label; this one's task is multi_label"
    assert (status, said) == (2, f"bertjax: {complaint}\n")


def test_a_task_whose_labels_have_names_of_its_own(tiny_model, tmp_path):
    """Next sentences are labelled by numbers in the table, and by words in the answers."""
    model = make_model(TINY, "next_sentence", ())
    folder = save_pretrained(tmp_path / "model", model, model.init(jax.random.PRNGKey(0)), load_tokenizer(tiny_model))
    frame = pd.DataFrame({"a": ["the film", "a book"], "b": ["was good .", "and dull ."], "label": [0, 1]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    columns = {"text": ("a",), "text_pair": ("b",), "label": "label"}
    result = evaluate_table(str(folder), str(tmp_path / "t.csv"), columns, threshold=1.0)
    assert [answer["label"] for answer in result.predictions()] == ["uncertain"] * 2
    metrics = result.report.flat("test")
    assert (metrics["test/fallback/accuracy"], metrics["test/fallback/kept_share"]) == (0, 0)
    assert metrics["test/accuracy"] == 0.5
