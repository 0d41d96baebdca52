"""GLUE: nine tasks of understanding language, each by its own metric, 3 epochs.

Data       CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE and WNLI: the folders of https://gluebenchmark.com/tasks, each
           with train.tsv and dev.tsv, in the folder that --data names, or in `glue` below BERTJAX_DATA; where there is
           none, nyu-mll/glue of the Hugging Face hub.
Published  the dev scores of BERT-base-cased (transformers' examples), beside each result.
Expected   not run here: the files are not in a package index.
Cost       about 3 hours on one GPU for BERT-base and all tasks; --variants chooses some.
Command    python experiments/glue.py --data glue --model bert-base-cased --variants RTE MRPC --seeds 0
"""

from pathlib import Path
from typing import NamedTuple

import bertjax


class Columns(NamedTuple):
    """Where a task's files have its rows."""

    text: str
    pair: str | None
    label: str = "label"


class GlueTask(NamedTuple):
    """A task's files, those of its own publishers and the hub's, and what is published."""

    columns: Columns
    hub: Columns
    published: dict[str, float]
    task: str = "classification"
    header: tuple[str, ...] = ()  # of publishers' files that have none
    positive: str = ""  # the hub's name of the class 1
    mismatched: float | None = None  # published accuracy on rows of other sources than the training rows'


PAIR = Columns("sentence1", "sentence2")
QUESTIONS = Columns("question1", "question2")
TASKS = {
    "CoLA": GlueTask(
        Columns("text", None),
        Columns("sentence", None),
        {"test/mcc": 0.5653},
        header=("source", "label", "mark", "text"),
    ),
    "SST-2": GlueTask(Columns("sentence", None), Columns("sentence", None), {"test/accuracy": 0.9232}),
    "MRPC": GlueTask(
        Columns("#1 String", "#2 String", "Quality"),
        PAIR,
        {"test/class/1/f1": 0.8885, "test/accuracy": 0.8407},
        positive="equivalent",
    ),
    "STS-B": GlueTask(
        PAIR._replace(label="score"), PAIR, {"test/pearson": 0.8864, "test/spearman": 0.8848}, task="regression"
    ),
    "QQP": GlueTask(
        QUESTIONS._replace(label="is_duplicate"),
        QUESTIONS,
        {"test/accuracy": 0.9071, "test/class/1/f1": 0.8749},
        positive="duplicate",
    ),
    "MNLI": GlueTask(
        PAIR._replace(label="gold_label"),
        Columns("premise", "hypothesis"),
        {"test/accuracy": 0.8391},
        mismatched=0.8410,
    ),
    "QNLI": GlueTask(Columns("question", "sentence"), Columns("question", "sentence"), {"test/accuracy": 0.9066}),
    "RTE": GlueTask(PAIR, PAIR, {"test/accuracy": 0.6570}),
    "WNLI": GlueTask(PAIR, PAIR, {"test/accuracy": 0.5634}),
}
CONFIG = bertjax.FineTuneConfig(
    data=bertjax.Table("train.tsv", test="dev.tsv", delimiter="\t", quoting="off", on_bad_row="skip"),  # QQP has some
    epochs=3,
    optimizer=bertjax.Optimizer(learning_rate=2e-5),
)
PUBLISHED = bertjax.PublishedScore("BERT-base-cased (transformers)", TASKS["RTE"].published)
WHERE = "https://gluebenchmark.com/tasks has the tasks' folders"


class Tables(NamedTuple):
    """The rows of a task on this machine."""

    train: Path
    dev: Path
    mismatched: Path | None
    columns: Columns
    published: dict[str, float]


def files_of(name: str, suffix: str, dev: str) -> list[str]:
    """The files of a task: training rows, rows to judge, and of MNLI those of other sources."""
    stems = [dev] if TASKS[name].mismatched is None else [f"{dev}_matched", f"{dev}_mismatched"]
    return [f"{stem}{suffix}" for stem in ("train", *stems)]


def tables_of(name: str, flags: bertjax.ExperimentFlags, own: Path | None) -> Tables:
    """The tables of a task: those of a folder, or the hub's."""
    task = TASKS[name]
    files = [f"{name}/{file}" for file in files_of(name, ".tsv", "dev")]
    config = name.lower().replace("-", "")
    parts = [f"{config}/{file}" for file in files_of(name, "-00000-of-00001.parquet", "validation")]
    folder = own or bertjax.tables_folder("glue", flags.data, files, WHERE, bertjax.HubTables("nyu-mll/glue", parts))
    if (folder / files[0]).is_file():
        paths, columns, published = [folder / file for file in files], task.columns, task.published
        if task.header:
            paths = [with_header(path, task.header, flags.tables("glue") / name) for path in paths]
    else:
        paths, columns = [folder / part for part in parts], task.hub
        published = {key.replace("/1/", f"/{task.positive}/"): score for key, score in task.published.items()}
    return Tables(paths[0], paths[1], paths[2] if len(paths) > 2 else None, columns, published)


def sample(folder: Path) -> Path:
    """A few rows of our own for each task, in the layout of its publishers' files."""
    for name, task in TASKS.items():
        header = task.header or tuple(filter(None, task.columns))
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in files_of(name, ".tsv", "dev"):
            lines = [] if task.header else ["\t".join(header)]
            for i in range(24):
                label = f"{i % 6}.{i % 10}" if task.task == "regression" else str(i % 2)
                text = f"{file} has film number {i}, a {('bad', 'good')[i % 2]} one"
                cells = {task.columns.text: text, task.columns.label: label}
                lines.append("\t".join(cells.get(column, f"it is number {i}") for column in header))
            (folder / name / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def with_header(file: Path, header: tuple[str, ...], folder: Path) -> Path:
    """A copy, in a folder, of a file whose columns have no names, with names."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / file.name
    copy.write_text("\t".join(header) + "\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    return copy


def main(flags: bertjax.ExperimentFlags) -> int:
    """Runs the tasks one after the other, and prints a table of each."""
    if unknown := set(flags.variants) - set(TASKS):
        raise bertjax.UserError(f"--variants {min(unknown)} is no task of GLUE; they are {', '.join(TASKS)}")
    names = flags.variants or (("CoLA", "STS-B", "MNLI") if flags.smoke else tuple(TASKS))
    own = sample(flags.tables("glue") / "sample") if flags.smoke and flags.data is None else None
    status = 0
    for name in names:
        task, tables = TASKS[name], tables_of(name, flags, own)
        changes = {
            "task": task.task,
            "data.train": str(tables.train),
            "data.test": str(tables.dev),
            "data.text": (tables.columns.text,),
            "data.text_pair": (tables.columns.pair,) if tables.columns.pair else (),
            "data.label": tables.columns.label,
            "epochs": 5 if name in ("MRPC", "WNLI") else CONFIG.epochs,
        }
        published = bertjax.PublishedScore(PUBLISHED.source, tables.published)
        out = flags.folder("glue") / name
        status |= bertjax.run_seeds(f"GLUE {name}", bertjax.override(CONFIG, changes), published, flags, out)
        models = {seed: out / f"seed-{seed}" / "model" for seed in flags.seeds}
        for seed, model in models.items():
            if tables.mismatched is not None and model.is_dir():  # a seed that failed has none
                accuracy = bertjax.evaluate(model, tables.mismatched).report.metrics["accuracy"]
                print(f"{name}, mismatched, seed {seed}: accuracy {accuracy:.4f} (published: {task.mismatched})")
    return status


if __name__ == "__main__":
    bertjax.run_script("glue", main)
