"""Simple models beside a network: what scikit-learn computes when called directly, on the rows that the network has."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline

from bertjax.cli.main import main
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.split.read_splits import encode_splits
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import ConfigError, DataError, RunFolderError
from bertjax.evaluation.simple_models import beside_report
from bertjax.evaluation.simple_models.beside_report import SIMPLE_MODELS, beside_simple_models
from bertjax.evaluation.simple_models.beside_settings import SimpleModels
from bertjax.evaluation.simple_models.keyword_rules import read_keywords
from bertjax.evaluation.simple_models.simple_model import Labelled, Problem
from bertjax.metrics.reports import HeadlineScore, Report
from bertjax.storage.append_only_log import AppendOnlyLog
from bertjax.tasks import Metric, find_evaluator, find_format, find_task
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.multi.learning_curve import CURVE, curve_finding, finetune_curve
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.finetune_config import FineTuneConfig
from tests.support.tables import COLUMNS, TABLES, rows_of, splits_of, write_frame
from tests.support.tracking import Trackers


@pytest.fixture(scope="module")
def problem_of(tiny_model, tmp_path_factory):
    """(task) -> what a simple model learns of its small table."""

    def problem(task: str) -> Problem:
        path = tmp_path_factory.mktemp("tables") / "table.jsonl"
        write_frame(pd.DataFrame(TABLES[task]), path)
        rows = splits_of(Table(str(path), **COLUMNS.get(task, {})), task)
        encoding = Encoding(load_tokenizer(tiny_model), (), 32, rows.table)
        splits = encode_splits(rows, find_format(task), encoding)
        train, test = Labelled(rows.train, splits.train.examples), Labelled(rows.test, splits.test.examples)
        return Problem(find_task(task).target, splits.vocabulary, train, test, SimpleModels(), str(tiny_model))

    return problem


def bag_of_words(model):
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
    return make_pipeline(vectorizer, model)


def logistic():
    return LogisticRegression(C=10, max_iter=1000)


def test_tfidf_of_classes_numbers_and_label_sets_is_scikit_learns(problem_of):
    of = {task: problem_of(task) for task in ("classification", "regression", "multi_label")}
    scores = {task: SIMPLE_MODELS["tfidf"].scores(problem) for task, problem in of.items()}

    train, test = of["classification"].train.rows, of["classification"].test.rows
    right = bag_of_words(logistic()).fit(train.texts, train.labels)
    np.testing.assert_allclose(softmax(scores["classification"], axis=1), right.predict_proba(test.texts), atol=1e-5)

    train, test = of["regression"].train.rows, of["regression"].test.rows
    right = bag_of_words(Ridge()).fit(train.texts, np.array(train.labels))
    np.testing.assert_allclose(scores["regression"][:, 0], right.predict(test.texts).ravel(), atol=1e-4)

    train, test = of["multi_label"].train.rows, of["multi_label"].test.rows
    for column, name in enumerate(of["multi_label"].names):
        right = bag_of_words(logistic()).fit(train.texts, [name in labels for labels in train.labels])
        probabilities = right.predict_proba(test.texts)[:, 1]
        np.testing.assert_allclose(expit(scores["multi_label"][:, column]), probabilities, atol=1e-5)


def test_the_majority_is_scikit_learns(problem_of):
    classes, numbers = problem_of("classification"), problem_of("regression")
    train = classes.train.rows
    right = DummyClassifier(strategy="prior").fit(train.texts, train.labels).predict_proba(classes.test.rows.texts)
    np.testing.assert_allclose(softmax(SIMPLE_MODELS["majority"].scores(classes), axis=1), right, atol=1e-5)
    train = numbers.train.rows
    right = DummyRegressor().fit(train.texts, np.array(train.labels).ravel()).predict(numbers.test.rows.texts)
    np.testing.assert_allclose(SIMPLE_MODELS["majority"].scores(numbers)[:, 0], right, rtol=1e-5)


@pytest.mark.parametrize("task", ["multi_label", "next_sentence"])
@pytest.mark.parametrize("name", ["majority", "tfidf", "embeddings"])
def test_every_simple_model_answers_every_task_that_it_learns(problem_of, task, name):
    problem = problem_of(task)
    scores = SIMPLE_MODELS[name].scores(problem)
    labels = problem.test.examples.labels
    assert scores.shape == (labels.shape if labels.ndim == 2 else (len(labels), 2))
    assert np.isfinite(scores).all()
    find_evaluator(task)(scores, problem.test.examples, problem.names)


def test_a_word_gets_its_most_frequent_label_and_an_unknown_one_that_of_all_words(tiny_model):
    names, table = ("A", "B", "O"), Table("t", tag_scheme="none")
    encode = find_format("token_classification").encode
    encoding = Encoding(load_tokenizer(tiny_model), names, 8, table)  # 8: the second test sentence is cut in two
    train = rows_of([("film", "book", "film"), ("film", "the", "the")], None, [("A", "B", "B"), ("A", "O", "O")])
    train = train._replace(labels=[("A", "B", "B"), ("A", "O", None)])
    words = [("book", "song", "the"), ("film", "film", "the", "the", "book", "film", "song", "plot")]
    test = rows_of(words, None, [("O",) * len(sentence) for sentence in words])
    sides = [Labelled(rows, encode(rows, "t", encoding)) for rows in (train, test)]
    problem = Problem("word_labels", names, *sides, SimpleModels(), "")
    scores = SIMPLE_MODELS["majority"].scores(problem)
    # Of A, A, B, B, O the first of the most frequent.
    given = [names[i] for i in scores[sides[1].examples.labels != -100].argmax(axis=1)]
    assert given == ["B", "A", "O", "A", "A", "O", "O", "B", "A", "A", "A"]


def test_keyword_rules(problem_of, tmp_path):
    path = tmp_path / "keywords.yaml"
    path.write_text("x: [the film, 'a very']\ny: book\nz:\n  - so ,\n")
    problem = problem_of("classification")
    problem = problem._replace(settings=SimpleModels(("keywords",), keywords=str(path)))
    texts = ["THE  FILM ends", "bookish", "a book", "the film, a very book", "book so , it"]
    rows = Rows(texts, None, ["x"] * 5, list(range(5)))
    scores = SIMPLE_MODELS["keywords"].scores(problem._replace(test=problem.test._replace(rows=rows)))
    majority = pd.Series(problem.train.rows.labels).value_counts().sort_index().idxmax()
    assert [problem.names[i] for i in scores.argmax(axis=1)] == ["x", majority, "y", "x", majority]
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)


MISTAKES = {
    "an unknown label": ("a: [x]\nc: [y]\n", "keywords.yaml line 2: the label 'c' is unknown; there are 'a', 'b'"),
    "no words": ("a: [x]\nb: []\n", "line 2: 'b' must have words or phrases"),
    "an empty word": ("a:\n  - x\n  - ''\n", "line 3: 'a' must have words or phrases"),
    "a mapping": ("a: {x: 1}\n", "line 1: 'a' must have words or phrases"),
    "two labels": ("a: [x, Y z]\nb:\n- y Z\n", "line 3: 'y Z' speaks for 'b' and for 'a'; leave one"),
    "no mapping": ("- a\n", "must hold a label with its words in each line"),
    "empty": ("", "must hold a label with its words in each line"),
    "no YAML": ("a: [x\nb: y\n", "line 2: no YAML"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_keyword_file_with_a_mistake_is_told_with_its_line(tmp_path, mistake):
    text, complaint = MISTAKES[mistake]
    (tmp_path / "keywords.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_keywords(str(tmp_path / "keywords.yaml"), ("a", "b"))
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_differences_are_of_the_same_draws_of_rows(problem_of, monkeypatch):
    """Two models that are wrong on the same rows but one differ by that row in every draw, whatever else is drawn."""
    problem, settings = problem_of("classification"), SimpleModels(("majority",))
    count = problem.num_test
    hits = np.arange(count) % 2.0
    one_more = np.where(np.arange(count) == 0, 1.0, hits)

    def report(right):
        def weighted(weights):
            return {"accuracy": weights @ right / weights.sum(axis=1)}

        return Report(
            "", [HeadlineScore("accuracy", right.mean(), "accuracy")], {"accuracy": right.mean()}, weighted=weighted
        )

    monkeypatch.setattr(beside_report, "find_evaluator", lambda task: lambda *judged: report(hits))
    ours = report(one_more)
    found = beside_simple_models("classification", problem.names, problem.test, ours, problem.train, settings)
    assert found.metrics["beside/majority/accuracy_difference"] == pytest.approx(1 / count)
    assert found.metrics["beside/majority/accuracy_difference_low"] == 0
    # The row is drawn Poisson(1) times: 3 times or fewer in 98% of draws.
    assert found.metrics["beside/majority/accuracy_difference_high"] == pytest.approx(3 / count)


@pytest.fixture(scope="module")
def halves(reviews, tmp_path_factory):
    """A table to train on and one to judge, which shares its first rows with it."""
    folder, frame = tmp_path_factory.mktemp("halves"), pd.read_csv(reviews)
    train, test = frame[:44], pd.concat([frame[:4], frame[44:]])
    pd.concat([train, train[4:10]]).to_csv(folder / "train.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)
    (folder / "one.csv").write_text("title,body,stars\nthe film,good,good\nthe book,good,good\n")
    (folder / "other.csv").write_text("title,body,stars\nthe film,good,good\nthe book,good,superb\n")
    (folder / "unlabelled.csv").write_text("title,body\nthe film,good\n")
    (folder / "keywords.yaml").write_text("superb: [great]\n")
    return folder


def test_evaluate_judges_simple_models_on_the_models_rows(finished_run, halves, tmp_path, capsys):
    flags = [
        "--data",
        str(halves / "test.csv"),
        "--beside-train",
        str(halves / "train.csv"),
        "--out",
        str(tmp_path / "o"),
    ]
    command = ["evaluate", "--model", str(finished_run.model_dir), *flags, "--beside", "majority", "tfidf"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "40 rows for the simple models (6 duplicate rows dropped, 4 that stand in the judged rows)" in shown.err
    assert "TF-IDF, logistic regression" in shown.out
    train, test = pd.read_csv(halves / "train.csv").drop_duplicates()[4:], pd.read_csv(halves / "test.csv")
    right = bag_of_words(logistic()).fit(train["title"] + " " + train["body"], train["stars"])
    given = right.predict(test["title"] + " " + test["body"])
    metrics = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert metrics["test/beside/tfidf/accuracy"] == accuracy_score(test["stars"], given)
    assert metrics["test/beside/tfidf/f1_macro"] == pytest.approx(f1_score(test["stars"], given, average="macro"))
    assert metrics["test/beside/majority/accuracy"] == (test["stars"] == train["stars"].mode()[0]).mean()


REFUSED = {
    "an unknown model": (["--beside", "svm"], "--beside takes majority, tfidf, embeddings, keywords, got 'svm'"),
    "twice": (["--beside", "tfidf", "tfidf", "--beside-train", "train.csv"], "--beside names a model twice"),
    "no training rows": (["--beside", "tfidf"], "--beside and --beside-train"),
    "rows for nothing": (["--beside-train", "train.csv"], "--beside and --beside-train"),
    "no keywords": (["--beside", "keywords", "--beside-train", "train.csv"], "needs --keywords"),
    "stray keywords": (["--beside", "tfidf", "--keywords", "k", "--beside-train", "train.csv"], "is for --beside"),
    "one class": (["--beside", "tfidf", "--beside-train", "one.csv"], "every row has the label 'good'"),
    "an unknown class": (["--beside", "tfidf", "--beside-train", "other.csv"], "never saw: 'superb'"),
    "no labels": (["--beside", "tfidf", "--beside-train", "unlabelled.csv"], "has no column 'stars'"),
    "the judged rows": (["--beside", "tfidf", "--beside-train", "test.csv"], "every text stands in the judged rows"),
    "no table": (["--beside", "tfidf", "--beside-train", "nowhere.csv"], "nowhere.csv"),
    "no checkpoint": (
        ["--beside", "embeddings", "--beside-model", "nowhere", "--beside-train", "train.csv"], "nowhere"
    ),
    "a wrong keyword": (
        ["--beside", "keywords", "--keywords", "keywords.yaml", "--beside-train", "train.csv"], "yaml line 1: the label"
    ),
    "no keyword file": (
        ["--beside", "keywords", "--keywords", "no.yaml", "--beside-train", "train.csv"], "no.yaml cannot be read"
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_one_line(finished_run, halves, monkeypatch, capsys, mistake):
    monkeypatch.chdir(halves)
    flags, complaint = REFUSED[mistake]
    assert main(["evaluate", "--model", str(finished_run.model_dir), "--data", "test.csv", *flags]) == 2
    shown = capsys.readouterr().err
    assert complaint in shown.splitlines()[-1]
    assert "Traceback" not in shown


@pytest.mark.parametrize("task", ["question_answering", "masked_lm", "multiple_choice", "token_classification"])
def test_a_task_without_a_simple_model_says_so_before_rows_are_read(task, tiny_model):
    config = FineTuneConfig(str(tiny_model), Table("nowhere.csv"), task, simple_models=SimpleModels(("tfidf",)))
    with pytest.raises(ConfigError, match=f"--beside tfidf learns classification.* not {task}; there is|no simple"):
        finetune(config, "unused", tracker=MemoryTracker())
    assert not Path("unused").exists()


def test_at_most_so_many_rows_of_each_class_and_the_same_test_rows(reviews, caplog):
    whole = Table(str(reviews), text=("title", "body"), label="stars")
    drawn = {size: splits_of(replace(whole, per_class=size, per_class_seed=3)) for size in (2, 5, 1000)}
    assert pd.Series(drawn[5].train.labels).value_counts().to_dict() == {"good": 5, "bad": 5}
    assert set(drawn[2].train.positions) < set(drawn[5].train.positions)
    assert drawn[1000].train == splits_of(whole).train
    assert {rows.test.digest() for rows in drawn.values()} == {splits_of(whole).test.digest()}
    other = splits_of(replace(whole, per_class=5, per_class_seed=4))
    assert other.train.positions != drawn[5].train.positions
    with pytest.raises(ConfigError, match="--per-class draws rows of each class"):
        splits_of(replace(whole, per_class=5), "multi_label")


def test_a_learning_curve_and_its_continuation(tiny_model, reviews, tmp_path, caplog):
    table = Table(str(reviews), text=("title", "body"), label="stars")
    settings = SimpleModels(("majority", "tfidf"))
    config = FineTuneConfig(str(tiny_model), table, epochs=1, max_length=16, batch_size=8, simple_models=settings)
    curve = tmp_path / "curve"
    caplog.set_level("INFO")
    finetune_curve(config, [2], [1], curve, new_tracker=Trackers())
    with pytest.raises(RunFolderError, match="already holds a learning curve; continue it with --resume"):
        finetune_curve(config, [2], [1], curve)
    trackers = Trackers()
    result = finetune_curve(config, [100, 2], [1], curve, if_exists="resume", new_tracker=trackers)
    assert [parent for parent, _ in trackers] == [None, "curve", "curve"]
    whole = trackers[0][1]
    assert whole.status == "FINISHED"
    assert whole.metrics == [(2, dict(result.finding.metrics))]
    assert {path.name for path in whole.artifacts} == {CURVE, "report.html", "report.md"}
    assert list(whole.charts) == ["learning_curve_learning_curve"]
    assert "Learning curve" in (curve / "report.md").read_text()
    assert re.search(r"all rows of '\w+' \(24\), '\w+' \(24\), which have fewer", caplog.text)
    metrics = json.loads((curve / CURVE).read_text())
    assert metrics.keys() - {"runs"} == result.finding.metrics.keys()
    assert {"learning_curve/100/f1_macro_mean", "learning_curve/100/beside/majority/accuracy_mean"} <= metrics.keys()
    rows, test = splits_of(replace(table, per_class=2, per_class_seed=1)).train, splits_of(table).test
    given = bag_of_words(logistic()).fit(rows.texts, rows.labels).predict(test.texts)
    of_tfidf = metrics["learning_curve/2/beside/tfidf/f1_macro_mean"]
    assert of_tfidf == pytest.approx(f1_score(test.labels, given, average="macro"))
    with pytest.raises(ConfigError, match="--learning-curve draws rows of each class"):
        finetune_curve(replace(config, task="multi_label"), [2], [0], curve)
    before = {path: path.read_bytes() for path in curve.rglob("*") if path.is_file()}
    broken = replace(config, data=replace(table, label="nothing"))
    with pytest.raises(DataError, match="nothing"):  # what it was to replace is still there
        finetune_curve(broken, [2], [0], curve, if_exists="overwrite", new_tracker=Trackers())
    assert {path: path.read_bytes() for path in curve.rglob("*") if path.is_file()} == before
    with pytest.raises(DataError, match="nothing"):
        finetune_curve(broken, [2], [0], tmp_path / "new", new_tracker=Trackers())
    assert not list((tmp_path / "new").glob("*"))


def test_a_learning_curve_needs_no_mlflow(tiny_model, reviews, in_folder, monkeypatch):
    """`--tracking none` holds for the curve's own run and for each below it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # whoever asks it, fails
    table = ["--train", str(reviews), "--text-columns", "title", "body", "--label-column", "stars"]
    job = ["--model", str(tiny_model), "--max-length", "16", "--batch-size", "8", "--epochs", "1", "--out", "curve"]
    assert main(["finetune", *table, *job, "--learning-curve", "2", "--tracking", "none"]) == 0
    assert {path.name for path in in_folder.iterdir()} == {"curve"}
    run = in_folder / "curve" / "per-class-2" / "seed-0"
    for folder in (in_folder / "curve", run):
        events = list(AppendOnlyLog(folder / "tracking.jsonl").entries())
        assert (events[0]["status"], events[-1]["status"]) == ("RUNNING", "FINISHED")
    assert "test/accuracy" in json.loads((run / "metrics.json").read_text())
    assert "learning_curve/2/accuracy_mean" in json.loads((in_folder / "curve" / CURVE).read_text())


def test_a_curve_has_mean_and_standard_deviation_of_each_model():
    runs = {
        8: {seed: {"f1_macro": 0.5 + seed / 10, "beside/tfidf/f1_macro": 0.4} for seed in (0, 1, 2)},
        16: {0: {"f1_macro": 0.9, "beside/tfidf/f1_macro": 0.7}},
    }
    section, metrics, _ = curve_finding(runs, Metric("f1_macro"))
    assert metrics["learning_curve/8/f1_macro_mean"] == np.mean([0.5, 0.6, 0.7])
    assert metrics["learning_curve/8/f1_macro_sd"] == np.std([0.5, 0.6, 0.7], ddof=1)
    assert "learning_curve/16/f1_macro_sd" not in metrics
    _, table, figure = section.blocks
    assert table.rows == [[8, 3, "0.6000 ± 0.1000", "0.4000 ± 0.0000"], [16, 1, "0.9000", "0.7000"]]
    assert figure.chart.series["tfidf"] == [(8.0, pytest.approx(0.4)), (16.0, 0.7)]
