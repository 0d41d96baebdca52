"""Slices that need nothing of the user: by length, true label, confidence, unknown words, and what a task has else."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bertjax.data.task_formats.answer_format import Contexts
from bertjax.data.task_formats.tag_scheme import OUTSIDE
from bertjax.evaluation.judged_rows import JudgedRows
from bertjax.evaluation.slices.sliced_rows import QUARTERS, Kind, Slice, quantile_slices
from bertjax.metrics.entities import find_entities
from bertjax.tasks.postprocess import Prediction

_DECILES = 10
_MOST = 0.5  # share of unknown tokens above which most are
_MOST_ENTITIES = 3  # in a sentence, that are counted one by one


def automatic_slices(
    judged: JudgedRows, predictions: Sequence[Prediction], min_rows: int, most_values: int
) -> tuple[list[Slice], list[str]]:
    """The slices, empty ones left out.

    Args:
      judged: the rows.
      predictions: of them, as `JudgedRows.predictions` gives them.
      min_rows: quantiles have twice as many rows, about, or are fewer.
      most_values: labels that are slices, at most; the most frequent.

    Returns:
      The slices, and what is to be said of labels that are none.
    """
    parts = len(judged.rows.texts) // (2 * min_rows)
    deciles, quarters = min(_DECILES, parts), min(QUARTERS, parts)
    by_label, notes = _by_label(judged, most_values)
    slices = [
        *quantile_slices("length", "length", _tokens_of_rows(judged, None), deciles, "tokens"),
        *by_label,
        *_by_confidence(predictions, quarters),
        *_by_unknown_words(judged),
        *_of_questions(judged, quarters),
        *_of_tags(judged),
    ]
    return [part for part in slices if part.members.any()], notes


def _tokens_of_rows(judged: JudgedRows, token_id: int | None) -> np.ndarray:
    """[N] tokens of each row, special ones included, over all of its examples; or those of one id alone."""
    examples = judged.examples
    row_of = np.arange(examples.num_examples) if examples.row_of is None else examples.row_of
    counted = np.ones(len(examples.token_ids)) if token_id is None else examples.token_ids == token_id
    of_token = np.repeat(row_of, examples.lengths)
    return np.bincount(of_token, counted.astype(float), minlength=len(judged.rows.texts))


def _by_label(judged: JudgedRows, most_values: int) -> tuple[list[Slice], list[str]]:
    """A slice of each true label of a whole row, the most frequent ones."""
    labels = judged.rows.labels
    if not (judged.loaded.model.labels and labels):
        return [], []
    if all(isinstance(label, str) for label in labels):
        of_rows = [(label,) for label in labels]
    elif judged.examples.labels_of == "examples" and all(_is_names(label) for label in labels):
        of_rows = [tuple(label) or ("",) for label in labels]
    else:
        return [], []
    counts = Counter(name for names in of_rows for name in set(names))
    frequent = sorted(counts, key=lambda name: (-counts[name], name))
    slices = [
        Slice(f"label {name}" if name else "no label", "label", np.array([name in names for names in of_rows]))
        for name in frequent[:most_values]
    ]
    rest = len(frequent) - len(slices)
    note = f"of {len(frequent)} labels, the {most_values} most frequent are slices, the other {rest} are not"
    return slices, [note] if rest else []


def _is_names(label: Any) -> bool:
    return isinstance(label, list | tuple | set | frozenset) and all(isinstance(name, str) for name in label)


def _by_confidence(predictions: Sequence[Prediction], quarters: int) -> list[Slice]:
    """Quarters by the probability of the predicted label."""
    if not predictions or "probability" not in predictions[0]:
        return []
    values = np.array([prediction["probability"] for prediction in predictions])
    return quantile_slices("confidence", "confidence", values, quarters)


def _by_unknown_words(judged: JudgedRows) -> Iterator[Slice]:
    """Whether none, some or most tokens of a text are [UNK]; nothing where none is in any text."""
    unknown = _tokens_of_rows(judged, judged.loaded.tokenizer.unk_token_id)
    if not unknown.any():
        return
    special = [i for i in judged.loaded.tokenizer.all_special_ids if i != judged.loaded.tokenizer.unk_token_id]
    tokens = _tokens_of_rows(judged, None) - sum(_tokens_of_rows(judged, i) for i in special)
    share = unknown / np.maximum(tokens, 1)
    kinds = {"none": share == 0, "some": (share > 0) & (share <= _MOST), "most": share > _MOST}
    for which, members in kinds.items():
        yield Slice(f"unknown words: {which}", "unknown words", members)


def _of_questions(judged: JudgedRows, quarters: int) -> list[Slice]:
    """Questions with and without an answer, and by the words of their context."""
    contexts = judged.examples.reference
    if not isinstance(contexts, Contexts):
        return []
    answerable = np.array([bool(question.answers) for question in contexts.questions])
    words = np.array([len(context.split()) for context in contexts.contexts], float)
    return [
        Slice("answerable", "answer", answerable),
        Slice("unanswerable", "answer", ~answerable),
        *quantile_slices("context", "length", words, quarters, "words"),
    ]


def _of_tags(judged: JudgedRows) -> list[Slice]:
    """Sentences by how many entities they have."""
    words = judged.examples.words
    if words is None or words.scheme in (None, "none"):
        return []
    assert words.scheme is not None
    tags = [[OUTSIDE if tag is None else tag for tag in of_row] for of_row in judged.rows.labels]
    counts = np.array([len(find_entities(of_row, words.scheme)) for of_row in tags])
    kind: Kind = "entities"
    exact = [Slice(f"entities: {count}", kind, counts == count) for count in range(_MOST_ENTITIES)]
    return [*exact, Slice(f"entities: {_MOST_ENTITIES} or more", kind, counts >= _MOST_ENTITIES)]
