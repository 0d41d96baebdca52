"""The table of members: their `config.json`, their weights and their tokenizers, against transformers' own."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import torch
import transformers

from bertjax.config import BertConfig, Execution
from bertjax.data.encode.pretrained_tokenizer import UnsupportedTokenizer, check_tokenizer, load_tokenizer
from bertjax.errors import CheckpointError, ConfigError
from bertjax.members import MEMBERS
from bertjax.model.attention.self_attention import chosen_attention
from bertjax.model_folder.load_checkpoint import from_pretrained
from bertjax.model_folder.save_pretrained import save_pretrained
from bertjax.model_folder.stored_settings import stored_task
from bertjax.tasks import TASKS, make_model
from bertjax.tasks.masked_words import MaskedText
from tests.support.members import save_tokenizer, their_config, their_model

OTHERS = [name for name in MEMBERS if name != "bert"]
HEADS = {name: [task for task in TASKS if member.has(TASKS[task].architecture)] for name, member in MEMBERS.items()}
# XLM-R and CamemBERT are RoBERTa under other names.
PAIRS = [(name, task) for name in OTHERS for task in HEADS[name] if name not in ("xlm-roberta", "camembert")]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_config_goes_in_and_out(name):
    """Defaults are transformers', and what is written reads the same there and here."""
    theirs = getattr(transformers, f"{MEMBERS[name].classes}Config")
    assert BertConfig.from_hugging_face({"model_type": name}) == replace(
        BertConfig.from_hugging_face(theirs().to_dict()), special_tokens=()
    )
    made = their_config(name)
    ours = BertConfig.from_hugging_face(made.to_dict())
    assert BertConfig.from_hugging_face(ours.to_hugging_face()) == ours
    again, lost = theirs(**ours.to_hugging_face()).to_dict(), {"initializer_cutoff_factor"}
    assert {key: value for key, value in made.to_dict().items() if again.get(key) != value and key not in lost} == {}


def test_old_hub_configs_of_modernbert_say_their_layers_in_other_keys():
    old = {
        "model_type": "modernbert", "num_hidden_layers": 4, "global_attn_every_n_layers": 2, "local_attention": 64,
        "global_rope_theta": 80000.0, "local_rope_theta": None,
    }  # fmt: skip
    rotary = BertConfig.from_hugging_face(old).rotary
    assert rotary is not None
    assert (rotary.base, rotary.local_base, rotary.window) == (80000.0, 10000.0, 32)
    assert rotary.local == (False, True, False, True)


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_load_export_load_is_bitwise_the_same_and_transformers_misses_nothing(name, task, tmp_path):
    module = their_model(name, task, sigma=0.1)
    module.save_pretrained(tmp_path / "theirs")
    model, params = from_pretrained(tmp_path / "theirs", task)
    save_pretrained(tmp_path / "ours", model, params)
    stored = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert stored["model_type"] == name
    assert stored["architectures"] == [type(module).__name__]
    again, loaded = from_pretrained(tmp_path / "ours")
    assert (again.task, again.config) == (task, model.config)
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded, params))

    reloaded, info = type(module).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for key, tensor in reloaded.state_dict().items():
        if task == "sentence_embedding" and key.startswith("pooler."):
            assert not tensor.any()  # is not read, and says so
        else:
            assert tensor.equal(module.state_dict()[key]), key


@pytest.mark.parametrize("name", ["roberta", "distilbert", "electra", "modernbert", "mpnet"])
def test_every_mismatch_of_the_weights_is_in_one_error(name, tmp_path):
    module = their_model(name, "masked_lm", sigma=0.1)
    tensors = module.state_dict()
    lost = next(key for key in tensors if key.startswith(MEMBERS[name].weights.prefix) and ".1." in key)
    module.save_pretrained(tmp_path, state_dict={key: value for key, value in tensors.items() if key != lost}
                           | {"adapter.weight": tensors[lost].clone()})  # fmt: skip
    with pytest.raises(CheckpointError) as caught:
        from_pretrained(tmp_path, "masked_lm")
    message = str(caught.value)
    assert f"{lost} is missing" in message
    assert "adapter.weight is not expected" in message
    assert message.count(lost) == 1
    assert "\n" not in message


@pytest.mark.parametrize("says", ["bert", "roberta", "modernbert"])
@pytest.mark.parametrize("of", ["bert", "roberta", "distilbert", "electra", "modernbert", "mpnet"])
def test_weights_of_another_model_type_are_told(says, of, tmp_path):
    if says == of:
        return
    their_model(of, "encoder" if of == "distilbert" else "masked_lm", sigma=0.1).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(their_config(says).to_dict()))
    with pytest.raises(CheckpointError, match=f"says model_type '{says}', and the weights have the names of a '{of}'"):
        from_pretrained(tmp_path, num_labels=2, task="classification")


