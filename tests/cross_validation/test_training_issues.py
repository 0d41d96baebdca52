"""Label issues of training rows: who is judged by whom, planted flips, resuming, the clean table, and mistakes."""

import json
import random

import numpy as np
import pandas as pd
import pytest

from bertjax.cli.main import main
from bertjax.cross_validation import fold_run
from bertjax.cross_validation.deal_folds import ALWAYS_TRAINED, deal_folds
from bertjax.cross_validation.training_issues import find_training_issues
from bertjax.data.table import Table
from bertjax.errors import ConfigError, DataError, Interrupted
from bertjax.settings import override
from bertjax.tasks import find_format
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Optimizer
from tests.support.tables import TABLES, rows_of

CLASSES = find_format("classification")


def dealt(texts, labels, folds=3, seed=0, task_format=CLASSES):
    return deal_folds(rows_of(texts, None, labels), task_format, folds, seed, "table.csv")


def test_each_class_is_dealt_evenly_and_copies_together():
    texts = [f"text {i}" for i in range(30)] + ["TEXT  0", "text 1", "text 2"]
    labels = ["a", "b"] * 15 + ["a", "b", "b"]
    folds = dealt(texts, labels)
    for label in "ab":
        counts = np.bincount(folds.of_rows[:30][np.array(labels[:30]) == label], minlength=3)
        assert counts.tolist() == [5, 5, 5]
    assert folds.of_rows[30:].tolist() == folds.of_rows[[0, 1, 2]].tolist()
    assert folds.num_unjudged == 0


def test_the_same_seed_deals_the_same():
    texts, labels = [f"text {i}" for i in range(40)], ["a", "b"] * 20
    assert dealt(texts, labels).of_rows.tolist() == dealt(texts, labels).of_rows.tolist()
    assert dealt(texts, labels).of_rows.tolist() != dealt(texts, labels, seed=1).of_rows.tolist()


def test_rows_of_rare_labels_and_their_copies_are_always_trained_on():
    texts = [f"text {i}" for i in range(20)] + ["rare 1", "rare 2", "text 0"]
    folds = dealt(texts, ["a", "b"] * 10 + ["c", "c", "c"])
    assert folds.rare == ("c",)
    assert np.flatnonzero(folds.of_rows == ALWAYS_TRAINED).tolist() == [0, 20, 21, 22]


def test_no_fold_holds_all_rows_of_a_label_of_sets():
    rng = random.Random(0)
    labels = [tuple(sorted(rng.sample("abcdefgh", 2))) for _ in range(40)]
    folds = dealt([f"text {i}" for i in range(40)], labels, 5, task_format=find_format("multi_label"))
    for fold in range(5):
        trained = {name for label, of in zip(labels, folds.of_rows, strict=True) if of != fold for name in label}
        assert trained == set("abcdefgh")


TOO_FEW = {
    "more folds than rows": (["a", "b", "a"], "no label has 5 different texts"),
    "one judged label": (["a"] * 8 + ["b"], "a single label has 5 different texts"),
}


@pytest.mark.parametrize(("labels", "message"), TOO_FEW.values(), ids=TOO_FEW)
def test_too_few_rows_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        dealt([f"text {i}" for i in range(len(labels))], labels, 5)


FLIPPED = {5, 33, 70, 101}


def write_reviews(path) -> None:
    """Reviews of two classes, four of them with the other label."""
    openings = ["the", "a", "what a", "it was a", "so , the"]
    subjects = ["film", "book", "plot", "song"]
    ends = [(word, "good") for word in ("good", "great", "very great")]
    ends += [(word, "bad") for word in ("bad", "dull", "very dull")]
    rows = [(f"{o} {s} was {end}", label) for o in openings for s in subjects for end, label in ends]
    random.Random(0).shuffle(rows)
    labels = [{"good": "bad", "bad": "good"}[label] if i in FLIPPED else label for i, (_, label) in enumerate(rows)]
    frame = pd.DataFrame({"text": [text for text, _ in rows], "label": labels, "id": range(len(rows))})
    frame.to_csv(path, index=False)


