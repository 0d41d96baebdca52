"""Names in tweets: 10 types of entities, MiniLM-L6, 10 epochs.

Data       2,394 tweets with 46,469 words (Ritter et al. 2011, types as in the shared task of W-NUT 2015); 99 are
           duplicates, and a fifth is held out.
Published  F1 of the entities with 10 types .5641, the best system of the shared task (Baldwin et al. 2015), on other
           tweets than the ones that are held out here.
Expected   not known yet for 10 epochs; after 3 of them F1 .496 (experiments/README.md).
Cost       about 4 minutes a seed on two CPU cores.
Command    python experiments/twitter_ner.py --seeds 0 1 2
"""

from bertjax import FineTuneConfig, Optimizer, PublishedScore, Table, run_experiment

CONFIG = FineTuneConfig(
    task="token_classification",
    data=Table("twitter-ner", test_size=0.2, tag_scheme="bio"),
    epochs=10,
    batch_size=16,
    optimizer=Optimizer(learning_rate=2e-4),
)
PUBLISHED = PublishedScore("best of W-NUT 2015 (Baldwin et al. 2015)", {"test/f1": 0.5641})

if __name__ == "__main__":
    run_experiment("twitter_ner", CONFIG, PUBLISHED)