@pytest.mark.parametrize("name", MEMBERS)
def test_a_checkpoint_of_pretraining_takes_a_new_classifier(name, tmp_path):
    """What a user starts from: the pre-training head is left out, the classifier is new, the encoder is theirs."""
    module = their_model(name, "masked_lm", sigma=0.1)
    module.save_pretrained(tmp_path)
    model, params = from_pretrained(tmp_path, "classification", num_labels=2)
    assert model.pooling == "pooler"
    assert params["classifier"]["w"].shape == (32, 2)
    words = module.get_input_embeddings().weight.detach().numpy()
    assert np.array_equal(params["bert/embeddings/word"]["embeddings"], words)


def test_the_discriminator_of_electra_is_fine_tuned_without_its_own_head(tmp_path):
    """A folder as the hub has it, whose class has the name of another head of BERT."""
    module = their_model("electra", "replaced_tokens", sigma=0.1)
    module.save_pretrained(tmp_path)
    assert stored_task(json.loads((tmp_path / "config.json").read_text())) == "replaced_tokens"
    model, params = from_pretrained(tmp_path)
    head = {"replaced_tokens/transform", "replaced_tokens/prediction"}
    assert {name for name in params if not name.startswith("bert/")} == head
    assert model.labels == ()
    _, encoder = from_pretrained(tmp_path, "encoder")
    _, learned = from_pretrained(tmp_path, "classification", num_labels=2)
    assert set(params) - set(encoder) == head
    assert set(learned) - set(encoder) == {"pooler", "classifier"}
    for other in (learned, params):
        assert all(np.array_equal(other[name][leaf], encoder[name][leaf]) for name in encoder for leaf in encoder[name])

    spoilt = module.state_dict() | {"discriminator.bias": torch.zeros(3)}
    module.save_pretrained(tmp_path, state_dict=spoilt)
    for task in ("classification", "replaced_tokens"):
        with pytest.raises(CheckpointError, match="discriminator.bias is not expected"):
            from_pretrained(tmp_path, task, new_head=True)


