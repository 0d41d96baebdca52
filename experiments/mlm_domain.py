"""Does it help to go on pre-training on texts of one's own before fine-tuning on few labelled ones?

Data       10,605 snippets of movie reviews (Hutto and Gilbert 2014): the text of all is read, and the scores of about
           500 are learned from; the others are asked about.
Published  it helps most where labelled rows are few and the domain is far from what BERT has read (Gururangan et al.
           2020), for RoBERTa on 8 tasks; for this model there is nothing published.
Expected   not known yet: experiments/README.md says what was run.
Cost       about 15 minutes a seed on two CPU cores, most of it pre-training.
Command    python experiments/mlm_domain.py --seeds 0 1 2
"""

from dataclasses import replace
from pathlib import Path

import bertjax

CONFIG = bertjax.FineTuneConfig(
    task="regression", data=bertjax.Table("snippets-movies", test_size=10_105), epochs=10, max_length=64
)
PRETRAINING = bertjax.FineTuneConfig(
    task="masked_lm",
    data=bertjax.Table("snippets-movies", test_size=0.05),
    epochs=3,
    max_length=64,
    optimizer=bertjax.Optimizer(learning_rate=5e-5),
    masking=bertjax.Masking(whole_words=True),
)
PUBLISHED = bertjax.PublishedScore("VADER, which learns from none", {"test/pearson": 0.451})
FEW = 300  # snippets, to try whether all of it runs: 30,522 scores of each masked token cost a small network most


def few_snippets(folder: Path) -> dict[str, str | int]:
    """Writes a table of the first snippets; returns the settings that read it, and hold out a third."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "few.csv"
    bertjax.read_table("snippets-movies").frame.head(FEW).to_csv(table, index=False)
    return {"data.train": str(table), "data.test_size": FEW // 3}


def main(flags: bertjax.ExperimentFlags) -> int:
    """Fine-tunes with and without the pre-training, over the seeds."""
    out = flags.folder("mlm_domain")
    changes = few_snippets(out) if flags.smoke else {}
    pretraining, config = (bertjax.override(each, changes) for each in (PRETRAINING, CONFIG))
    pretrained = bertjax.finetune(flags.settings(pretraining), out / "pretraining", if_exists=flags.if_exists)
    status = bertjax.run_seeds("without", config, PUBLISHED, flags, out / "without")
    return status | bertjax.run_seeds(
        "with", config, PUBLISHED, replace(flags, model=str(pretrained.model_dir)), out / "with"
    )


if __name__ == "__main__":
    bertjax.run_script("mlm_domain", main)
