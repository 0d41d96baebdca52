"""How many labelled questions of each class it takes: TREC with 4 to 64 a class, MiniLM-L6, 10 epochs.

Data       5,381 distinct questions in 6 classes (Li and Roth 2002), of which 500 are held out, stratified; of the
           others so many of each class as the table says, drawn anew by each seed.
Published  0.938 with all 4,881: a plain PyTorch loop over transformers' BertModel on the same split.
Expected   not known yet: experiments/README.md says what was run.
Cost       about 4 minutes a seed on two CPU cores.
Command    python experiments/few_shot.py --seeds 0 1 2
"""

import sys

import bertjax

CONFIG = bertjax.FineTuneConfig(data=bertjax.Table("trec"), epochs=10)
PUBLISHED = bertjax.PublishedScore("PyTorch, all rows", {"test/accuracy": 0.938})


def main(flags: bertjax.ExperimentFlags) -> int:
    """Draws the learning curve, prints its scores, and tells of the runs that have none."""
    examples = (4,) if flags.smoke else (4, 16, 64)
    config = bertjax.override(flags.settings(CONFIG), {"data.per_class": None})
    out = flags.folder("few_shot")
    curve = bertjax.finetune_curve(config, examples, flags.seeds, out, if_exists=flags.if_exists)
    for key, value in curve.finding.metrics.items():
        if "accuracy" in key:
            print(f"{key:45} {value:.4f}")
    for error in curve.diverged:
        print(f"bertjax: {error}", file=sys.stderr)
    return min(len(curve.diverged), 1)


if __name__ == "__main__":
    bertjax.run_script("few_shot", main)
