"""SQuAD 1.1: answers to questions as spans of a paragraph, windows of 384 tokens, 2 epochs.

Data       train-v1.1.json and dev-v1.1.json of https://rajpurkar.github.io/SQuAD-explorer/, in the folder that --data
           names, or in `squad` below BERTJAX_DATA.
Published  F1 .8852, exact match .8122 of BERT-base-uncased on 1.1, batches of 12 (transformers' examples).
Expected   not run here: the files are not in a package index.
Cost       about 25 minutes on one GPU for BERT-base.
Command    python experiments/squad.py --data squad --model bert-base-uncased --seeds 0
"""

import json
from pathlib import Path

import bertjax

CONFIG = bertjax.FineTuneConfig(
    task="question_answering",
    data=bertjax.Table("train-v1.1.json", test="dev-v1.1.json", doc_stride=128),
    epochs=2,
    batch_size=12,
    max_length=384,
    optimizer=bertjax.Optimizer(learning_rate=3e-5),
)
PUBLISHED = bertjax.PublishedScore("BERT-base-uncased (transformers)", {"test/f1": 0.8852, "test/exact_match": 0.8122})
FILES = ("train-v1.1.json", "dev-v1.1.json")
WHERE = "https://rajpurkar.github.io/SQuAD-explorer/ has train-v1.1.json and dev-v1.1.json"


def sample(folder: Path) -> Path:
    """A few questions of our own, in SQuAD's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, animal in zip(FILES, ("cat", "fox"), strict=True):
        context = f"The {animal} sat on the mat. The dog slept under the table, and the bird sang in the tree."
        asked = {
            f"Who saw the {animal} sit?": "the bird",
            f"Where did the dog and the {animal} sleep?": "under the table",
        }
        questions = [
            {"id": str(i), "question": question, "answers": [{"text": answer, "answer_start": context.index(answer)}]}
            for i, (question, answer) in enumerate(asked.items())
        ]
        paragraph = {"context": context, "qas": questions}
        content = {"version": "1.1", "data": [{"title": animal, "paragraphs": [paragraph]}]}
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
    return folder


def main(flags: bertjax.ExperimentFlags) -> int:
    """Trains on the files of a folder."""
    own = sample(flags.tables("squad")) if flags.smoke and flags.data is None else None
    folder = own or bertjax.tables_folder("squad", flags.data, FILES, WHERE)
    changes = {"data.train": str(folder / "train-v1.1.json"), "data.test": str(folder / "dev-v1.1.json")}
    return bertjax.run_seeds("squad", bertjax.override(CONFIG, changes), PUBLISHED, flags, flags.folder("squad"))


if __name__ == "__main__":
    bertjax.run_script("squad", main)
