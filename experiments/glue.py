"""GLUE: nine tasks of understanding language, each by its own metric, 3 epochs.

Data       the tasks' folders of https://gluebenchmark.com/tasks (CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE,
           WNLI), each with train.tsv and dev.tsv, in the folder that --data names, or in `glue` below BERTJAX_DATA.
Published  the dev scores of BERT-base-cased (transformers' examples), beside each result.
Expected   not run here: the files are not in a package index.
Cost       about 3 hours on one GPU for BERT-base and all tasks; --variants chooses some.
Command    python experiments/glue.py --data glue --model bert-base-cased --variants RTE MRPC --seeds 0
"""

from pathlib import Path
from typing import NamedTuple

import bertjax


class GlueTask(NamedTuple):
    """The columns of a task's files, and what is published."""

    text: str
    pair: str | None
    label: str
    published: dict[str, float]
    dev: str = "dev"
    also: str | None = None  # further rows to judge
    task: str = "classification"
    columns: tuple[str, ...] = ()  # of files without a header


TASKS = {
    "CoLA": GlueTask("text", None, "label", {"test/mcc": 0.5653}, columns=("source", "label", "mark", "text")),
    "SST-2": GlueTask("sentence", None, "label", {"test/accuracy": 0.9232}),
    "MRPC": GlueTask("#1 String", "#2 String", "Quality", {"test/class/1/f1": 0.8885, "test/accuracy": 0.8407}),
    "STS-B": GlueTask(
        "sentence1", "sentence2", "score", {"test/pearson": 0.8864, "test/spearman": 0.8848}, task="regression"
    ),
    "QQP": GlueTask("question1", "question2", "is_duplicate", {"test/accuracy": 0.9071, "test/class/1/f1": 0.8749}),
    "MNLI": GlueTask(
        "sentence1", "sentence2", "gold_label", {"test/accuracy": 0.8391}, dev="dev_matched", also="dev_mismatched"
    ),
    "QNLI": GlueTask("question", "sentence", "label", {"test/accuracy": 0.9066}),
    "RTE": GlueTask("sentence1", "sentence2", "label", {"test/accuracy": 0.6570}),
    "WNLI": GlueTask("sentence1", "sentence2", "label", {"test/accuracy": 0.5634}),
}
CONFIG = bertjax.FineTuneConfig(
    data=bertjax.Table("train.tsv", test="dev.tsv", delimiter="\t", quoting="off", on_bad_row="skip"),  # QQP has some
    epochs=3,
    optimizer=bertjax.Optimizer(learning_rate=2e-5),
)
PUBLISHED = bertjax.PublishedScore("BERT-base-cased (transformers)", TASKS["RTE"].published)
WHERE = "https://gluebenchmark.com/tasks has the tasks' folders"


def sample(folder: Path) -> Path:
    """A few rows of our own for each task, in the layout of its files."""
    for name, task in TASKS.items():
        header = task.columns or tuple(filter(None, (task.text, task.pair, task.label)))
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in filter(None, ("train", task.dev, task.also)):
            lines = [] if task.columns else ["\t".join(header)]
            for i in range(24):
                label = f"{i % 6}.{i % 10}" if task.task == "regression" else str(i % 2)
                cells = {task.text: f"{file} has film number {i}, a {('bad', 'good')[i % 2]} one", task.label: label}
                lines.append("\t".join(cells.get(column, f"it is number {i}") for column in header))
            (folder / name / f"{file}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def with_header(file: Path, columns: tuple[str, ...]) -> Path:
    """A copy of a file whose columns have no names, with names."""
    copy = Path("runs/glue-tables") / file.parent.name / file.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text("\t".join(columns) + "\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    return copy


def main(flags: bertjax.ExperimentFlags) -> int:
    """Runs the tasks one after the other, and prints a table of each."""
    if unknown := set(flags.variants) - set(TASKS):
        raise bertjax.UserError(f"--variants {min(unknown)} is no task of GLUE; they are {', '.join(TASKS)}")
    names = flags.variants or (("CoLA", "STS-B", "MNLI") if flags.smoke else tuple(TASKS))
    own = sample(Path("runs/glue-sample")) if flags.smoke and flags.data is None else None
    status = 0
    for name in names:
        task = TASKS[name]
        files = f"{name}/train.tsv", f"{name}/{task.dev}.tsv"
        folder = own or bertjax.tables_folder("glue", flags.data, files, WHERE)
        train, dev = (with_header(folder / file, task.columns) if task.columns else folder / file for file in files)
        changes = {
            "task": task.task,
            "data.train": str(train),
            "data.test": str(dev),
            "data.text": (task.text,),
            "data.text_pair": (task.pair,) if task.pair else (),
            "data.label": task.label,
            "epochs": 5 if name in ("MRPC", "WNLI") else CONFIG.epochs,
        }
        published = bertjax.PublishedScore(PUBLISHED.source, task.published)
        config = bertjax.override(CONFIG, changes)
        out = flags.folder("glue") / name
        status |= bertjax.run_seeds(f"GLUE {name}", config, published, flags, out)
        if task.also is not None:
            for seed in flags.seeds:
                judged = bertjax.evaluate(out / f"seed-{seed}" / "model", folder / name / f"{task.also}.tsv")
                print(f"{name}, {task.also}, seed {seed}: accuracy {judged.report.metrics['accuracy']:.4f}")
    return status


if __name__ == "__main__":
    bertjax.run_script("glue", main)
