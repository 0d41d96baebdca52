"""The tokenizer of a folder: the one that transformers builds, held to its own files and to the network."""

import json
import shutil

import numpy as np
import pytest
from transformers import AutoTokenizer

from bertjax.config import BertConfig, read_config_json
from bertjax.data.encode.pretrained_tokenizer import check_tokenizer, load_tokenizer, num_entries
from bertjax.data.encode.token_checks import check_segments, unknown_share, warn_of_unknown
from bertjax.data.encode.tokenize import tokenize
from bertjax.errors import CheckpointError
from bertjax.model_folder.load_checkpoint import from_pretrained
from tests.support.models import WORDS

TEXT = "good film [NEW] was [X] great"
TOKEN = {"lstrip": False, "rstrip": False, "normalized": True, "single_word": False, "special": False}
SIZE = len(WORDS)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 438\n"


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model to change."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def update(path, **changes):
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


def as_vocabulary(folder, words=WORDS):
    """The same tokenizer in its older form, a list of word pieces."""
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")


def add_to_tokenizer_json(folder, *tokens):
    content = json.loads((folder / "tokenizer.json").read_text())
    added = [*content["added_tokens"], *({"id": i, "content": token, **TOKEN} for token, i in tokens)]
    update(folder / "tokenizer.json", added_tokens=added)


def with_config(**changes):
    return lambda folder: update(folder / "tokenizer_config.json", **changes)


def with_added_tokens_json(folder):
    as_vocabulary(folder)
    update(folder / "added_tokens.json", **{"[NEW]": SIZE, "[X]": SIZE + 1})


# Every way in which a token gets into a tokenizer beside its vocabulary -> how many it adds.
ADDED = {
    "added_tokens.json": (with_added_tokens_json, 2),
    "added_tokens_decoder": (with_config(added_tokens_decoder={str(SIZE): {"content": "[NEW]", **TOKEN}}), 1),
    "additional_special_tokens": (with_config(additional_special_tokens=["[NEW]", "[X]"]), 2),
    "extra_special_tokens": (with_config(extra_special_tokens=["[NEW]", "[X]"]), 2),
    "extra_special_tokens by name": (with_config(extra_special_tokens={"image_token": "[NEW]"}), 1),
    "tokenizer.json": (lambda folder: add_to_tokenizer_json(folder, ("[NEW]", SIZE), ("[X]", SIZE + 1)), 2),
    "special_tokens_map.json": (
        lambda folder: update(folder / "special_tokens_map.json", additional_special_tokens=["[X]"], mask_token="<m>"),
        2,
    ),
    "another mask": (with_config(mask_token="<mask>"), 1),
    "another pad": (with_config(pad_token="<pad>"), 1),
}
added = pytest.mark.parametrize(("change", "count"), ADDED.values(), ids=ADDED)


@added
def test_added_tokens_are_counted_as_transformers_counts_them(folder, change, count):
    change(folder)
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert num_entries(ours) == len(theirs) == 1 + max(theirs.get_vocab().values()) == SIZE + count
    assert ours(TEXT)["input_ids"] == theirs(TEXT)["input_ids"]


@added
def test_added_tokens_need_a_row_each(folder, change, count):
    """The same line from the tokenizer's check and from the weights; both name the flag that mends it."""
    change(folder)
    config = BertConfig.from_hugging_face(read_config_json(folder) | {"vocab_size": SIZE})
    line = f"the tokenizer has {SIZE + count} entries, the network embeds {SIZE}: it has no row for .*--resize-embed"
    with pytest.raises(CheckpointError, match=line):
        check_tokenizer(load_tokenizer(folder), folder, config)
    check_tokenizer(load_tokenizer(folder), folder, config, resize=True)
    update(folder / "config.json", vocab_size=SIZE)
    with pytest.raises(CheckpointError, match=line):
        from_pretrained(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: add_to_tokenizer_json(folder, ("[NEW]", 64)),
        with_config(added_tokens_decoder={"64": {"content": "[NEW]", **TOKEN}}),
        lambda folder: update(folder / "added_tokens.json", **{"[NEW]": 64}),
    ],
    ids=["tokenizer.json", "added_tokens_decoder", "added_tokens.json"],
)
def test_a_token_whose_id_transformers_changes(folder, change):
    """The network was trained with the one, and would be read with the other."""
    change(folder)
    assert AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("[NEW]") == SIZE
    with pytest.raises(CheckpointError, match=rf"the files give the token '\[NEW\]' the id 64, and .* gives it {SIZE}"):
        load_tokenizer(folder)


