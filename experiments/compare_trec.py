"""JAX against PyTorch on TREC: the same batches, losses, scores, speed and memory, over some seeds.

Data       5,381 distinct questions in 6 classes (Li and Roth 2002), of which 500 are held out, stratified.
Published  0.938: a plain PyTorch loop over transformers' BertModel with the same recipe on the same split.
Expected   macro F1 equal within the noise of seeds; the speed is in README.md.
Cost       about 8 minutes a seed on two CPU cores.
Command    python experiments/compare_trec.py --seeds 0 1 2 3 4
"""

import bertjax

CONFIG = bertjax.FineTuneConfig(data=bertjax.Table("trec"), epochs=3)
PUBLISHED = bertjax.PublishedScore("PyTorch, same recipe", {"test/accuracy": 0.938})


def main(flags: bertjax.ExperimentFlags) -> None:
    """Compares, and says where the report is."""
    config = flags.settings(CONFIG)
    summary = bertjax.compare(
        config, ("jax", "torch"), flags.seeds, flags.folder("compare_trec"), if_exists=flags.if_exists
    )
    print(f"{len(summary.sides)} frameworks; the report is {flags.folder('compare_trec') / 'report.html'}")


if __name__ == "__main__":
    bertjax.run_script("compare_trec", main)
