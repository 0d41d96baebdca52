"""`LabelingFunction`: a function from a text to a vote for a class, and the kinds of them.

    from bertjax.labeling import keywords, labeling_function

    @labeling_function
    def asks_for_money(text):
        return "spam" if "$$$" in text else None

    greets = keywords("ham", "dear", "kind regards")

A vote is a label, None for no opinion, or a mapping of labels to probabilities. Models are loaded when they first vote.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from bertjax.data.rows.cells import label_text
from bertjax.data.rows.terms import Terms, read_terms
from bertjax.errors import ConfigError
from bertjax.user_files import accepts

if TYPE_CHECKING:
    from bertjax.inference.predictor import Predictor

Vote = str | int | Mapping[str, float] | None
"""A label, probabilities of labels, or None where the function abstains."""


class LabelingFunction(NamedTuple):
    """A function that votes for a class where it has an opinion.

    Attributes:
      name: as the table of functions shows it.
      function: (text) -> vote, or (text, cells by column) -> vote; with `at_once` (all texts) -> votes.
      labels: those that it can vote for; None where only its votes tell.
      at_once: whether it reads all texts together, as models do.
      takes_row: whether it reads the cells of a row too.
      line: of the user's file that it begins on; None where it is made by a call.
    """

    name: str
    function: Callable[..., Any]
    labels: tuple[str, ...] | None = None
    at_once: bool = False
    takes_row: bool = False
    line: int | None = None

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns, so that a decorated one can be called as before."""
        return self.function(*arguments)


@overload
def labeling_function(function: Callable[..., Any]) -> LabelingFunction: ...
@overload
def labeling_function(*, name: str) -> Callable[[Callable[..., Any]], LabelingFunction]: ...
def labeling_function(function: Callable[..., Any] | None = None, *, name: str | None = None) -> Any:
    """Decorates a function of a text, or of a text and its row (the cells by column), that returns a vote.

    Args:
      function: the decorated one.
      name: for the table of functions; default: the function's own.

    Raises:
      ConfigError: it does not take a text, or a text and a row.
    """
    if function is None:
        return lambda decorated: from_callable(decorated, name)
    return from_callable(function, name)


def from_callable(function: Any, name: str | None = None) -> LabelingFunction:
    """A labelling function of any callable.

    Raises:
      ConfigError: it cannot be called with a text, or a text and a row.
    """
    if isinstance(function, LabelingFunction):
        return function
    shown = name or getattr(function, "__name__", None) or type(function).__name__
    if not callable(function):
        raise ConfigError(f"{function!r} is no labelling function; write one that takes a text, and returns a label")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(f"{shown} is a coroutine or a generator; write a function that returns a label, or None")
    takes = [count for count in (1, 2) if accepts(function, count)]
    if not takes:
        raise ConfigError(f"{shown}{inspect.signature(function)} does not take a text, or a text and a row; change it")
    code = getattr(function, "__code__", None)
    return LabelingFunction(shown, function, takes_row=takes == [2], line=getattr(code, "co_firstlineno", None))


def keywords(label: str, *words: str, name: str | None = None) -> LabelingFunction:
    """Votes for a label where a text has one of some words or phrases, whatever their case; never inside longer words.

    Args:
      label: to vote for.
      words: the words and phrases.
      name: default: `keywords: WORD` with the first one.

    Raises:
      ConfigError: there are none.
    """
    return gazetteer(dict.fromkeys(words, label), name=name or f"keywords: {words[0] if words else ''}")


def gazetteer(
    terms: Mapping[str, str] | str | Path, label: str | None = None, name: str | None = None
) -> LabelingFunction:
    """Votes for the label of the terms that a text has, whatever their case; of two labels for that of more terms.

    Args:
      terms: term -> label; or a text file, with a term and its label in each line and a tab between them, or with a
        term in each line where `label` is given.
      label: of all terms of a file.
      name: default: `gazetteer: FILE`.

    Raises:
      ConfigError: there are no terms.
      DataError: the file cannot be read, or has a line that is not so.
    """
    shown = name or f"gazetteer: {Path(terms).name if isinstance(terms, str | Path) else next(iter(terms), '')}"
    labels = read_terms(terms, label) if isinstance(terms, str | Path) else dict(terms)
    if not labels:
        raise ConfigError(f"{shown} has no terms; give some")
    known = {term: _label(of_term, shown) for term, of_term in labels.items()}
    return LabelingFunction(shown, Terms(known).vote, _distinct(known.values()))


