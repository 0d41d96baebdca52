"""`ExplainedMistakes`: which answers of an evaluation are explained. It imports little, as flags are made of it."""

from dataclasses import dataclass

from bertjax.settings import CountFromZero

EXPLANATIONS = "explanations.jsonl"


@dataclass(frozen=True)
class ExplainedMistakes:
    """Which answers are explained."""

    explain: CountFromZero = 0
    """Explain so many rows of each kind in the report: right and wrong answers, those that the model is most and least
    sure of; rows of different classes first."""
