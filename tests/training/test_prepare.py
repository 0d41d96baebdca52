"""What a run starts from: settings that change the training examples reach its batches, and only those."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertjax.config import read_config_json
from bertjax.data.split.labelled_table import preprocessing_of
from bertjax.data.table import Table
from bertjax.errors import CheckpointError, DataError
from bertjax.model_folder.stored_settings import stored_preprocessing
from bertjax.tracking.tracker import MemoryTracker
from bertjax.training.run.finetuning import finetune
from bertjax.training.run.prepare import prepare
from bertjax.training.settings.finetune_config import FineTuneConfig
from bertjax.training.settings.options import Imbalance


@pytest.fixture
def config(tiny_model, tmp_path) -> FineTuneConfig:
    rows = [f"good film {i},yes" for i in range(18)] + [f"bad book {i},no" for i in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    table = Table(str(tmp_path / "t.csv"), test_size=0.25)
    return FineTuneConfig(model=str(tiny_model), data=table, max_length=48, batch_size=6, epochs=1)


def labels_and_weights(prepared):
    pairs = []
    for packed_batch in prepared.train.batches():
        filled = packed_batch.example_ids >= 0
        assert not packed_batch.batch.example_weights[~filled].any()
        pairs += zip(
            packed_batch.batch.labels[filled].tolist(), packed_batch.batch.example_weights[filled].tolist(), strict=True
        )
    return sorted(pairs)


def test_class_weights_reach_the_batches(config):
    prepared = prepare(replace(config, imbalance=Imbalance(class_weights=("no=3",))), 1)
    assert labels_and_weights(prepared) == [(0, 3.0)] * 5 + [(1, 1.0)] * 13
    assert prepared.test.weights is None
    balanced = prepare(replace(config, imbalance=Imbalance(class_weights=("balanced",))), 1)
    weights = dict(labels_and_weights(balanced))
    assert weights == {0: pytest.approx(18 / 10), 1: pytest.approx(18 / 26)}


def test_row_lengths_suit_the_devices(config):
    on_cpu, on_tpu = (prepare(config, 1, platform=platform).train.plan for platform in ("cpu", "tpu"))
    assert on_cpu.layouts[0].row_length % 16 != 0
    assert on_tpu.layouts[0].row_length % 16 == 0


def test_oversampling_repeats_training_rows_alone(config):
    plain, more = (prepare(replace(config, imbalance=Imbalance(oversample=yes)), 1) for yes in (False, True))
    assert np.bincount(plain.train.examples.labels).tolist() == [5, 13]
    assert np.bincount(more.train.examples.labels).tolist() == [13, 13]
    assert len(labels_and_weights(more)) == 26
    np.testing.assert_array_equal(plain.test.token_ids, more.test.token_ids)


def test_preprocessing_reaches_the_tokens_and_goes_with_the_model(config, tmp_path):
    table = replace(config.data, steps=("strip_urls", "lower", "stop_words"), stop_words=("film",))
    plain, cleaned = (prepare(replace(config, data=data), 1) for data in (config.data, table))
    assert cleaned.train.examples.lengths.sum() < plain.train.examples.lengths.sum()
    result = finetune(replace(config, data=table), tmp_path / "run", tracker=MemoryTracker())
    saved = stored_preprocessing(read_config_json(result.model_dir))
    assert saved("A film on http://a.b") == "a on "
    assert saved == preprocessing_of(table)


def test_rows_that_preprocessing_empties_are_counted(config, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(path.read_text() + "http://a.b,yes\nhttps://c.d,no\n")
    data = replace(config.data, steps=("strip_urls",))
    prepared = prepare(replace(config, data=data), 1)
    assert prepared.data_report.emptied == 2
    assert prepared.train.plan.num_examples + len(prepared.test.labels) == 24


@pytest.fixture
def model_copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_pairs_for_a_network_of_one_segment(config, model_copy):
    """Compiled, an index that the network does not have is NaN: a run would diverge, and not say why."""
    change_json(model_copy / "config.json", type_vocab_size=1)
    data = replace(config.data, text=("text",), text_pair=("label",))
    with pytest.raises(CheckpointError, match=r"t.csv has pairs of texts, .* the network has type_vocab_size 1"):
        prepare(replace(config, model=str(model_copy), data=data), 1)


@pytest.mark.parametrize(("length", "told"), [(16, False), (24, True)])
def test_texts_longer_than_the_tokenizer_was_made_for(config, model_copy, caplog, length, told):
    change_json(model_copy / "tokenizer_config.json", model_max_length=16)
    prepare(replace(config, model=str(model_copy), max_length=length), 1)
    line = f"--max-length 24 is above 16, the tokenizer's model_max_length: {model_copy} may not have learned further"
    assert any(message.startswith(line) for message in caplog.messages) == told


def test_the_wrong_vocabulary_is_told_for_each_side(config, caplog):
    rows = [f"фильм {word},{label}" for word, label in (("good", "yes"), ("bad", "no")) for _ in range(9)]
    path = Path(config.data.train).with_name("ru.csv")
    path.write_text("\n".join(["text,label", *(f"номер {i} {row}" for i, row in enumerate(rows))]))
    prepare(replace(config, data=replace(config.data, train=str(path))), 1)
    told = [f"{path} ({side} rows): 75% of the tokens are [UNK], which the model's" for side in ("training", "test")]
    assert [line for line in told if any(message.startswith(line) for message in caplog.messages)] == told


def test_a_side_that_would_be_empty_is_refused(tiny_model, tmp_path):
    """The only row to hold out has the only example of a label: without it, nothing would be left to judge."""
    path = tmp_path / "t.jsonl"
    rows = [{"text": f"film {label}", "labels": [label]} for label in "abc"]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="each row that the split would hold out for test has the only example"):
        prepare(FineTuneConfig(str(tiny_model), Table(str(path)), task="multi_label", max_length=16), 1)