def config_of(model, train, task="classification", folds=2, epochs=6, **table) -> FineTuneConfig:
    data = Table(str(train), folds=folds, **table)
    optimizer = Optimizer(learning_rate=1e-2)
    return FineTuneConfig(str(model), data, task, epochs=epochs, batch_size=8, max_length=24, optimizer=optimizer)


@pytest.fixture(scope="module")
def stopped_then_resumed(tiny_model, tmp_path_factory):
    """What folds found that were stopped within the second one and resumed; when the first was written; the tracker."""
    folder = tmp_path_factory.mktemp("folds")
    write_reviews(folder / "train.csv")
    config, out, tracker = config_of(tiny_model, folder / "train.csv"), folder / "out", MemoryTracker()
    steps = iter(range(10_000))
    with pytest.raises(Interrupted):
        find_training_issues(config, out, tracker=tracker, should_stop=lambda: next(steps) > 60)
    kept = (out / "fold-0.npz").stat().st_mtime_ns
    assert not (out / "fold-1.npz").exists()
    assert (out / "fold-1" / "config.json").exists()
    return find_training_issues(config, out, if_exists="resume", tracker=tracker), kept, tracker


def test_planted_flips_are_found_and_ended_folds_are_kept(stopped_then_resumed):
    found, kept, tracker = stopped_then_resumed
    assert (found.folder / "fold-0.npz").stat().st_mtime_ns == kept
    ranked = found.issues.rows_of(found.issues.doubts.ranking())
    assert set(ranked[:4].tolist()) == FLIPPED
    assert len(found.issues.items.rows) == 120
    assert json.loads((found.folder / "metrics.json").read_text()) == found.metrics
    assert tracker.metrics == [(0, dict(found.metrics))]
    assert not (found.folder / "fold-1" / "model").exists()


def test_nothing_of_a_fold_was_trained_on(stopped_then_resumed):
    found, _, _ = stopped_then_resumed
    sides = {}
    for fold in range(2):
        for side in ("train", "test"):
            frame = pd.read_json(found.folder / "tables" / f"fold-{fold}-{side}.jsonl", lines=True)
            sides[fold, side] = set(frame["id"])
        assert not sides[fold, "train"] & sides[fold, "test"]
    assert sorted(sides[0, "test"] | sides[1, "test"]) == list(range(120))


def test_a_run_without_a_stop_finds_the_same(stopped_then_resumed, tiny_model, tmp_path):
    found, _, _ = stopped_then_resumed
    config = config_of(tiny_model, found.table.train)
    again = find_training_issues(config, tmp_path / "out", tracker=MemoryTracker())
    assert again.issues.lines() == found.issues.lines()


CLEANED = {"issues": (), "share": ("--drop-share", "0.04")}


@pytest.mark.parametrize("flags", CLEANED.values(), ids=CLEANED)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_clean_table_lacks_the_suspects(
    stopped_then_resumed, tiny_model, tmp_path, in_store, capsys, flags, suffix
):
    """The command on folds that have all ended: nothing is trained."""
    found, _, _ = stopped_then_resumed
    (found.folder / "tracking.jsonl").unlink(missing_ok=True)  # of another test's store
    clean = tmp_path / f"clean.{suffix}"
    command = [
        "label-issues",
        "--model",
        str(tiny_model),
        "--train",
        found.table.train,
        "--folds",
        "2",
        "--epochs",
        "6",
    ]
    command += ["--batch-size", "8", "--max-length", "24", "--learning-rate", "1e-2", "--out", str(found.folder)]
    assert main([*command, "--resume", "--write-clean", str(clean), *flags]) == 0
    assert "confident learning doubts the labels of" in capsys.readouterr().out.lower()
    frame = pd.read_csv(clean) if suffix == "csv" else pd.read_parquet(clean).astype({"id": int})
    dropped = [json.loads(line) for line in (tmp_path / "clean.dropped.jsonl").read_text().splitlines()]
    assert sorted([*frame["id"], *(row["row"] - 1 for row in dropped)]) == list(range(120))
    assert {row["row"] - 1 for row in dropped} >= FLIPPED
    assert all(row["explanation"].startswith("the model gives") for row in dropped)
    if flags:
        assert len(dropped) == 5