def test_two_tokens_of_one_id(folder):
    """A line that is twice in the vocabulary: transformers gives the next added token the id of the last line."""
    as_vocabulary(folder, [*WORDS, "film", "zzz"])
    with_config(extra_special_tokens=["[NEW]"])(folder)
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    assert vocabulary["zzz"] == vocabulary["[NEW]"]
    with pytest.raises(CheckpointError, match=r"two tokens of the tokenizer have one id; each line of vocab.txt must"):
        load_tokenizer(folder)


@pytest.mark.parametrize("ending", ["\n", "\r\n", " \n"], ids=["unix", "windows", "spaces"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"], ids=["cut", "whole", "blank"])
def test_lines_of_a_vocabulary(folder, ending, last):
    as_vocabulary(folder)
    (folder / "vocab.txt").write_bytes((ending.join(WORDS) + last).encode())
    assert load_tokenizer(folder)("good film")["input_ids"] == [2, 5, 7, 3]


def test_the_older_form_without_any_setting(folder):
    as_vocabulary(folder)
    (folder / "tokenizer_config.json").unlink()
    assert load_tokenizer(folder)(TEXT)["input_ids"] == AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"]


# A class of transformers -> what the one line says, of a folder that has word pieces.
OTHER_CLASSES = {
    "BertJapaneseTokenizer": "is written in Python, and bertjax needs a fast one, .*; split the texts into words",
    "BertTokenizerLegacy": "is written in Python, .*; if its vocab.txt is one of word pieces, set",
    "TapasTokenizer": "is written in Python",
    "CanineTokenizer": "is written in Python",
    "XLMTokenizer": "needs what is not installed .*sacremoses",
    "BertGenerationTokenizer": "needs what is not installed .*SentencePiece",
    "CTRLTokenizer": "has no tokenizer that can be read: CTRLTokenizer says .*; if its vocab.txt is one of word pieces",
    "NopeTokenizer": "has no tokenizer that can be read: NopeTokenizer says Couldn't instantiate",
    "RobertaTokenizer": "the RobertaTokenizer that transformers builds of them gives it None, .*; if its vocab",
    "AlbertTokenizer": "the AlbertTokenizer that transformers builds of them gives it None",
}  # fmt: skip


@pytest.mark.parametrize(("name", "message"), OTHER_CLASSES.items(), ids=OTHER_CLASSES)
def test_a_class_that_cannot_be_used(folder, name, message):
    as_vocabulary(folder)
    with_config(tokenizer_class=name)(folder)
    with pytest.raises(CheckpointError, match=message) as error:
        load_tokenizer(folder)
    assert "\n" not in str(error.value)


def test_japanese_without_its_libraries(folder):
    as_vocabulary(folder)
    with_config(tokenizer_class="BertJapaneseTokenizer", word_tokenizer_type="mecab")(folder)
    with pytest.raises(CheckpointError, match=r"needs what is not installed .*fugashi.*; split the texts into words"):
        load_tokenizer(folder)
    with_config(subword_tokenizer_type="character")(folder)
    with pytest.raises(CheckpointError, match=r"; split the texts into characters yourself, joined by spaces, and set"):
        load_tokenizer(folder)
    # Weights do without a tokenizer.
    model, _ = from_pretrained(folder)
    assert model.config.vocab_size == 64


@pytest.mark.parametrize(
    ("kind", "text"),
    [("wordpiece", "これ は 映画です が だ Film ペン 。 未知"), ("character", "映 画 で す が だ 。 ペ 未")],
    ids=["words", "characters"],
)
def test_the_advice_for_japanese_gives_the_ids_of_its_own_tokenizer(folder, kind, text):
    """Voiced sounds, ideographs and capitals stay as they are, as in the words of MeCab."""
    words = ["これ", "は", "映画", "が", "##です", "だ", "Film", "。", "ペ", "##ン", *"映画です"]
    as_vocabulary(folder, [*WORDS, *words])
    update(folder / "config.json", vocab_size=SIZE + len(words))
    with_config(tokenizer_class="BertJapaneseTokenizer", word_tokenizer_type="basic", do_lower_case=False)(folder)
    with_config(subword_tokenizer_type=kind)(folder)
    reference = AutoTokenizer.from_pretrained(folder)
    expected = reference(text)["input_ids"]
    with pytest.raises(CheckpointError) as error:
        load_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    settings = str(error.value).partition(" and set ")[2].partition(" in tokenizer_config.json")[0]
    with_config(**json.loads(f"{{{settings}}}"))(folder)
    assert load_tokenizer(folder)(text)["input_ids"] == expected
    assert expected.count(reference.unk_token_id) == 1


def test_the_advice_for_a_slow_tokenizer_gives_its_ids(folder):
    as_vocabulary(folder)
    with_config(tokenizer_class="BertTokenizerLegacy")(folder)
    expected = AutoTokenizer.from_pretrained(folder)("A Good film, was it? unheard")["input_ids"]
    with_config(tokenizer_class="BertTokenizer")(folder)
    assert load_tokenizer(folder)("A Good film, was it? unheard")["input_ids"] == expected


def test_a_byte_level_tokenizer_is_not_read_as_word_pieces(folder):
    """transformers takes its vocabulary for one of word pieces, because nothing names a class."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {
        token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "g", "o", "d", "oo"])
    }
    tokenizer = Tokenizer(models.BPE(vocabulary, [("o", "o")], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    expected = tokenizer.encode("good").ids
    assert AutoTokenizer.from_pretrained(folder)("good")["input_ids"] != expected
    with pytest.raises(CheckpointError, match=r"holds a BPE tokenizer, which BertTokenizer reads as WordPiece; set "):
        load_tokenizer(folder)
    with_config(tokenizer_class="PreTrainedTokenizerFast")(folder)
    tokenizer = load_tokenizer(folder)
    assert tokenizer("good")["input_ids"] == expected
    check_tokenizer(tokenizer, folder, BertConfig(vocab_size=64))


def test_a_unigram_tokenizer_with_other_special_tokens_is_read(folder):
    """That of multilingual MiniLM and E5, which are BERTs: `<s>` stands first, and the padding has another id."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = [
        ("<s>", 0.0),
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("▁good", -1.0),
        ("▁film", -2.0),
        ("s", -3.0),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names}))
    loaded = load_tokenizer(folder)
    assert loaded("good films")["input_ids"] == tokenizer.encode("good films").ids == [0, 4, 5, 6, 2]
    check_tokenizer(loaded, folder, BertConfig.from_hugging_face(read_config_json(folder)))