def test_a_discriminator_without_its_head_is_refused(tmp_path):
    """The generator, and a head that has lost its last layer."""
    their_model("electra", "masked_lm", sigma=0.1).save_pretrained(tmp_path / "generator")
    with pytest.raises(CheckpointError, match=r"dense_prediction.bias is missing.*s.dense.weight is missing"):
        from_pretrained(tmp_path / "generator", "replaced_tokens")
    module = their_model("electra", "replaced_tokens", sigma=0.1)
    kept = {name: tensor for name, tensor in module.state_dict().items() if "dense_prediction.weight" not in name}
    module.save_pretrained(tmp_path / "lost", state_dict=kept)
    with pytest.raises(CheckpointError, match="discriminator_predictions.dense_prediction.weight is missing"):
        from_pretrained(tmp_path / "lost")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_scaling has rope_type 'yarn'"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear"}}}, "full_attention has rope_type 'linear'"),
        ({"rope_parameters": {"full_attention": {"factor": 4.0}}}, "full_attention has 'factor', which is not"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters"),
        ({"layer_types": ["full_attention"]}, "layer_types must say full_attention or sliding_attention for each"),
        ({"norm_bias": True}, "norm_bias True is not supported; only False is"),
        ({"classifier_activation": "relu"}, "classifier_activation 'relu' is not supported"),
        ({"model_type": "mpnet", "relative_attention_num_buckets": 16}, "attention_num_buckets 16 is not supported"),
        ({"model_type": "electra", "summary_type": "mean"}, "summary_type 'mean' is not supported; only 'first' is"),
        ({"model_type": "roberta", "max_position_embeddings": 2}, "leaves no position for a text"),
        ({"model_type": "xlnet"}, "model_type 'xlnet' is not supported; bertjax reads model_type 'bert' .*'roberta'"),
    ],
)  # fmt: skip
def test_a_config_that_the_network_cannot_compute(change, message):
    with pytest.raises(ConfigError, match=message) as caught:
        BertConfig.from_hugging_face({"model_type": "modernbert"} | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("attention", ["pallas", "cudnn"])
def test_kernels_without_windows_are_refused_by_name_and_not_chosen(attention, monkeypatch):
    config = BertConfig.from_hugging_face(their_config("modernbert", hidden_size=128).to_dict())
    with pytest.raises(ConfigError, match=f"attention '{attention}' has no layers that look at near tokens alone"):
        replace(config, execution=Execution(attention=attention))
    monkeypatch.setattr("bertjax.model.attention.self_attention.on_gpu", lambda: True)
    assert chosen_attention(replace(config, execution=Execution(attention="auto"))) == "xla"


@pytest.mark.parametrize("attention", ["pallas", "cudnn"])
def test_kernels_without_a_bias_for_distances_are_refused(attention):
    with pytest.raises(ConfigError, match=f"attention '{attention}' has no bias for the distance of two tokens"):
        replace(BertConfig.from_hugging_face({"model_type": "mpnet"}), execution=Execution(attention=attention))


def test_layers_that_differ_cannot_be_stacked():
    config = BertConfig.from_hugging_face({"model_type": "modernbert"})
    with pytest.raises(ConfigError, match="those of a modernbert differ; use 'unrolled'"):
        replace(config, execution=Execution(layers="stacked"))


@pytest.mark.parametrize(
    ("name", "task", "pooling", "message"),
    [
        ("roberta", "next_sentence", None, "transformers has no RoBERTa with the head ForNextSentencePrediction; it "),
        ("roberta", "replaced_tokens", None, "no RoBERTa with the head ForReplacedTokens; it has RobertaModel, Rob"),
        ("bert", "replaced_tokens", None, "no BERT with the head ForReplacedTokens; .*, BertForPreTraining$"),
        ("electra", "pretraining", None, r"no ELECTRA .* ForPreTraining; .*, ElectraForPreTraining \(ForReplacedTok"),
        ("distilbert", "encoder", "pooler", "this encoder does not have; choose cls or mean"),
    ],
)
def test_a_head_that_a_member_lacks(name, task, pooling, message):
    with pytest.raises(ConfigError, match=message):
        make_model(BertConfig.from_hugging_face({"model_type": name}), task, pooling=pooling)


@pytest.mark.parametrize("name", OTHERS)
def test_the_tokenizer_is_the_one_that_transformers_builds(name, tmp_path):
    """Byte-level BPE, unigram pieces and word pieces, with the member's special tokens around a text and a pair."""
    their_config(name).save_pretrained(tmp_path)
    save_tokenizer(name, tmp_path)
    ours, theirs = load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    check_tokenizer(ours, tmp_path, BertConfig.from_hugging_face(their_config(name).to_dict()))
    for texts in (("the film was good",), ("what a book", "so , the plot was dull ?")):
        assert ours(*texts)["input_ids"] == theirs(*texts)["input_ids"]
    assert ours.mask_token_id is not None


def test_byte_pairs_in_two_files_are_read(tmp_path):
    """The files of RoBERTa's repositories from before there was a tokenizer.json."""
    their_config("roberta").save_pretrained(tmp_path)
    save_tokenizer("roberta", tmp_path)
    whole = load_tokenizer(tmp_path)("the film was good")["input_ids"]
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    for path in tmp_path.glob("tokenizer*.json"):
        path.unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]) + "\n")
    assert load_tokenizer(tmp_path)("the film was good")["input_ids"] == whole


def test_the_tokenizer_of_bertweet_is_written_in_python(tmp_path):
    """A RoBERTa by its model_type, whose tokenizer is its own."""
    their_config("roberta").save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertweetTokenizer"}')
    (tmp_path / "vocab.txt").write_text("the 1\nfilm 1\n")
    (tmp_path / "bpe.codes").write_text("t h 1\n")
    with pytest.raises((UnsupportedTokenizer, CheckpointError), match="BertweetTokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "electra"])
def test_words_for_masks_have_no_marks_of_the_tokenizer(name, tmp_path):
    """The filled text is what the tokenizer itself makes of the text's tokens with a word in the place of the mask."""
    their_config(name).save_pretrained(tmp_path)
    save_tokenizer(name, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    text, vocabulary = f"the {tokenizer.mask_token} was good", tokenizer.get_vocab()
    start, end = text.index(tokenizer.mask_token), text.index(" was")
    masked = MaskedText(text, [(start, end)], np.array([1]), tokenizer)
    begins = next(i for token, i in vocabulary.items() if token in ("Ġfilm", "▁w", "film"))
    inside = next(i for token, i in vocabulary.items() if token in ("oo", "##s"))
    scores = np.array([[0.0] * 4, [-0.5, -1.0, begins, inside]])
    (found,) = masked.words(scores)
    word, piece = found[0]
    assert word in ("film", "w")
    assert piece in ("##oo", "##s")
    assert masked.filled([word]) == f"the {word} was good"
    assert masked.filled([piece]) == f"the{piece.removeprefix('##')} was good"
