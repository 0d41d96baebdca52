"""TREC question classification: MiniLM-L6, 3 epochs.

Data       5,381 distinct questions in 6 classes (Li and Roth 2002), of which 500 are held out, stratified. The public
           test set of 500 is not in the package that the catalog takes the questions from.
Published  0.938: a plain PyTorch loop over transformers' BertModel with the same recipe on the same split.
Expected   accuracy 0.940 to 0.956.
Cost       about 3 minutes a seed on two CPU cores.
Command    python experiments/trec.py --seeds 0 1 2
"""

from bertjax import FineTuneConfig, PublishedScore, Table, run_experiment

CONFIG = FineTuneConfig(model="minilm-l6", data=Table("trec"), epochs=3)
PUBLISHED = PublishedScore("PyTorch, same recipe", {"test/accuracy": 0.938})

if __name__ == "__main__":
    run_experiment("trec", CONFIG, PUBLISHED)
