"""`Masking`: settings of the masks of a masked language model; `masking` applies them."""

from dataclasses import dataclass

from bertjax.settings import require


@dataclass(frozen=True)
class Masking:
    """Which tokens a masked language model learns to fill in (BERT, section 3.1, task 1)."""

    mask_share: float = 0.15
    """Share of each text's tokens to predict, at least one; other ones in each epoch."""

    whole_words: bool = False
    """Choose words, and hide all of their pieces, instead of single pieces."""

    def __post_init__(self) -> None:
        require(0 < self.mask_share < 1, "mask_share must be between 0 and 1", self.mask_share)
