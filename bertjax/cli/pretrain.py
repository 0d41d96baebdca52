"""`bertjax pretrain`: masked-LM continued pre-training on the user's own text; `finetune` with other defaults.

Source: BERT, section 3.1, task 1; whole words as in the authors' later checkpoints; why to go on with one's own text
before fine-tuning: Gururangan et al. 2020 (arXiv:2004.10964).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from bertjax.cli import finetune
from bertjax.cli.flags import parse
from bertjax.data.encode.masking_settings import Masking


@dataclass(frozen=True)
class TextFlags(finetune.TableFlags):
    """A `Table` of plain text, of which little is held out."""

    train: str = tyro.MISSING
    """Text to train on: a file with a text a line (`corpus.txt`), a pattern of several, files with one text each
    (`--documents file`), or a table and its --text-columns."""

    test_size: float | None = 0.05
    """Texts to hold out where there is no test file: a count (1 or more) or a share. Perplexity is measured on them."""


@dataclass(frozen=True)
class OptimizerFlags(finetune.OptimizerFlags):
    """An `Optimizer` that does not forget what the checkpoint knows."""

    learning_rate: float | None = 5e-5
    """Peak learning rate."""


@dataclass(frozen=True)
class Arguments(finetune.Arguments):
    """Go on pre-training a BERT on your own text: whole words are hidden, others in each epoch, and it fills them in.

    The result is a model folder like any other: `bertjax finetune --model OUT/model` starts from it.
    """

    data: TextFlags = field(default_factory=TextFlags)

    task: Annotated[Literal["masked_lm"], tyro.conf.Suppress] = "masked_lm"

    optimizer: OptimizerFlags = field(default_factory=OptimizerFlags)

    masking: Masking = field(default_factory=lambda: Masking(whole_words=True))


def main(arguments: Sequence[str]) -> int:
    """Runs the job and prints loss and perplexity on the held-out text."""
    return finetune.run(parse(Arguments, arguments, "bertjax pretrain"), "pretrain", arguments)
