"""How positive a text is, from -4 to 4: movie reviews in snippets, MiniLM-L6, 3 epochs.

Data       10,603 distinct snippets of movie reviews, each with the mean score of 20 readers (Hutto and Gilbert 2014);
           a tenth is held out.
Published  correlation of VADER, the rules of the same authors, with the mean of the readers: .451 (their table 4).
Expected   correlation .827, squared error 1.21 (seed 0; a PyTorch loop on the same split .828 and 1.22).
Cost       about 5 minutes a seed on two CPU cores.
Command    python experiments/sentiment_regression.py --seeds 0 1 2
"""

from bertjax import FineTuneConfig, PublishedScore, Table, run_experiment

CONFIG = FineTuneConfig(task="regression", data=Table("snippets-movies", test_size=0.1), epochs=3)
PUBLISHED = PublishedScore("VADER (Hutto and Gilbert 2014)", {"test/pearson": 0.451})

if __name__ == "__main__":
    run_experiment("sentiment_regression", CONFIG, PUBLISHED)
