"""Settings: what is looked for in a table, and which rows a clean copy lacks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from bertjax.settings import Count, Range, Seed, check_ranges

DEFAULT_THRESHOLD = 0.6  # of eight words two may be others, and of five one

Drop = Literal["empty", "leaks", "contradictions", "duplicates", "near_duplicates"]
"""A rule by which rows are left out, see `bertjax.eda.clean`."""


@dataclass(frozen=True)
class Exploration:
    """How a table is looked at."""

    near_duplicates: Annotated[float, Range(0.3, 1)] = DEFAULT_THRESHOLD
    """Share of words that two texts must have in common to be near-duplicates: words in both over words in either."""

    date_column: str | None = None
    """Column of dates, over which labels, lengths and words may drift."""

    sample_rows: Count = 100_000
    """Rows to look at, chosen at random where the table has more; --write-clean looks at all."""

    seed: Seed = 0
    """Of that sample, and of the search for near-duplicates."""

    def __post_init__(self) -> None:
        check_ranges(self)
