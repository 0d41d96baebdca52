"""`ExplainOptions`: what is asked of explanations. It imports little, as flags are made of it."""

from dataclasses import dataclass
from typing import Literal

from bertjax.settings import Count, CountFromZero

Method = Literal["integrated_gradients", "rollout", "occlusion", "lime"]


@dataclass(frozen=True)
class ExplainOptions:
    """How texts are explained."""

    method: Method = "integrated_gradients"
    """What weighs the words: `integrated_gradients`, whose weights add up to the difference that the words make; a word
    hidden at a time (`occlusion`); many random words hidden at a time and a linear model of what that does (`lime`,
    from the extra [analysis]); or where attention looks (`rollout`), which is the same for every label."""

    label: str | None = None
    """The label whose score is explained; default: the one that the model gives, of numbers the first. Where a model
    answers questions: `answer` (its first and last token together), `start`, `end`, or `no answer`."""

    word: str | None = None
    """Of a model that labels words: the word, or the words beside each other, whose label is explained, as the text has
    them; default: the first entity, or the first word where there is none."""

    samples: Count = 250
    """Texts with hidden words that LIME makes of a text."""

    seed: CountFromZero = 0
    """Of these texts; the same seed gives the same weights."""
