"""Every member from a hub's folder to answers: fine-tuned, loaded, exported, and read by transformers."""

import json
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
import transformers

from bertjax import FineTuneConfig, Predictor, Table, finetune
from bertjax.cli import export
from bertjax.config import BertConfig, read_config_json
from bertjax.serving.app import build_app
from bertjax.serving.limits import ServiceSettings
from bertjax.training.settings.options import Optimizer
from tests.support.asgi_thread import running
from tests.support.members import their_folder
from tests.support.tracking import MemoryTracker

TEXTS = ["the film was good", "a very dull book"]
PAIRS = [("the film", "good and great ."), ("a very book", "bad and dull .")]


@pytest.mark.parametrize("name", ["roberta", "distilbert", "electra", "modernbert", "mpnet"])
def test_finetune_predict_export(name, reviews, tmp_path):
    """transformers gives the probabilities of bertjax, with its own tokenizer, from the exported folder."""
    hub = their_folder(name, tmp_path / "hub")
    table = Table(str(reviews), text=("title", "body"), label="stars")
    config = FineTuneConfig(
        str(hub), table, epochs=1, max_length=24, batch_size=16, optimizer=Optimizer(learning_rate=3e-3)
    )
    result = finetune(config, tmp_path / "run", tracker=MemoryTracker())
    ours = Predictor.load(result.model_dir)(PAIRS)

    assert export.main(["--model", str(result.model_dir), "--out", str(tmp_path / "exported")]) == 0
    assert BertConfig.from_hugging_face(read_config_json(tmp_path / "exported")).model_type == name
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "exported").eval()
    inputs = tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt")
    if name in ("distilbert", "modernbert", "mpnet"):
        inputs.pop("token_type_ids", None)  # their networks take none
    with torch.no_grad():
        probabilities = theirs(**inputs).logits.softmax(-1).max(-1).values.numpy()
    assert np.abs(probabilities - [answer["probability"] for answer in ours]).max() <= 1e-5


@pytest.mark.parametrize("name", ["roberta", "modernbert"])
def test_a_served_member_answers_as_in_python(name, tmp_path):
    """A classifier as the hub has it."""
    folder = str(their_folder(name, tmp_path / "hub", "classification"))
    with running(build_app({"default": folder}, ServiceSettings())) as address:
        body = json.dumps({"texts": TEXTS}).encode()
        with urlopen(Request(f"{address}/predict", body, {"Content-Type": "application/json"})) as reply:
            answers = json.load(reply)["predictions"]
    expected = Predictor.load(folder)(TEXTS)
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in expected]
    for answer, truth in zip(answers, expected, strict=True):
        assert answer["probability"] == pytest.approx(truth["probability"], abs=1e-6)
