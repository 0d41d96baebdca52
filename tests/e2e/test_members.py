"""Every member from a hub's folder to answers: fine-tuned, loaded, exported, and read by transformers."""

import json
import shutil
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
import transformers

from bertjax import FineTuneConfig, Predictor, Table, finetune
from bertjax.cli import export
from bertjax.cli.main import main
from bertjax.config import BertConfig, read_config_json
from bertjax.errors import ConfigError
from bertjax.serving.app import build_app
from bertjax.serving.limits import ServiceSettings
from bertjax.serving.model_slot import read_model
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


@pytest.fixture(scope="module")
def discriminator(tmp_path_factory):
    """A folder of ELECTRA as the hub has it, with the head that says whether a token was replaced."""
    return their_folder("electra", tmp_path_factory.mktemp("electra"), "replaced_tokens")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("predict --data t.csv --out o.csv", "a model of task 'replaced_tokens' does not predict texts; those of "),
        ("predict --data t.csv --out o.csv --embeddings", "'replaced_tokens' reads tokens, and makes no vector of a"),
        ("predict --data t.csv --out o.csv --embeddings --pooling mean", "reads tokens, and makes no vector of a text"),
        ("evaluate --data t.csv --out o", "task 'replaced_tokens' cannot be fine-tuned or judged; bertjax has class"),
        ("explain --text good", "a model of task 'replaced_tokens' does not predict texts; those of classification"),
        ("finetune --task replaced_tokens --train t.csv --out o", "task 'replaced_tokens' cannot be fine-tuned or"),
        ("parity --task pretraining", "transformers has no ELECTRA with the head ForPreTraining; it has ElectraModel"),
    ],
)
def test_a_head_that_answers_nothing_in_words_is_refused_in_one_line(
    command, message, discriminator, tmp_path, reviews, capsys, monkeypatch
):
    """Where a model answers, is judged or is trained."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(reviews, "t.csv")
    name, *flags = command.split()
    assert main([name, "--model", str(discriminator), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv"}


def test_a_head_that_answers_nothing_in_words_is_not_served(discriminator):
    with pytest.raises(ConfigError, match="a model of task 'replaced_tokens' does not predict texts; those of"):
        read_model(str(discriminator))


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
