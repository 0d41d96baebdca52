"""Questions: from SQuAD's files to windows, and from windows back to the very text of an answer."""

import json

import numpy as np
import pandas as pd
import pytest

from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding
from bertjax.data.task_formats.answer_format import NO_CHARACTER, Answer
from bertjax.errors import ConfigError, DataError
from bertjax.metrics.answer_report import _answers, answer_report, best_spans, normalised
from bertjax.tasks import find_format
from tests.support.tables import CONTEXT, QUESTIONS, splits_of, squad


@pytest.fixture
def write(tmp_path):
    def write(content, name="t.json"):
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return str(path)

    return write


def encode(table, tiny_model, max_length=24, side="train"):
    splits = splits_of(table, "question_answering")
    encoding = Encoding(load_tokenizer(tiny_model), (), max_length, splits.table)
    return find_format("question_answering").encode(getattr(splits, side), "t", encoding)


def predicted_answers(scores, examples):
    return _answers(best_spans(scores, examples.offsets, examples.reference), examples.reference)


def test_squad_json_and_tables_give_the_same_rows(write, tmp_path):
    flat = [
        {"id": name, "context": CONTEXT, "question": question,
         "answers": {"text": [answer], "answer_start": [CONTEXT.index(answer)]}}
        for name, question, answer in QUESTIONS
    ]  # fmt: skip
    pd.DataFrame(flat).to_parquet(tmp_path / "t.parquet")
    text = pd.DataFrame(flat).assign(answers=[json.dumps(row["answers"]) for row in flat])
    text.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, flat)))
    for source in (write(squad(*QUESTIONS)), *(str(tmp_path / name) for name in ("t.parquet", "t.csv", "t.jsonl"))):
        splits = splits_of(Table(source, test_size=1), "question_answering")
        found = {question.id: question.answers for rows in (splits.train, splits.test) for question in rows.labels}
        assert found == {name: (Answer(CONTEXT.index(answer), answer),) for name, _, answer in QUESTIONS}


def test_version_two_has_questions_without_an_answer(write):
    path = write(squad(*QUESTIONS, ("q4", "when ?", None), version="v2.0"))
    splits = splits_of(Table(path, test_size=1), "question_answering")
    questions = {question.id: question.answers for rows in (splits.train, splits.test) for question in rows.labels}
    assert questions["q4"] == ()
    assert len(questions) == 4


@pytest.mark.parametrize("max_length", [16, 24, 48])
@pytest.mark.parametrize("doc_stride", [None, 0, 7])
def test_label_positions_map_back_to_the_answer_text(write, tiny_model, max_length, doc_stride):
    """In every window that holds the whole answer, and to [CLS] in every other."""
    table = Table(write(squad(*QUESTIONS)), test_size=1, doc_stride=doc_stride)
    examples = encode(table, tiny_model, max_length)
    contexts = examples.reference
    held = 0
    for window, (first, last) in enumerate(examples.labels):
        characters = contexts.characters[examples.offsets[window] : examples.offsets[window + 1]]
        question = contexts.questions[contexts.question_of[window]]
        (answer,) = question.answers
        context = characters[characters[:, 0] != NO_CHARACTER]
        whole = context[0, 0] <= answer.start and context[-1, 1] >= answer.start + len(answer.text)
        assert (first > 0) == whole
        if whole:
            held += 1
            assert CONTEXT[characters[first, 0] : characters[last, 1]] == answer.text
    assert held >= len(contexts.questions)
    assert examples.lengths.max() <= max_length
    covered = {tuple(pair) for pair in contexts.characters.tolist() if pair[0] != NO_CHARACTER}
    assert {char for begin, end in covered for char in range(begin, end)} == {
        i for i, char in enumerate(CONTEXT) if char != " "
    }


def perfect_scores(examples):
    """Logits that point at every label, and at [CLS] where a window has none."""
    scores = np.zeros((len(examples.token_ids), 2), np.float32)
    for start, (first, last) in zip(examples.offsets[:-1], examples.labels, strict=True):
        confidence = 10 if first else 1
        scores[start + first, 0], scores[start + last, 1] = confidence, confidence
    return scores


@pytest.mark.parametrize("max_length", [16, 48])
def test_the_best_span_over_all_windows_is_the_answer(write, tiny_model, max_length):
    path = write(squad(*QUESTIONS, ("q4", "when ?", None), version="v2.0"))
    examples = encode(Table(path, test=path, leaks="report"), tiny_model, max_length, side="test")
    scores = perfect_scores(examples)
    assert predicted_answers(scores, examples) == ["song", "films", "not a good", ""]
    report = answer_report(scores, examples, ())
    assert report.table.averages == [("all", (1.0, 1.0, 4))]
    assert dict(report.table.rows)["unanswerable"].support == 1