@pytest.mark.parametrize("task", ["token_classification", "multi_label"])
def test_words_and_sets_of_labels(tiny_model, tmp_path, task):
    rows = TABLES[task]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = config_of(tiny_model, tmp_path / "train.jsonl", task, epochs=1)
    found = find_training_issues(config, tmp_path / "out", tracker=MemoryTracker())
    expected = sum(len(row["tokens"]) for row in rows) if task == "token_classification" else len(rows)
    assert len(found.issues.items.given) == expected
    assert np.isfinite(found.issues.doubts.quality).any()


MISTAKES = {
    "folds 1": (["--folds", "1"], "folds"),
    "a test table": (["--test", "t.csv"], "Unrecognized options: --test"),
    "a split": (["--split", "grouped"], "Unrecognized options: --split"),
    "a task without classes": (["--task", "regression"], "a model of task 'regression' does not give"),
    "drop share alone": (["--drop-share", "0.1"], "--drop-share needs --write-clean"),
    "nothing to resume": (["--resume"], "holds no folds to resume"),
    "no such column": (["--label-column", "nothing"], "has no column 'nothing'"),
    "more folds than rows": (["--folds", "100"], "no label has 100 different texts"),
    "a teacher": (["--teacher", "minilm-l6"], "Unrecognized options: --teacher"),
    "registered": (["--register", "name"], "Unrecognized options: --register"),
}


@pytest.mark.parametrize(("flags", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(tiny_model, tmp_path, in_store, capsys, flags, message):
    write_reviews(tmp_path / "train.csv")
    base = ["label-issues", "--model", str(tiny_model), "--train", "train.csv", "--out", "out"]
    assert main([*base, *flags]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "out" / "folds.json").exists()


SETTINGS = {
    "test": ({"data.test": "t.csv"}, "--test means nothing here"),
    "split": ({"data.split": "kfold"}, "--split means nothing here"),
    "probabilities": ({"data.label_probabilities": "p_"}, "have no labels to doubt"),
    "stream": ({"data.reader": "ray"}, "leave --reader ray out"),
    "teacher": ({"distillation.teacher": "minilm-l6"}, "--teacher may have learned the labels that are to be judged"),
}


@pytest.mark.parametrize(("changes", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings_without_a_meaning_are_refused(tiny_model, tmp_path, changes, message):
    config = override(config_of(tiny_model, "train.csv"), changes)
    with pytest.raises(ConfigError, match=message):
        find_training_issues(config, tmp_path / "out", tracker=MemoryTracker())


def test_one_label_is_refused(tiny_model, tmp_path, in_store, capsys):
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"film {i},a\n" for i in range(9)))
    assert main(["label-issues", "--model", str(tiny_model), "--train", "train.csv", "--out", "out"]) == 2
    assert "'a'" in capsys.readouterr().err


def test_other_settings_do_not_go_on(stopped_then_resumed, tiny_model):
    found, _, _ = stopped_then_resumed
    config = config_of(tiny_model, found.table.train, epochs=7)
    with pytest.raises(ValueError, match="epochs was 6, now 7; begin again with --overwrite"):
        find_training_issues(config, found.folder, if_exists="resume", tracker=MemoryTracker())


def test_a_damaged_fold_is_told(tmp_path):
    (tmp_path / "fold-0.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is damaged"):
        fold_run.FoldScores.read(tmp_path / "fold-0.npz")
