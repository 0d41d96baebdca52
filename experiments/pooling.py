"""What a classifier reads of BERT: the trained pooler, the state of [CLS], or the mean of all tokens. TREC, 3 epochs.

Data       5,381 distinct questions in 6 classes (Li and Roth 2002), of which 500 are held out, stratified.
Published  none for this model: MiniLM-L6 was distilled as a sentence encoder that takes the mean.
Expected   not known yet: experiments/README.md says what was run.
Cost       about 8 minutes a seed on two CPU cores, for all three.
Command    python experiments/pooling.py --seeds 0 1 2
"""

import bertjax

CONFIG = bertjax.FineTuneConfig(data=bertjax.Table("trec"), epochs=3)
PUBLISHED = bertjax.PublishedScore("PyTorch, same recipe, the pooler", {"test/accuracy": 0.938})


def main(flags: bertjax.ExperimentFlags) -> int:
    """Runs each way over the seeds, and prints a table of each."""
    status = 0
    for pooling in ("pooler", "cls", "mean"):
        config = bertjax.override(CONFIG, {"pooling": pooling})
        out = flags.folder("pooling") / pooling
        status |= bertjax.run_seeds(f"pooling {pooling}", config, PUBLISHED, flags, out)
    return status


if __name__ == "__main__":
    bertjax.run_script("pooling", main)
