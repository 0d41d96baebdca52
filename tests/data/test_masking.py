"""Words are hidden as BERT's paper has it, other ones in each epoch, the same ones each time an epoch is asked for."""

from dataclasses import replace

import numpy as np
import pytest

from bertjax.batch import UNLABELLED
from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.table import Masking, Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import ConfigError, DataError
from bertjax.tasks import find_format
from tests.support.tables import rows_of, splits_of

TEXTS = ["the films was very good and great , the songs was dull", "a book", "what a dull plot"] * 20


@pytest.fixture(scope="module")
def encode(tiny_model):
    tokenizer = load_tokenizer(tiny_model)

    def encode(texts=TEXTS, max_length=32, seed=0, **masking):
        encoding = Encoding(tokenizer, (), max_length, Table(), Masking(**masking), seed)
        return find_format("masked_lm").encode(rows_of(list(texts), None, [None] * len(texts)), "t", encoding)

    return encode


def hidden(examples, epoch):
    """The token ids and labels of all examples in an epoch."""
    ids, labels = zip(*(examples.tokens_of(i, epoch) for i in range(examples.num_examples)), strict=True)
    return np.concatenate(ids), np.concatenate(labels)


def test_a_pure_function_of_seed_epoch_and_example(encode):
    examples = encode()
    first, again = hidden(examples, 3), hidden(encode(), 3)
    np.testing.assert_array_equal(first, again)
    for other in (hidden(examples, 4), hidden(encode(seed=1), 3)):
        assert not np.array_equal(first[1], other[1])
    assert examples.tokens_of(0, 0)[1].tolist() != examples.tokens_of(3, 0)[1].tolist()  # the same text


def test_mask_labels_are_the_original_tokens_and_the_rest_is_unchanged(encode):
    examples = encode()
    ids, labels = hidden(examples, 0)
    predicted = labels != UNLABELLED
    np.testing.assert_array_equal(labels[predicted], examples.token_ids[predicted])
    np.testing.assert_array_equal(ids[~predicted], examples.token_ids[~predicted])
    assert not predicted[np.isin(examples.token_ids, [2, 3])].any()  # [CLS], [SEP]
    for i in range(examples.num_examples):
        of_text = examples.tokens_of(i, 0)[1] != UNLABELLED
        assert of_text.sum() == max(1, round(0.15 * (examples.lengths[i] - 2)))


def test_masked_tokens_are_80_percent_mask_10_random_10_unchanged(encode):
    examples = encode(mask_share=0.5)
    masked, total, same = 0, 0, 0
    for epoch in range(30):
        ids, labels = hidden(examples, epoch)
        chosen = labels != UNLABELLED
        total += chosen.sum()
        masked += (ids[chosen] == 4).sum()
        same += (ids[chosen] == labels[chosen]).sum()
    # Five standard deviations; a random piece is the right one once in 24.
    assert abs(masked / total - 0.8) < 5 * np.sqrt(0.8 * 0.2 / total)
    assert abs(same / total - (0.1 + 0.1 / 24)) < 5 * np.sqrt(0.1 * 0.9 / total)


def test_each_token_is_as_likely_as_any_other(encode):
    examples = encode(TEXTS[:1], mask_share=0.3)
    counts = sum((examples.tokens_of(0, epoch)[1] != UNLABELLED).astype(int) for epoch in range(2000))
    real = counts[1:-1]
    expected = 2000 * round(0.3 * len(real)) / len(real)
    assert np.abs(real - expected).max() < 5 * np.sqrt(expected)


def test_whole_word_masking_masks_all_pieces(encode):
    examples = encode(TEXTS[:1], whole_words=True, mask_share=0.3)
    film = examples.token_ids.tolist().index(7)  # "film", "##s"
    together = [(examples.tokens_of(0, epoch)[1] != UNLABELLED)[[film, film + 1]].tolist() for epoch in range(100)]
    assert {tuple(pair) for pair in together} == {(False, False), (True, True)}
    pieces = encode(TEXTS[:1], mask_share=0.3)
    apart = [(pieces.tokens_of(0, epoch)[1] != UNLABELLED)[[film, film + 1]].tolist() for epoch in range(100)]
    assert [True, False] in apart
    only = encode(["films"], whole_words=True)  # two pieces, though less than one is wanted
    assert (only.tokens_of(0, 0)[1] != UNLABELLED).sum() == 2


def test_a_long_text_becomes_several_examples_and_nothing_is_lost(encode):
    whole, cut = encode(TEXTS[:2], max_length=48), encode(TEXTS[:2], max_length=7)
    real = [examples.token_ids[~np.isin(examples.token_ids, [2, 3])].tolist() for examples in (whole, cut)]
    assert real[0] == real[1]
    assert (whole.num_examples, cut.num_examples, cut.lengths.max()) == (2, 4, 7)


def test_resumed_batches_mask_the_same_tokens(encode):
    examples = encode()
    plan = plan_training(examples.lengths, 7, 3, 0, 16, 1, packed=True, kind=examples.kind)
    whole = list(StoredBatches(examples, plan).batches())
    for first in (4, plan.steps_per_epoch, 2 * plan.steps_per_epoch + 1):
        rest = list(StoredBatches(examples, plan).batches(plan.position(first)))
        for left, right in zip(whole[first:], rest, strict=True):
            for a, b in zip(left.batch, right.batch, strict=True):
                np.testing.assert_array_equal(a, b)
    assert not np.array_equal(whole[0].batch.labels, whole[plan.steps_per_epoch].batch.labels)


def test_evaluation_masks_do_not_depend_on_the_training_seed(encode):
    one, other = (encode(seed=seed).fixed(seed=9) for seed in (0, 1))
    np.testing.assert_array_equal(one.token_ids, other.token_ids)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(hidden(one, 0), hidden(one, 1))


def test_text_files_give_a_row_a_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b'\xef\xbb\xbfa film\r\n\r\n  \nthe "book", it\nthe song')
    (tmp_path / "b.txt").write_text("a plot\na film\n")
    splits = splits_of(Table(str(tmp_path / "*.txt"), test_size=1), "masked_lm")
    assert sorted(splits.train.texts + splits.test.texts) == ["a film", "a plot", 'the "book", it', "the song"]
    assert splits.data_report.duplicates == 1
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match=r"empty.txt has no rows"):
        splits_of(Table(str(tmp_path / "empty.txt")), "masked_lm")


def test_text_files_give_a_row_a_file_where_they_are_documents(tmp_path):
    (tmp_path / "a.txt").write_bytes(b'\xef\xbb\xbfa film\r\n\r\nthe "book", it')
    (tmp_path / "b.txt").write_text("a plot\na song\n")
    (tmp_path / "c.txt").write_text(" \n")
    table = Table(str(tmp_path / "*.txt"), test_size=1, documents="file")
    splits = splits_of(table, "masked_lm")
    assert sorted(splits.train.texts + splits.test.texts) == ['a film\r\n\r\nthe "book", it', "a plot\na song\n"]
    (tmp_path / "d.csv").write_text("text\na\n")
    with pytest.raises(DataError, match="--documents file makes one row of a .txt file, and .*d.csv is none; leave it"):
        splits_of(replace(table, train=str(tmp_path / "[ad].*")), "masked_lm")
    with pytest.raises(DataError, match="c.txt has no rows"):
        splits_of(replace(table, train=str(tmp_path / "c.txt")), "masked_lm")


def test_settings_out_of_range():
    with pytest.raises(ConfigError, match="mask_share must be in \\(0, 1\\), got 1.5"):
        Masking(mask_share=1.5)
