"""Behavioural tests of a model, from its checks to what came of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from bertjax.errors import DataError
from bertjax.evaluation.behaviour.answer_kinds import find_answer_kind
from bertjax.evaluation.behaviour.judge_answers import Outcome, judge_of
from bertjax.evaluation.behaviour.located import Located
from bertjax.evaluation.behaviour.read_checks import Check, Checks, Parts
from bertjax.inference.loaded_model import LoadedModel
from bertjax.inference.predictor import Predictor
from bertjax.inference.text_reader import Text, TextReader
from bertjax.tasks import find_readout


class CheckResult(NamedTuple):
    """What came of a check.

    Attributes:
      check: it was.
      outcomes: of its cases, in their order.
    """

    check: Check
    outcomes: Sequence[Outcome]


def check_behaviour(loaded: LoadedModel, checks: Checks) -> list[CheckResult]:
    """Asks a model all texts of all checks, each once, in one call, and judges its answers.

    Args:
      loaded: the model.
      checks: of a file.

    Raises:
      ConfigError: the model's task says nothing of a text, or a check expects what the model cannot answer.
      DataError: a text that the model cannot read.
    """
    if loaded.preprocessing.text:  # checks name the model's own columns, whatever those of a table beside them
        own, pair = loaded.preprocessing.text, loaded.preprocessing.text_pair
        loaded = loaded._replace(table=replace(loaded.table, text=own, text_pair=pair))
    kind = find_answer_kind(loaded.model.task, loaded.model.labels)
    judges = [judge_of(check, kind) for check in checks.checks]
    texts = _distinct_texts(checks.checks)
    _check_readable(loaded, texts)
    predictions = Predictor(loaded)([_entry(text.parts) for text in texts.values()])
    answers = dict(zip(texts, predictions, strict=True))
    return [
        CheckResult(
            check,
            [
                judge(
                    case,
                    answers[_key(case.text)],
                    answers[_key(case.changed)] if case.changed is not None and case.is_applicable else None,
                )
                for case in check.cases
            ],
        )
        for check, judge in zip(checks.checks, judges, strict=True)
    ]


class _Asked(NamedTuple):
    """A text, and the first place that asks it."""

    parts: Parts
    place: str


def _distinct_texts(checks: Sequence[Check]) -> dict[Any, _Asked]:
    texts: dict[Any, _Asked] = {}
    for check in checks:
        for case in check.cases:
            for parts in (case.text, case.changed):
                if parts is not None:
                    texts.setdefault(_key(parts), _Asked(parts, case.place))
    return texts


def _key(parts: Parts) -> tuple[tuple[str, str], ...]:
    return tuple(parts.items())


def _entry(parts: Parts) -> Text:
    """A text as a predictor takes it."""
    if parts.keys() == {"text"}:
        return parts["text"]
    return (parts["text"], parts["pair"]) if parts.keys() == {"text", "pair"} else parts


def _check_readable(loaded: LoadedModel, texts: Mapping[Any, _Asked]) -> None:
    """Checks that the model reads each text.

    Raises:
      ConfigError: it does not; the message names the text's place.
    """
    task_format = find_readout(loaded.model.task).format
    reader = TextReader(task_format, loaded.table, loaded.preprocessing, loaded.model.labels)
    first_is_pair = None
    for parts, place in texts.values():
        located = Located(dict(parts), place)
        entry = _entry(parts)
        if isinstance(entry, Mapping) and reader.columns and (extra := parts.keys() - set(reader.columns)):
            columns = ", ".join(map(repr, reader.columns))
            raise located.wrong(f"the model has no column {min(extra)!r}; it reads {columns}, or a plain text")
        try:
            is_pair = reader.rows([entry]).pairs is not None
        except DataError as error:
            raise located.wrong(str(error).removeprefix("text 1 ").removeprefix("row 1 ")) from None
        if first_is_pair is not None and is_pair != first_is_pair:
            raise located.wrong(f"this is {'a pair' if is_pair else 'one text'}, and others are not; give all alike")
        first_is_pair = is_pair
