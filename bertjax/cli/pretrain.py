"""`bertjax pretrain`: masked-LM continued pre-training on the user's own text; `finetune` with other defaults.

Source: BERT, section 3.1, task 1; whole words as in the authors' later checkpoints; why one's own text helps before
fine-tuning: Gururangan et al. 2020 (arXiv:2004.10964).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from bertjax.cli.finetune import RunFlags, run_job
from bertjax.cli.flags.job_flags import parse_job

_CHANGES = {
    "task": {"default": "masked_lm", "text": None},
    "data.train": {
        "default": tyro.MISSING,
        "text": "Text to train on: a file with a text a line (`corpus.txt`), a pattern of several, files with one text "
        "each (`--documents file`), or a table and its --text-columns.",
    },
    "data.test_size": {
        "default": 0.05,
        "text": "Texts to hold out where there is no test file: a count (1 or more) or a share. Perplexity is measured "
        "on them.",
    },
    # A small rate, so that the checkpoint does not forget what it knows.
    "optimizer.learning_rate": {"default": 5e-5, "text": "Peak learning rate."},
    "masking.whole_words": {"default": True},
}


@dataclass(frozen=True)
class PretrainFlags(RunFlags):
    """Go on pre-training a BERT on your own text: whole words are hidden, others in each epoch, and it fills them in.

    The result is a model folder like any other: `bertjax finetune --model OUT/model` starts from it.
    """


def main(arguments: Sequence[str]) -> int:
    """Runs the job and prints loss and perplexity on the held-out text."""
    config, flags = parse_job(PretrainFlags, arguments, "bertjax pretrain", _CHANGES)
    return run_job(config, flags, "pretrain", arguments)
