"""`bertjax pretrain`, and fine-tuning of its model."""

import json

import numpy as np
import pytest

from bertjax.cli.main import main
from bertjax.model_folder.load_checkpoint import from_pretrained


@pytest.fixture
def corpus(in_store, reviews):
    """The reviews as lines of text."""
    lines = [line.replace('"', "").rsplit(",", 1)[0] for line in reviews.read_text().splitlines()[1:]]
    (in_store / "corpus.txt").write_text("\n".join(lines) + "\n")
    return "corpus.txt"


def test_fine_tuning_starts_from_the_pretrained_model(in_store, tiny_model, corpus, reviews, capsys):
    small = ["--max-length", "48", "--batch-size", "8", "--epochs", "1"]
    assert main(["pretrain", "--model", str(tiny_model), "--train", corpus, "--out", "pretrained", *small]) == 0
    metrics = json.loads((in_store / "pretrained" / "metrics.json").read_text())
    assert metrics["test/perplexity"] == pytest.approx(np.exp(metrics["test/loss"]))
    settings = json.loads((in_store / "pretrained" / "config.json").read_text())
    assert (settings["task"], settings["masking.whole_words"]) == ("masked_lm", True)
    assert "perplexity" in capsys.readouterr().out

    model = in_store / "pretrained" / "model"
    pretrained, params = from_pretrained(model)
    assert pretrained.task == "masked_lm"
    _, before = from_pretrained(tiny_model)
    _, start = from_pretrained(model, task="classification", num_labels=2, new_head=True)
    encoder = [module for module in start if module.startswith("bert/")]
    assert len(encoder) > 10
    for module in encoder:
        for name, value in start[module].items():
            np.testing.assert_array_equal(value, params[module][name])
    words = "bert/embeddings/word"
    assert not np.array_equal(start[words]["embeddings"], before[words]["embeddings"])

    table = ["--train", str(reviews), "--text-columns", "title", "body", "--label-column", "stars"]
    assert main(["finetune", "--model", str(model), *table, "--out", "tuned", *small]) == 0
    assert (in_store / "tuned" / "model" / "config.json").is_file()


def test_missing_train_flag(capsys):
    assert main(["pretrain"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Missing from bertjax pretrain: --train" in line
