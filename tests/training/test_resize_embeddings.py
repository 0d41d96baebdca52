"""Tokens that a user added to the tokenizer: refused before the first step, or trained in rows of their own."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from bertjax import FineTuneConfig
from bertjax.data.table import Table
from bertjax.errors import CheckpointError, Interrupted
from bertjax.inference.predictor import Predictor
from bertjax.pretrained.files import read_tensors
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.settings.options import Optimizer
from tests.support.models import TINY

WORDS = "bert.embeddings.word_embeddings.weight"
ADDED = [f"[E{i}]" for i in range(TINY.vocab_size - 30 + 2)]  # two more than the table has rows


@pytest.fixture
def config(tiny_model, reviews, tmp_path) -> FineTuneConfig:
    """A run on reviews in which every film is an added token."""
    folder = shutil.copytree(tiny_model, tmp_path / "added")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "extra_special_tokens": ADDED}))
    table = tmp_path / "reviews.csv"
    table.write_text(reviews.read_text().replace("film", ADDED[-1]))
    data = Table(str(table), text=("title", "body"), label="stars")
    return FineTuneConfig(
        str(folder), data, epochs=2, batch_size=8, max_length=24, optimizer=Optimizer(learning_rate=1e-2)
    )


def test_without_the_flag_nothing_is_read_or_written(config, tmp_path):
    message = (
        rf"{config.model}: the tokenizer has 66 entries, the network embeds 64: it has no row for \[E34\], \[E35\]; "
    )
    with pytest.raises(CheckpointError, match=message + "--resize-embeddings adds the rows"):
        finetune(replace(config, data=Table("none.csv")), tmp_path / "run", tracker=MemoryTracker())
    assert not (tmp_path / "run").exists()


def test_with_the_flag_the_run_and_its_model_have_the_rows(config, tmp_path, caplog):
    """Stopped and resumed; the model is read by transformers and by bertjax, to the same numbers."""
    from transformers import AutoTokenizer, BertForSequenceClassification

    caplog.set_level("INFO", "bertjax")
    config, out = replace(config, resize_embeddings=True), tmp_path / "run"
    with pytest.raises(Interrupted):
        finetune(config, out, tracker=MemoryTracker(), should_stop=lambda: True)
    assert "the word embeddings have 2 new rows, near the mean of the 64 others: [E34], [E35]" in caplog.messages
    result = finetune(config, out, if_exists="resume", tracker=MemoryTracker())

    before, after = (read_tensors(folder)[WORDS] for folder in (tmp_path / "added", result.model_dir))
    assert after.shape == (66, TINY.hidden_size)
    mean = before.mean(0)
    assert np.abs(after[65] - mean).max() > 1e-2  # in the texts, so it was learned
    assert np.abs(after[64] - mean).max() < 1e-2  # in none
    theirs, info = BertForSequenceClassification.from_pretrained(result.model_dir, output_loading_info=True)
    assert theirs.config.vocab_size == 66
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    text = "the [E35] was good"
    inputs = AutoTokenizer.from_pretrained(result.model_dir)(text, return_tensors="pt")
    assert 65 in inputs["input_ids"]
    with torch.no_grad():
        reference = theirs.eval()(**inputs).logits.softmax(-1)[0].numpy()
    answer = Predictor.load(result.model_dir)([text])[0]
    np.testing.assert_allclose(list(answer["probabilities"].values()), reference, atol=1e-5)
