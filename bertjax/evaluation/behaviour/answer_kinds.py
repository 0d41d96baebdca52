"""Kinds of answers: how an expected answer is written, when two answers are the same, and what in one can move."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from bertjax.data.task_formats.tag_scheme import is_outside, parse_tag
from bertjax.errors import ConfigError
from bertjax.evaluation.behaviour.located import Located
from bertjax.metrics.evaluators import NEXT_SENTENCE_NAMES
from bertjax.tasks import find_postprocess
from bertjax.tasks.postprocess import Prediction

Read = Callable[[str], str]
"""A text of an expected answer, with the slots of its template filled."""


class AnswerKind(Protocol):
    """What a behavioural check asks of the answers of a task. An expectation is any value that `read` returns."""

    def read(self, value: Located, filled: Read, tolerance: float | None) -> Any:
        """The answer that a file expects.

        Raises:
          ConfigError: the model cannot give such an answer.
        """

    def meets(self, answer: Prediction, expected: Any, tolerance: float | None) -> bool:
        """Whether an answer is the expected one."""

    def is_same(self, before: Prediction, after: Prediction, tolerance: float | None) -> bool:
        """Whether a change has left an answer as it was."""

    def movable(self) -> Sequence[str]:
        """The names of what a change can move up and down; none where there is nothing."""

    def amounts(self, answer: Prediction) -> Mapping[str, float]:
        """What can move, by its names."""

    def probability(self, answer: Prediction) -> float | None:
        """That of the answer; None where it has none."""

    def shown(self, answer: Prediction) -> str:
        """The answer in words."""

    def shown_expected(self, expected: Any) -> str:
        """An expected answer in words."""


class Labels(NamedTuple):
    """One label a text."""

    names: Sequence[str]

    def read(self, value: Located, filled: Read, tolerance: float | None) -> str:
        return _label(value, filled, self.names)

    def meets(self, answer: Prediction, expected: str, tolerance: float | None) -> bool:
        return bool(answer["label"] == expected)

    def is_same(self, before: Prediction, after: Prediction, tolerance: float | None) -> bool:
        label = before["label"]
        moved = abs(before["probabilities"][label] - after["probabilities"][label])
        return after["label"] == label and (tolerance is None or moved <= tolerance)

    def movable(self) -> Sequence[str]:
        return self.names

    def amounts(self, answer: Prediction) -> Mapping[str, float]:
        return dict(answer["probabilities"])

    def probability(self, answer: Prediction) -> float | None:
        return float(answer["probability"])

    def shown(self, answer: Prediction) -> str:
        return f"{answer['label']} {answer['probability']:.3f}"

    def shown_expected(self, expected: str) -> str:
        return expected


class LabelSets(NamedTuple):
    """Any number of labels a text."""

    names: Sequence[str]

    def read(self, value: Located, filled: Read, tolerance: float | None) -> tuple[str, ...]:
        items = [] if value.content == [] else value.items("'expect'")
        return tuple(sorted({_label(item, filled, self.names) for item in items}))

    def meets(self, answer: Prediction, expected: tuple[str, ...], tolerance: float | None) -> bool:
        return tuple(sorted(answer["labels"])) == expected

    def is_same(self, before: Prediction, after: Prediction, tolerance: float | None) -> bool:
        return sorted(before["labels"]) == sorted(after["labels"]) and (
            tolerance is None or _are_near(before["probabilities"], after["probabilities"], tolerance)
        )

    def movable(self) -> Sequence[str]:
        return self.names

    def amounts(self, answer: Prediction) -> Mapping[str, float]:
        return dict(answer["probabilities"])

    def probability(self, answer: Prediction) -> float | None:
        """That of the least sure of its labels."""
        return min((float(answer["probabilities"][label]) for label in answer["labels"]), default=None)

    def shown(self, answer: Prediction) -> str:
        return ", ".join(f"{label} {answer['probabilities'][label]:.3f}" for label in answer["labels"]) or "no label"

    def shown_expected(self, expected: tuple[str, ...]) -> str:
        return ", ".join(expected) or "no label"


class Numbers(NamedTuple):
    """One or more numbers a text.

    Attributes:
      names: of the numbers.
      column: of a prediction, which has them by name; or that of the only one.
    """

    names: Sequence[str]
    column: str

    def read(self, value: Located, filled: Read, tolerance: float | None) -> dict[str, float]:
        if tolerance is None:
            raise value.wrong("the model answers with numbers; say how near they must be: 'tolerance'")
        if not isinstance(value.content, dict):
            if len(self.names) > 1:
                raise value.wrong(f"the model answers with {', '.join(self.names)}; give 'expect' a number for a name")
            return {self.names[0]: value.number("'expect'")}
        numbers = value.mapping("'expect'", self.names)
        return {name: number.number(f"the number of {name!r}") for name, number in numbers.items()}

    def meets(self, answer: Prediction, expected: Mapping[str, float], tolerance: float | None) -> bool:
        return _are_near(expected, self.amounts(answer), tolerance or 0)

    def is_same(self, before: Prediction, after: Prediction, tolerance: float | None) -> bool:
        return _are_near(self.amounts(before), self.amounts(after), tolerance or 0)

    def movable(self) -> Sequence[str]:
        return self.names

    def amounts(self, answer: Prediction) -> Mapping[str, float]:
        values = answer[self.column]
        return dict(values) if isinstance(values, Mapping) else {self.column: float(values)}

    def probability(self, answer: Prediction) -> float | None:
        return None

    def shown(self, answer: Prediction) -> str:
        return self.shown_expected(self.amounts(answer))

    def shown_expected(self, expected: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in expected.items())


class Entities(NamedTuple):
    """The entities of a text. A change may rewrite them, so the same answer has the same types in the same order."""

    types: Sequence[str]

    def read(self, value: Located, filled: Read, tolerance: float | None) -> tuple[tuple[str, str], ...]:
        items = [] if value.content == [] else value.items("'expect'")
        return tuple(
            (filled(text), _label(label, filled, self.types))
            for item in items
            for text, label in item.mapping("an expected entity, {text: label},").items()
        )

    def meets(self, answer: Prediction, expected: tuple[tuple[str, str], ...], tolerance: float | None) -> bool:
        return sorted((entity["text"], entity["label"]) for entity in answer["entities"]) == sorted(expected)

    def is_same(self, before: Prediction, after: Prediction, tolerance: float | None) -> bool:
        return [entity["label"] for entity in before["entities"]] == [entity["label"] for entity in after["entities"]]

    def movable(self) -> Sequence[str]:
        return ()

    def amounts(self, answer: Prediction) -> Mapping[str, float]:
        return {}

    def probability(self, answer: Prediction) -> float | None:
        """That of the least sure of its entities."""
        return min((float(entity["probability"]) for entity in answer["entities"]), default=None)

    def shown(self, answer: Prediction) -> str:
        return self.shown_expected([(entity["text"], entity["label"]) for entity in answer["entities"]])

    def shown_expected(self, expected: Sequence[tuple[str, str]]) -> str:
        return ", ".join(f"{text} ({label})" for text, label in expected) or "no entity"


class Texts(NamedTuple):
    """A text that answers: a part of the context, or one of several candidates.

    Attributes:
      column: of a prediction.
    """

    column: str

    def read(self, value: Located, filled: Read, tolerance: float | None) -> str:
        return "" if value.content == "" else filled(value.text("'expect'"))

    def meets(self, answer: Prediction, expected: str, tolerance: float | None) -> bool:
        return bool(answer[self.column] == expected)

    def is_same(self, before: Prediction, after: Prediction, tolerance: float | None) -> bool:
        return bool(before[self.column] == after[self.column])

    def movable(self) -> Sequence[str]:
        return ()

    def amounts(self, answer: Prediction) -> Mapping[str, float]:
        return {}

    def probability(self, answer: Prediction) -> float | None:
        probability = answer.get("probability")
        return None if probability is None else float(probability)

    def shown(self, answer: Prediction) -> str:
        return self.shown_expected(answer[self.column])

    def shown_expected(self, expected: str) -> str:
        return expected or "no answer"


def find_answer_kind(task: str, labels: Sequence[str]) -> AnswerKind:
    """How the answers of a model are compared.

    Args:
      task: of the model.
      labels: its label names; empty where labels have none of their own.

    Raises:
      ConfigError: the task says nothing of a text, or nothing that can be expected.
    """
    columns = find_postprocess(task).columns
    if "entities" in columns:
        types = sorted({tag.type for name in labels if not is_outside(name) and (tag := parse_tag(name))})
        if not types:
            raise ConfigError("behavioural checks of words' labels are of entities; this model's labels mark none")
        return Entities(types)
    if "label" in columns:
        return Labels(labels or NEXT_SENTENCE_NAMES)
    if "labels" in columns:
        return LabelSets(labels)
    if "values" in columns:
        return Numbers(labels, "values")
    if "cosine" in columns:
        return Numbers(["cosine"], "cosine")
    for column in ("answer", "candidate"):
        if column in columns:
            return Texts(column)
    raise ConfigError(f"behavioural checks expect labels, numbers, entities or answers; a model of {task!r} gives none")


def _label(value: Located, filled: Read, names: Sequence[str]) -> str:
    name = filled(value.text("an expected label"))
    value.known("label", name, dict.fromkeys(names))
    return name


def _are_near(expected: Mapping[str, float], given: Mapping[str, float], tolerance: float) -> bool:
    return all(abs(given[name] - value) <= tolerance for name, value in expected.items())