def test_a_span_never_leaves_the_context_nor_ends_before_it_begins(write, tiny_model):
    path = write(squad(*QUESTIONS))
    examples = encode(Table(path, test=path, leaks="report"), tiny_model, 48, side="test")
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.normal(size=(len(examples.token_ids), 2)).astype(np.float32)
        for span in best_spans(scores, examples.offsets, examples.reference):
            assert span.text
            assert span.text in CONTEXT


def test_squad_metric_on_worked_examples(write, tiny_model):
    assert normalised(" The  cat's, an(d) A hat! ") == "cats and hat"
    path = write(squad(("q1", "what ?", "the song was very bad")))
    table = Table(write(squad(("q9", "who ?", "it"), ("q8", "who", "it")), "train.json"), test=path, leaks="report")
    examples = encode(table, tiny_model, 48, side="test")
    scores = np.zeros((len(examples.token_ids), 2), np.float32)
    words = [CONTEXT[begin:end] for begin, end in examples.reference.characters]
    scores[words.index("song"), 0], scores[words.index("very"), 1] = 9, 9  # "song was very": 3 of 3, 3 of 4
    assert predicted_answers(scores, examples) == ["song was very"]
    assert answer_report(scores, examples, ()).metrics == pytest.approx({"exact_match": 0.0, "f1": 6 / 7})
    scores[words.index("bad"), 1] = 99  # an article less is the same answer
    assert answer_report(scores, examples, ()).metrics == {"exact_match": 1.0, "f1": 1.0}


def broken(answers):
    return [{"id": "57a", "context": "a film", "question": "what ?", "answers": answers}]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            [{"text": "film", "answer_start": 1}],
            "row 1 misplaces an answer to question '57a': at character 1 .* not",
        ),
        ([{"text": "film noir", "answer_start": 2}], "row 1 cuts off an answer to question '57a': 'film noir' at char"),
        ([{"text": "film", "answer_start": -1}], "row 1 cuts off an answer to question '57a'"),
        ([{"text": "film"}], "row 1 has no answers to question '57a' in column 'answers': they must be objects"),
        ({"text": ["film", "a"], "answer_start": [2]}, "row 1 has no answers to question '57a'"),
        ("film", "row 1 has no answers to question '57a'"),
        (None, "row 1 has no answers to question '57a'"),
    ],
)
def test_answers_that_cannot_be_used(write, answers, message):
    with pytest.raises(DataError, match=message):
        splits_of(Table(write(broken(answers))), "question_answering")


def test_broken_questions_are_skipped_counted_and_listed(write):
    good = [{"id": f"q{i}", "context": f"a film {i}", "question": "what ?",
             "answers": [{"text": "film", "answer_start": 2}]} for i in range(3)]  # fmt: skip
    table = Table(write(good + broken([{"text": "book", "answer_start": 2}])), on_bad_row="skip", test_size=1)
    (found,) = splits_of(table, "question_answering").data_report.tables
    assert found.rows == 3
    assert "row 4 misplaces an answer to question '57a'" in str(found.skipped[0])


def test_settings_that_do_not_fit_question_answering(write, tiny_model):
    path = write(squad(*QUESTIONS))
    with pytest.raises(ConfigError, match="--doc-stride 12 must be under 12, half of --max-length, or windows"):
        encode(Table(path, test_size=1, doc_stride=12), tiny_model, 24)
    with pytest.raises(ConfigError, match="--steps lower: the labels of question_answering point at places"):
        splits_of(Table(path, steps=("lower",)), "question_answering")


def test_a_table_of_questions_given_to_another_task(write):
    path = write(squad(*QUESTIONS))
    with pytest.raises(DataError, match="no column 'text'; its columns are id, title, context, question, answers"):
        splits_of(Table(path), "classification")
    with pytest.raises(DataError, match="where a label must be a string or an integer"):
        splits_of(Table(path, text=("question",), label="answers"), "classification")


def test_a_long_question_is_cut_to_its_half(write, tiny_model):
    long = squad(("q1", "what was good ? " * 30, "song"), ("q2", "a", "song"), ("q3", "it", "song"))
    examples = encode(Table(write(long), test_size=1, split_seed=3), tiny_model, 24)
    assert examples.lengths.max() <= 24
    assert examples.labels.any(axis=1).sum() >= 2