def test_a_tokenizer_that_adds_no_special_tokens(folder):
    update(folder / "tokenizer.json", post_processor=None)
    with_config(tokenizer_class="PreTrainedTokenizerFast")(folder)
    with pytest.raises(
        CheckpointError, match=r"the tokenizer reads the text 'a' as a, and BERT reads \[CLS\], the text"
    ):
        check_tokenizer(load_tokenizer(folder), folder, BertConfig(vocab_size=64))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"do_lower_case": True}, []),
        ({"do_lower_case": False}, ["lowercase is False, not True"]),
        ({"do_lower_case": False, "strip_accents": True}, ["strip_accents is True, not None; lowercase is False, not"]),
    ],
    ids=["agree", "case", "accents too"],
)
def test_settings_that_contradict_tokenizer_json_are_told(folder, caplog, settings, told):
    """transformers follows `tokenizer_config.json`, which is often forgotten when a tokenizer is copied."""
    with_config(**settings)(folder)
    tokenizer = load_tokenizer(folder)
    assert tokenizer("GOOD")["input_ids"] == AutoTokenizer.from_pretrained(folder)("GOOD")["input_ids"]
    check_tokenizer(tokenizer, folder, BertConfig(vocab_size=64))
    assert len(caplog.messages) == len(told)
    assert all(part in message for part, message in zip(told, caplog.messages, strict=True))


