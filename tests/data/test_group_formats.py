"""Several texts an example: candidates of a choice, pairs to compare; and pairs of which one follows the other."""

import json

import numpy as np
import pytest

from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.errors import ConfigError, DataError
from bertjax.tasks import find_format
from tests.support.tables import splits_of

CHOICE = {"question": "what was good", "choices": ["the film", "a book", "it"], "answer": 1}


@pytest.fixture
def table_of(tmp_path):
    def table_of(*records, **settings):
        path = tmp_path / "t.jsonl"
        path.write_text("\n".join(map(json.dumps, records)))
        return Table(str(path), **settings)

    return table_of


def several(record, count=4):
    return [{**record, "question": f"{record['question']} {i}"} for i in range(count)]


def encode(task, table, tiny_model, max_length=32):
    splits = splits_of(table, task)
    encoding = Encoding(load_tokenizer(tiny_model), splits.vocabulary, max_length, splits.table)
    return find_format(task).encode(splits.train, "t", encoding)


@pytest.mark.parametrize("answer", [1, "1", "B", "a book"])
def test_a_number_a_letter_and_the_text_name_the_same_candidate(table_of, answer):
    # A column of "1" alone does not say from where it counts.
    table = table_of(*several({**CHOICE, "answer": answer}), test_size=1, answer_as="index0" if answer == "1" else None)
    splits = splits_of(table, "multiple_choice")
    assert splits.train.labels == [1, 1, 1]
    assert splits.train.pairs[0] == ("the film", "a book", "it")


def test_columns_of_candidates_are_the_list(table_of):
    record = {"question": "q", "A": "the film", "B": "a book", "C": "it", "D": "so", "answer": "C"}
    splits = splits_of(table_of(*several(record), test_size=1), "multiple_choice")
    assert (splits.train.pairs[0], splits.train.labels[0]) == (("the film", "a book", "it", "so"), 2)
    two = splits_of(table_of(*several({**record, "answer": 1}), test_size=1, candidates=("D", "A")), "multiple_choice")
    assert (two.train.pairs[0], two.train.labels[0]) == (("so", "the film"), 1)


def test_candidates_stand_in_consecutive_slots(table_of, tiny_model):
    examples = encode("multiple_choice", table_of(*several(CHOICE, 9), test_size=1), tiny_model)
    assert (examples.num_examples, examples.text_lengths.shape, examples.kind.texts) == (8, (8, 3), 3)
    np.testing.assert_array_equal(examples.text_lengths.sum(axis=1), examples.lengths)
    plan = plan_training(examples.lengths, 4, 1, 0, 16, 1, packed=True, kind=examples.kind)
    for batch, ids, _, num_tokens in StoredBatches(examples, plan).batches():
        assert num_tokens == examples.lengths[ids[ids >= 0]].sum()
        assert batch.example_starts.shape[1] == 3 * batch.labels.shape[1]
        for row, place in zip(*np.nonzero(ids >= 0), strict=True):
            assert batch.labels[row, place] == 1
            for text in range(3):
                slot = 3 * place + text
                inside = batch.segment_ids[row] == slot + 1
                assert inside.sum() == examples.text_lengths[ids[row, place], text]
                assert batch.position_ids[row, inside].tolist() == list(range(inside.sum()))
                assert batch.token_ids[row, batch.example_starts[row, slot]] == 2  # [CLS]


def test_pairs_are_two_texts_of_one_example(table_of, tiny_model):
    records = [{"sentence1": f"film {i}", "sentence2": "a book", "score": i} for i in range(6)]
    examples = encode("sentence_embedding", table_of(*records, label_scale=5, test_size=1), tiny_model)
    assert sorted(set((examples.labels * 5).round().astype(int))) != []
    assert examples.labels.dtype == np.float32
    assert 0 <= examples.labels.min() <= examples.labels.max() <= 1
    assert examples.text_lengths.tolist() == [[4, 4]] * 5
    assert not examples.token_type_ids.any()


def test_next_sentence_labels(table_of, tiny_model):
    records = [{"text": f"film {i}", "next": "a book", "label": i % 2} for i in range(10)]
    examples = encode("next_sentence", table_of(*records, text_pair=("next",)), tiny_model)
    assert sorted(examples.labels) == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    ("task", "record", "settings", "message"),
    [
        (
            "multiple_choice",
            {**CHOICE, "answer": 4},
            {},
            "row 1 holds 4 in column 'answer', which is none of its 3",
        ),
        (
            "multiple_choice",
            {**CHOICE, "answer": "E"},
            {},
            "holds 'E' in column 'answer', which is none of its 3",
        ),
        ("multiple_choice", {**CHOICE, "answer": None}, {}, "does not say in column 'answer' which candidate is right"),
        (
            "multiple_choice",
            {**CHOICE, "choices": ["a"]},
            {},
            "has 1 of the two candidates or more in column",
        ),
        ("multiple_choice", {**CHOICE, "choices": ["a", 2]}, {}, "has the candidate 2 in column 'choices', which must"),
        ("multiple_choice", {**CHOICE, "choices": "a, b"}, {}, "holds 'a, b' in column 'choices', which is no list"),
        ("sentence_embedding", {"text": "a", "b": "c", "label": 4}, {"text_pair": ("b",)}, "holds 4 .* --label-scale"),
        ("sentence_embedding", {"text": "a", "b": "c", "label": "x"}, {"text_pair": ("b",)}, "'x' .* is no number"),
        ("next_sentence", {"text": "a", "b": "c", "label": "no"}, {"text_pair": ("b",)}, "'no' .* must say 0 or 1"),
    ],
)
def test_rows_that_cannot_be_used(table_of, task, record, settings, message):
    with pytest.raises(DataError, match=message):
        splits_of(table_of(record, **settings), task)


def test_questions_with_other_numbers_of_candidates(table_of, tiny_model):
    other = {**CHOICE, "question": "who", "choices": ["a", "b"]}
    table = table_of(*several(CHOICE), other, other | {"question": "how"}, test_size=1)
    with pytest.raises(DataError, match=r"the question '.*' has [23] candidates, those before have [32]; all"):
        encode("multiple_choice", table, tiny_model)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("multiple_choice", "needs the candidates of each question: name their columns"),
        ("sentence_embedding", "sentence_embedding reads two texts a row; name the columns of the second"),
        ("next_sentence", "next_sentence reads two texts a row"),
        ("question_answering", "question_answering reads two texts a row"),
    ],
)
def test_columns_that_are_not_named(table_of, task, message):
    with pytest.raises(ConfigError, match=message):
        splits_of(table_of({"text": "a", "label": "b"}), task)
