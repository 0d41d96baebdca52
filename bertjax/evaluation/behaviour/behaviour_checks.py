"""`BehaviourCheck`: a check as its user writes it. Its fields are the keys of a check in a YAML file.

from bertjax import BehaviourCheck, behaviour_check

CHECKS = [
    BehaviourCheck("typos", "invariance", texts=["CNNs for text classification."], perturb=["typos", str.swapcase]),
]

@behaviour_check("minimum_functionality", expect="natural-language-processing")
def tasks_of_language():
    return [f"{model} for {task}." for model in ("RNNs", "BERT") for task in ("translation", "parsing")]
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bertjax.errors import ConfigError

Kind = Literal["minimum_functionality", "invariance", "direction"]


@dataclass(frozen=True)
class BehaviourCheck:
    """What a model must say of some texts.

    Attributes:
      name: of the check, its own in the file.
      kind: `minimum_functionality`: each text gets the expected answer; `invariance`: a changed text gets the answer of
        the text; `direction`: a changed text moves a probability or a number.
      texts: each a text, or a mapping of its parts: `text` and `pair`, or the columns of the model; `becomes` in the
        mapping gives one or more changed texts.
      templates: the same with slots, `{adjective} networks for {task}.`; every combination of fillers is a text.
      slots: slot -> what fills it; beside those of the whole file.
      vary: a slot that changes a text: the first filler makes the text, each other one a changed text.
      perturb: perturbations, each a changed text: names, a mapping of a name to its argument, in Python also functions.
      on: the parts that are perturbed; default: the first.
      expect: the answer: a label, a list of labels, a number, numbers by name, or a list of entities `{text: label}`.
      direction: label or name of a number -> `up`, `down`, `not up` or `not down`; the word alone for a single number.
      tolerance: how far numbers may lie apart, and for an invariance probabilities; in a direction, the least movement
        that counts.
      capability: what is tested, such as `vocabulary` or `negation`; default: the kind.
    """

    name: str
    kind: Kind
    texts: Sequence[Any] = ()
    templates: Sequence[Any] = ()
    slots: Mapping[str, Sequence[str]] | None = None
    vary: str | None = None
    perturb: Sequence[str | Mapping[str, Any] | Callable[[str], str | None]] = ()
    on: Sequence[str] = ()
    expect: Any = None
    direction: Mapping[str, str] | str | None = None
    tolerance: float | None = None
    capability: str | None = None

    @property
    def written(self) -> dict[str, Any]:
        """The fields that say something, by their names."""
        return {name: value for name, value in vars(self).items() if value is not None and value != ()}


def behaviour_check(
    kind: Kind, *, name: str | None = None, **settings: Any
) -> Callable[[Callable[[], Iterable[Any]]], BehaviourCheck]:
    """Decorates a function that returns the texts of a check.

    Args:
      kind: as of `BehaviourCheck`.
      name: of the check; default: the function's own.
      **settings: further fields of `BehaviourCheck`.

    Raises:
      ConfigError: there is no such field.
    """
    if unknown := settings.keys() - BehaviourCheck.__dataclass_fields__.keys():
        raise ConfigError(f"a behaviour check has no {min(unknown)!r}")
    return lambda function: BehaviourCheck(name or function.__name__, kind, texts=list(function()), **settings)
