"""What is explained of an answer: the score of a label or a number, of the labels of some words, or of a span.

There is one way for each kind of answers. It places the tokens of a row, perhaps in several windows, and says of which
outputs of the network the explained number is the sum.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from bertjax.data.encode.tokenize import in_windows, tokenize_in_place
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.task_formats.answer_format import answer_windows
from bertjax.data.task_formats.token_format import Words
from bertjax.errors import ConfigError
from bertjax.inference.explanations.explain_options import ExplainOptions
from bertjax.inference.explanations.explained_network import Question
from bertjax.inference.explanations.placed_text import PlacedText, place, place_words
from bertjax.inference.loaded_model import LoadedModel
from bertjax.settings import require_known
from bertjax.tasks import TASKS
from bertjax.tasks.postprocess import Prediction

NO_ANSWER = "no answer"
_START, _END = 0, 1  # outputs of a network that answers questions
_SPAN_LABELS: Mapping[str, tuple[int, ...]] = {
    "answer": (_START, _END), "start": (_START,), "end": (_END,), NO_ANSWER: (_START, _END),
}  # fmt: skip
_WHOLE = 2**31  # tokens, more than any text has


class Candidate(NamedTuple):
    """A number that may be the one to explain: what is asked, and the text or window that it is asked of."""

    placed: PlacedText
    question: Question


class Target(NamedTuple):
    """The number to explain.

    Attributes:
      label: whose score it is.
      explained: the words, or the answer, that the label is said of; None where it is said of the whole text.
      candidates: in each window that has the target; it is one more often than not.
      takes_least: whether the model's own score is the least of the candidates', rather than the greatest.
    """

    label: str
    explained: str | None
    candidates: Sequence[Candidate]
    takes_least: bool = False


class Kind(NamedTuple):
    """A kind of answers.

    Attributes:
      place: (model, rows) -> the windows of each row; it uses the tokenizer.
      target: (model, windows of a row, its answer, options) -> what is explained. Raises ConfigError for a label or a
        word that is not there.
      says_word: whether a word can be named.
    """

    place: Callable[[LoadedModel, Rows], list[list[PlacedText]]]
    target: Callable[[LoadedModel, Sequence[PlacedText], Prediction, ExplainOptions], Target]
    says_word: bool = False


def kind_of(task: str) -> Kind | None:
    """How answers of a task are explained; None where they are not."""
    entry = TASKS[task]
    columns = entry.postprocess.columns.keys() if entry.postprocess else ()
    of_examples = entry.scores_of == "examples"
    return next((kind for key, kind in (_OF_TEXTS if of_examples else _OF_TOKENS).items() if key in columns), None)


def _place_texts(loaded: LoadedModel, rows: Rows) -> list[list[PlacedText]]:
    encodings = tokenize_in_place(loaded.tokenizer, rows.texts, rows.pairs, loaded.max_length)
    return [
        place([part for part in texts if isinstance(part, str)], whole, [cut])
        for texts, (whole, cut) in zip(rows.text_pairs(), encodings, strict=True)
    ]


def _of_text(loaded: LoadedModel, windows: Sequence[PlacedText], answer: Prediction, options: ExplainOptions) -> Target:
    """The score of a label, or a number."""
    numbers: Mapping[str, float] = answer.get("probabilities") or answer["values"]
    names, label = list(numbers), options.label
    if label is None:
        label = max(names, key=numbers.__getitem__) if "probabilities" in answer else names[0]
    require_known("label", label, numbers)
    return Target(label, None, [_candidate(windows[0], [(0, names.index(label))])])


def _place_words(loaded: LoadedModel, rows: Rows) -> list[list[PlacedText]]:
    windows = in_windows(loaded.tokenizer, rows.texts, None, loaded.max_length, overlap=0, split_into_words=True)
    return [
        place_words(words if isinstance(words, Words) else Words.joined(words), parts)
        for words, parts in zip(rows.texts, windows.by_text(len(rows.texts)), strict=True)
    ]


def _of_words(
    loaded: LoadedModel, windows: Sequence[PlacedText], answer: Prediction, options: ExplainOptions
) -> Target:
    """The labels of the named words, else of the first entity, else of the first word: the sum of their scores."""
    index_of = {name: index for index, name in enumerate(loaded.model.labels)}
    if options.label is not None:
        require_known("label", options.label, index_of)
    for words, window in product(_choices(windows[0], answer, options.word), windows):
        if tokens := window.first_tokens(words):
            labels = [options.label or answer["labels"][word] for word in tokens]
            terms = [(token, index_of[label]) for token, label in zip(tokens.values(), labels, strict=True)]
            return Target(" ".join(labels), window.text_of(list(tokens)), [_candidate(window, terms)])
    if options.word is not None:
        raise ConfigError(f"the tokenizer makes nothing of the word {options.word!r}, so it has no score")
    return Target("no word", None, [_candidate(windows[0], [])])


def _choices(placed: PlacedText, answer: Prediction, word: str | None) -> list[list[int]]:
    """Neighbouring words that may be explained, the first choice first.

    Raises:
      ConfigError: the text does not have the named ones.
    """
    if word is not None:
        return [placed.words_of(word)]
    of_entities = [placed.words_between(entity["start"], entity["end"]) for entity in answer["entities"]]
    return [*of_entities[:1], *([i] for i in range(len(placed.words)))]


def _place_questions(loaded: LoadedModel, rows: Rows) -> list[list[PlacedText]]:
    tokenizer, stride = loaded.tokenizer, loaded.table.doc_stride
    assert rows.pairs is not None, "a question has a context"
    windows = answer_windows(tokenizer, rows.texts, rows.pairs, loaded.max_length, stride)
    wholes = tokenize_in_place(tokenizer, rows.texts, rows.pairs, _WHOLE)
    return [
        place([str(part) for part in texts], whole, parts)
        for texts, (whole, _), parts in zip(rows.text_pairs(), wholes, windows.by_text(len(rows.texts)), strict=True)
    ]


def _of_span(loaded: LoadedModel, windows: Sequence[PlacedText], answer: Prediction, options: ExplainOptions) -> Target:
    """The answer's first and last token, or one of them; or that there is no answer, which `[CLS]` says."""
    has_answer = answer["margin"] is not None and answer["start"] is not None
    label = options.label or ("answer" if has_answer else NO_ANSWER)
    require_known("label", label, _SPAN_LABELS)
    outputs = _SPAN_LABELS[label]
    if label == NO_ANSWER:
        return Target(
            label, None, [_candidate(window, [(0, of) for of in outputs]) for window in windows], takes_least=True
        )
    if not has_answer:
        raise ConfigError(f"there is no answer whose {label} could be explained; take the label {NO_ANSWER!r}")
    spans = ((window, window.span_of(answer["start"], answer["end"])) for window in windows)
    candidates = [_candidate(window, [(span[of], of) for of in outputs]) for window, span in spans if span]
    return Target(label, answer["answer"], candidates)


def _candidate(placed: PlacedText, terms: Sequence[tuple[int, int]]) -> Candidate:
    return Candidate(placed, Question(placed.token_ids, placed.token_type_ids, tuple(terms)))


_BY_TEXT = Kind(_place_texts, _of_text)
# A key of the answers -> how they are explained.
_OF_TEXTS: Mapping[str, Kind] = {"probabilities": _BY_TEXT, "values": _BY_TEXT}
_OF_TOKENS: Mapping[str, Kind] = {
    "entities": Kind(_place_words, _of_words, says_word=True),
    "margin": Kind(_place_questions, _of_span),
}
