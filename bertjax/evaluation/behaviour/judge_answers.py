"""What a model's answers say of its behaviour: each case has passed, has failed, or tests nothing."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from bertjax.evaluation.behaviour.answer_kinds import AnswerKind
from bertjax.evaluation.behaviour.read_checks import Case, Check
from bertjax.evaluation.behaviour.templates import fill
from bertjax.tasks.postprocess import Prediction

Status = Literal["passed", "failed", "not applicable"]
Judge = Callable[[Case, Prediction, Prediction | None], "Outcome"]
"""(case, answer to its text, answer to the changed text) -> outcome."""

# What other batches of the same texts make of a number; a smaller movement is none.
_NOISE = 1e-5
# Direction -> whether a difference, after the change minus before, goes there.
_DIRECTIONS: Mapping[str, Callable[[float, float], bool]] = {
    "up": lambda difference, least: difference > least,
    "down": lambda difference, least: difference < -least,
    "not up": lambda difference, least: difference <= least,
    "not down": lambda difference, least: difference >= -least,
}


class Outcome(NamedTuple):
    """What came of a case.

    Attributes:
      case: it was.
      status: whether the model behaves.
      expected, got: in words; empty where the case is not applicable.
      probability: of the answer to the text, the changed one where there is one; None where it has none.
    """

    case: Case
    status: Status
    expected: str = ""
    got: str = ""
    probability: float | None = None


def judge_of(check: Check, kind: AnswerKind) -> Judge:
    """How the answers to the cases of a check are judged.

    Args:
      check: of a file.
      kind: of the model's answers.

    Raises:
      ConfigError: the check expects what the model cannot answer.
    """
    if check.kind == "direction":
        return _direction(check, kind)
    for case in check.cases:  # a mistake is told before anything is computed
        _expected(check, kind, case)
    return partial(_minimum if check.kind == "minimum_functionality" else _invariance, check, kind)


def _expected(check: Check, kind: AnswerKind, case: Case) -> Any:
    if check.expect is None:
        return None

    def filled(text: str) -> str:
        return text if case.fillings is None else fill(text, case.fillings)

    return kind.read(check.expect, filled, check.tolerance)


def _minimum(check: Check, kind: AnswerKind, case: Case, answer: Prediction, changed: Prediction | None) -> Outcome:
    expected = _expected(check, kind, case)
    status: Status = "passed" if kind.meets(answer, expected, check.tolerance) else "failed"
    return Outcome(case, status, kind.shown_expected(expected), kind.shown(answer), kind.probability(answer))


def _invariance(check: Check, kind: AnswerKind, case: Case, before: Prediction, after: Prediction | None) -> Outcome:
    if after is None:
        return Outcome(case, "not applicable")
    has_passed = kind.is_same(before, after, check.tolerance)
    expected = kind.shown(before)
    if check.expect is not None:
        wanted = _expected(check, kind, case)
        has_passed &= kind.meets(before, wanted, check.tolerance) and kind.meets(after, wanted, check.tolerance)
        expected = f"{kind.shown_expected(wanted)}, before: {expected}"
    near = "" if check.tolerance is None else f" (within {check.tolerance:g})"
    status: Status = "passed" if has_passed else "failed"
    return Outcome(case, status, f"{expected}{near}", kind.shown(after), kind.probability(after))


def _direction(check: Check, kind: AnswerKind) -> Judge:
    wanted = _read_directions(check, kind)
    least = _NOISE if check.tolerance is None else max(check.tolerance, _NOISE)

    def judge(case: Case, before: Prediction, after: Prediction | None) -> Outcome:
        if after is None:
            return Outcome(case, "not applicable")
        old, new = kind.amounts(before), kind.amounts(after)
        has_passed = all(_DIRECTIONS[way](new[name] - old[name], least) for name, way in wanted.items())
        return Outcome(
            case,
            "passed" if has_passed else "failed",
            ", ".join(f"{name} {way}" for name, way in wanted.items()),
            ", ".join(f"{name} {old[name]:.4f} to {new[name]:.4f}" for name in wanted),
            kind.probability(after),
        )

    return judge


def _read_directions(check: Check, kind: AnswerKind) -> dict[str, str]:
    """What should move where.

    Raises:
      ConfigError: it is unknown, or nothing of the model's answers moves.
    """
    value = check.direction
    assert value is not None, "a check of this kind has one"
    names: Sequence[str] = kind.movable()
    if not names:
        raise value.wrong("nothing in this model's answers moves up or down; write a check of another kind")
    if isinstance(value.content, str) and len(names) == 1:
        entries = {names[0]: value}
    elif isinstance(value.content, str):
        raise value.wrong(f"'direction' names what moves, such as {{{names[0]}: {value.content}}}")
    else:
        entries = value.mapping("'direction'")
    directions = {}
    for name, way in entries.items():
        way.known("label", name, dict.fromkeys(names))
        directions[name] = way.text("a direction")
        way.known("direction", directions[name], _DIRECTIONS)
    return directions
