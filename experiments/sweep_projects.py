"""The projects table with MiniLM-L6: learning rate, batch size and pooling, by successive halving.

Data       the training rows of `projects.py`, a fifth of them held out for validation; the best config is tested on
           the test rows.
Published  SciBERT, 10 epochs: weighted F1 .9115 (Made-With-ML notebook).
Expected   weighted F1 .929 in validation and .954 in test: learning rate 1.9e-4, batches of 16, the pooler.
Cost       56 epochs, about 16 minutes on two CPU cores; without a scheduler 144 epochs and three quarters of an hour.
Command    bertjax sweep --config experiments/sweep_projects.py
"""

from bertjax import Choice, Evaluation, FineTuneConfig, LogUniform, Sweep, Table, data_folder

SOURCE = data_folder("projects", "https://raw.githubusercontent.com/GokuMohandas/Made-With-ML/main/datasets")

BASE = FineTuneConfig(
    model="minilm-l6",
    data=Table(
        f"{SOURCE}/dataset.csv",
        test=f"{SOURCE}/holdout.csv",
        text=("title", "description"),
        label="tag",
        validation_size=0.2,
    ),
    epochs=6,
    evaluation=Evaluation(best_metric="validation/f1_weighted"),
)
CONFIG = Sweep(
    base=BASE,
    space={
        "optimizer.learning_rate": LogUniform(1e-5, 1e-3),
        "batch_size": Choice((16, 32, 64)),
        "pooling": Choice(("pooler", "cls", "mean")),
    },
    samples=24,
    scheduler="asha",
    cpus=1,
)
