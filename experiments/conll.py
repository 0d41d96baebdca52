"""CoNLL-2003: persons, places, organisations and others in news, 3 epochs.

Data       eng.train, eng.testa and eng.testb of the shared task, in the folder that --data names, or in `conll` below
           BERTJAX_DATA; the organisers say how to get them. Where there is none, eriktks/conll2003 of the Hugging Face
           hub.
Published  F1 92.4 of BERT-base-cased (Devlin et al. 2018, table 7), with the context of whole documents.
Expected   about 91 without that context; not run here: the files are not in a package index.
Cost       about 5 minutes a seed on one GPU for BERT-base.
Command    python experiments/conll.py --data conll --model bert-base-cased --seeds 0 1 2
"""

import shutil
from pathlib import Path

import bertjax

FILES = ("eng.train", "eng.testa", "eng.testb")
CONFIG = bertjax.FineTuneConfig(
    task="token_classification",
    data=bertjax.Table("eng.train.conll", validation="eng.testa.conll", test="eng.testb.conll"),
    epochs=3,
    optimizer=bertjax.Optimizer(learning_rate=5e-5),
)
PUBLISHED = bertjax.PublishedScore("BERT-base-cased (Devlin et al. 2018)", {"test/f1": 0.924})
HUB = bertjax.HubTables(
    "eriktks/conll2003",
    [f"conll2003/{side}/0000.parquet" for side in ("train", "validation", "test")],
    revision="refs/convert/parquet",
)
WHERE = "https://www.clips.uantwerpen.be/conll2003/ner/ says how to get eng.train, eng.testa and eng.testb"


def sample(folder: Path) -> Path:
    """A few sentences of our own, in the layout of the shared task."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, name in zip(FILES, ("Anna", "Bert", "Cleo"), strict=True):
        tagged = (
            f"{name} B-PER visits O Paris B-LOC . O",
            f"Acme B-ORG hires O {name} B-PER . O",
            f"{name} B-PER sings O",
        )
        rows = [sentence.split() for sentence in tagged]
        lines = ["\n".join(f"{row[i]} NN O {row[i + 1]}" for i in range(0, len(row), 2)) for row in rows]
        (folder / file).write_text("-DOCSTART- -X- O O\n\n" + "\n\n".join(lines) + "\n", encoding="utf-8")
    return folder


def with_suffix(file: Path, folder: Path) -> Path:
    """A copy of a file, in a folder, under a name that says what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(file, folder / f"{file.name}.conll"))


def main(flags: bertjax.ExperimentFlags) -> int:
    """Trains on the files of a folder, or the hub's."""
    out = flags.folder("conll")
    own = sample(flags.tables("conll")) if flags.smoke and flags.data is None else None
    folder = own or bertjax.tables_folder("conll", flags.data, FILES, WHERE, HUB)
    if (folder / FILES[0]).is_file():
        paths, columns = [with_suffix(folder / file, flags.tables("conll")) for file in FILES], {}
    else:
        paths, columns = [folder / file for file in HUB.files], {"data.text": ("tokens",), "data.label": "ner_tags"}
    sides = zip(("train", "validation", "test"), map(str, paths), strict=True)
    config = bertjax.override(CONFIG, {f"data.{side}": path for side, path in sides} | columns)
    return bertjax.run_seeds("conll", config, PUBLISHED, flags, out)


if __name__ == "__main__":
    bertjax.run_script("conll", main)