def regex(label: str, pattern: str, flags: int = re.IGNORECASE, name: str | None = None) -> LabelingFunction:
    """Votes for a label where a regular expression is found in a text.

    Args:
      label: to vote for.
      pattern: as of Python's `re`.
      flags: as of Python's `re`; default: whatever the case.
      name: default: `regex: PATTERN`.

    Raises:
      ConfigError: it is no regular expression.
    """
    shown = name or f"regex: {pattern}"
    try:
        found = re.compile(pattern, flags).search
    except re.error as error:
        raise ConfigError(f"{shown} is no regular expression: {error}") from None
    vote = _label(label, shown)
    return LabelingFunction(shown, lambda text: vote if found(text) else None, (vote,))


def model_votes(
    model: str | Path,
    labels: Mapping[str, str | None] | None = None,
    soft: bool = True,
    threshold: float = 0.0,
    max_length: int | None = None,
    name: str | None = None,
) -> LabelingFunction:
    """The classes that another model predicts, as votes of the probabilities that it gives them.

    Args:
      model: of a classification: a folder, a hub id, or `models:/NAME@ALIAS` of MLflow's registry.
      labels: class of the model -> label to vote for, or None to abstain; a class that is missing abstains. Default:
        each class is a label.
      soft: whether probabilities are voted for, or the most probable class alone.
      threshold: probability of the label below which it abstains.
      max_length: longest text in tokens; default: the model's own.
      name: default: `model: NAME`.
    """
    shown = name or f"model: {model}"

    def votes(texts: Sequence[str]) -> list[Vote]:
        predictor = _predictor(str(model), max_length, None)
        classes = predictor.model.labels
        mapping = dict(labels) if labels is not None else {name: name for name in classes}
        if unknown := [name for name in mapping if name not in classes]:
            raise ConfigError(f"{shown}: the model has no class {unknown[0]!r}; it has {', '.join(classes)}")
        predictions = predictor(texts)
        if any("probabilities" not in prediction for prediction in predictions):
            raise ConfigError(f"{shown}: a model of task {predictor.model.task!r} gives no probabilities of classes")
        return [_mapped(prediction["probabilities"], mapping, soft, threshold) for prediction in predictions]

    declared = None if labels is None else _distinct(label for label in labels.values() if label is not None)
    return LabelingFunction(shown, votes, declared, at_once=True)


def similar_to(
    examples: Mapping[str, Sequence[str]],
    model: str | Path = "minilm-l6",
    threshold: float = 0.5,
    pooling: str | None = None,
    name: str | None = None,
) -> LabelingFunction:
    """Votes for the label whose example sentence is nearest to a text, by the cosine of their vectors.

    Args:
      examples: label -> sentences.
      model: whose vectors are compared (`Predictor.embed`).
      threshold: the cosine from which it votes.
      pooling: how a text becomes one vector; default: as the model was saved, or their mean where it does not say.
      name: default: `similar to: LABELS`.

    Raises:
      ConfigError: there are no sentences.
    """
    shown = name or f"similar to: {', '.join(examples)}"
    sentences = [(_label(label, shown), text) for label, texts in examples.items() for text in texts]
    if not sentences:
        raise ConfigError(f"{shown} has no example sentences; give some")
    of_sentence = [label for label, _ in sentences]

    def votes(texts: Sequence[str]) -> list[Vote]:
        predictor = _predictor(str(model), None, pooling)
        if pooling is None and not predictor.has_vectors:
            predictor = _predictor(str(model), None, "mean")
        cosines = predictor.embed(texts) @ predictor.embed([text for _, text in sentences]).T
        nearest = cosines.argmax(axis=1)
        is_near = np.take_along_axis(cosines, nearest[:, None], axis=1)[:, 0] >= threshold
        return [of_sentence[i] if near else None for i, near in zip(nearest.tolist(), is_near.tolist(), strict=True)]

    return LabelingFunction(shown, votes, _distinct(of_sentence), at_once=True)


def _mapped(probabilities: Mapping[str, float], labels: Mapping[str, str | None], soft: bool, threshold: float) -> Vote:
    """The vote of a prediction: None where its most probable class is no label, or not probable enough."""
    shares: dict[str, float] = {}
    for name, probability in probabilities.items():
        label = labels.get(name)
        if label is not None:
            shares[label] = shares.get(label, 0.0) + probability
    best = max(shares, key=lambda label: shares[label], default=None)
    if best is None or shares[best] < max(threshold, 1 - sum(shares.values())):
        return None
    return shares if soft else best


def _label(label: Any, name: str) -> str:
    """A label as every vote for it is written.

    Raises:
      ConfigError: it is none.
    """
    text = None if isinstance(label, bool) else label_text(label, merge=True)
    if not text:
        raise ConfigError(f"{name}: {label!r} is no label; give text or a whole number")
    return text


def _distinct(labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(labels))


@lru_cache(maxsize=4)
def _predictor(model: str, max_length: int | None, pooling: Any) -> "Predictor":
    """A model, loaded once for all functions that ask it."""
    from bertjax.inference.predictor import Predictor

    return Predictor.load(model, max_length=max_length, pooling=pooling)