def test_another_splitting_into_words_is_told(folder, caplog):
    """transformers builds a BertTokenizer of the vocabulary alone."""
    update(folder / "tokenizer.json", pre_tokenizer={"type": "WhitespaceSplit"})
    check_tokenizer(load_tokenizer(folder), folder, BertConfig(vocab_size=64))
    assert ["it is a BertPreTokenizer, not a WhitespaceSplit" in message for message in caplog.messages] == [True]


def test_a_vocabulary_that_is_not_used_is_told(folder, caplog):
    """Words of a field, written over the [unused] ones of vocab.txt, where transformers reads tokenizer.json."""
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    check_tokenizer(load_tokenizer(folder), folder, BertConfig(vocab_size=64))
    assert caplog.messages == []
    (folder / "vocab.txt").write_text("\n".join(WORDS).replace("song", "opera") + "\n")
    assert AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("opera") == WORDS.index("[UNK]")
    check_tokenizer(load_tokenizer(folder), folder, BertConfig(vocab_size=64))
    assert caplog.messages == [f"{folder}: vocab.txt is not used, and has other tokens than tokenizer.json"]


def test_code_in_the_folder_is_not_run_and_told(folder, caplog):
    with_config(auto_map={"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]})(folder)
    check_tokenizer(load_tokenizer(folder), folder, BertConfig(vocab_size=64))
    assert caplog.messages == [
        f"{folder}: the tokenizer's own code (auto_map) is not run; BertTokenizer reads the texts"
    ]


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (POINTER, "is a pointer of Git LFS, not the file itself; fetch it with: git lfs pull"),
        ("", "is empty"),
        ("<!doctype html><title>Sign in</title>", "is a web page"),
    ],
    ids=["pointer", "empty", "page"],
)
def test_a_file_that_is_another_says_what_it_is(folder, name, content, fault):
    if name == "vocab.txt":
        as_vocabulary(folder)
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError) as error:
        load_tokenizer(folder)
    assert str(error.value).startswith(f"{folder / name} {fault}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{}", "tokenizer.json is no tokenizer: it has no model with a vocab"),
        ("tokenizer.json", '{"model": {"type": "WordPiece"}}', "tokenizer.json is no tokenizer: it has no model with"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json is no file of a tokenizer: it must hold a JSON object"),
        ("tokenizer_config.json", "{", "tokenizer_config.json is no file of a tokenizer: Expecting"),
        ("added_tokens.json", "[1]", "added_tokens.json is no file of a tokenizer"),
    ],
)
def test_a_broken_file(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        (["good film", "bad book"], 0),
        (["good фильм", "bad книга"], 0.5),
        (["хороший фильм", "плохая книга и песня"], 1),
        (["good [UNK] film", ""], 1 / 3),
    ],
    ids=["none", "half", "all", "written"],
)
def test_the_share_of_unknown_tokens(tiny_model, caplog, texts, share):
    """Of the tokens of texts: [CLS] and [SEP] do not count."""
    tokenizer = load_tokenizer(tiny_model)
    examples = tokenize(tokenizer, texts, None, np.zeros(len(texts), np.int32), 16)
    assert unknown_share(tokenizer, examples) == pytest.approx(share)
    warn_of_unknown(tokenizer, examples, "films.csv")
    told = f"films.csv: {100 * share:.0f}% of the tokens are [UNK], which the model's vocabulary does not have; choose"
    assert [message.startswith(told) for message in caplog.messages] == [True] * (share > 0)


def test_the_share_of_many_examples_is_that_of_a_sample(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    examples = tokenize(tokenizer, ["good", "xxx", "bad"] * 8000, None, np.zeros(24_000, np.int32), 16)
    assert unknown_share(tokenizer, examples) == pytest.approx(1 / 3, abs=0.02)


def test_pairs_for_a_network_of_one_segment(tiny_model):
    tokenizer, config = load_tokenizer(tiny_model), BertConfig(type_vocab_size=1)
    single = tokenize(tokenizer, ["good"], None, np.zeros(1, np.int32), 16)
    check_segments(single, config, "t.csv")
    pair = tokenize(tokenizer, ["good"], ["bad"], np.zeros(1, np.int32), 16)
    with pytest.raises(CheckpointError, match=r"t.csv has pairs of texts, which the tokenizer gives 2 segment types"):
        check_segments(pair, config, "t.csv")
