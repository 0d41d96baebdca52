"""Machine-learning projects by topic: title and description to one of 4 tags, MiniLM-L6, 10 epochs.

Data       764 labelled projects and 191 held out by their publisher (Made-With-ML), 20 words on average.
Published  SciBERT, 10 epochs: weighted precision .9139, recall .9110, F1 .9115 (Made-With-ML notebook).
Expected   weighted F1 0.94 to 0.96, with a model of a fifth of SciBERT's size.
Threshold  `other` below 0.9 keeps 95% of the labels and lowers weighted F1 by 0.02 (seed 0: .963 to .940); fitted on
           validation rows, no threshold helps. bertjax evaluate --model runs/projects/seed-0/model --threshold 0.9
           --data holdout.csv
Slices     micro F1 of SciBERT: nlp_llm 1.0 (28 rows), short_text .857 (7 rows, 6 of them right). Those of a run:
           bertjax evaluate --model runs/projects/seed-0/model --data holdout.csv --slices experiments/projects.py
Behaviour  seven checks over eight texts, Made-With-ML's: all pass for seeds 0, 1 and 2, the least sure answer .97. A
           text that says nothing, "this is random noise", still gets a topic: .89, .84 and .75. bertjax evaluate
           --model runs/projects/seed-0/model --behaviour experiments/projects_behaviour.yaml --min-pass-rate 1
Cleaning   --variants classic: the publisher's own, without punctuation, stop words and links.
Cost       about 3 minutes a seed on two CPU cores.
Command    python experiments/projects.py --seeds 0 1 2
"""

from typing import Any

from bertjax import FineTuneConfig, PublishedScore, Table, data_folder, override, run_experiment, slice_function

SOURCE = data_folder("projects", "https://raw.githubusercontent.com/GokuMohandas/Made-With-ML/main/datasets")

CONFIG = FineTuneConfig(
    model="minilm-l6",
    data=Table(f"{SOURCE}/dataset.csv", test=f"{SOURCE}/holdout.csv", text=("title", "description"), label="tag"),
    epochs=10,
)
VARIANTS = {"classic": override(CONFIG, {"data.steps": ("classic",)})}  # the publisher's own cleaning of texts
PUBLISHED = PublishedScore(
    "SciBERT (Made-With-ML)",
    {"test/precision_weighted": 0.9139, "test/recall_weighted": 0.9110, "test/f1_weighted": 0.9115},
)


@slice_function
def nlp_llm(row: Any) -> bool:
    """Projects of natural language processing about large language models."""
    text = f"{row.title} {row.description}".lower()
    return row.tag == "natural-language-processing" and any(term in text for term in ("transformer", "llm", "bert"))


@slice_function
def short_text(row: Any) -> bool:
    """Projects of fewer than 8 words."""
    return len(f"{row.title} {row.description}".split()) < 8


if __name__ == "__main__":
    run_experiment("projects", CONFIG, PUBLISHED, variants=VARIANTS)
