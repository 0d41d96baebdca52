"""Memory and speed of `bertjax predict` over many rows: what it needs above the model, and whether that grows.

Each measurement is a process of its own; what counts is the most memory that it ever held (`VmHWM` of Linux),
libraries, compiler and all. The model alone is a process that loads a predictor and answers one chunk of the same rows.

    python scripts/benchmark_predict.py                                  # 10,000, 100,000 and 1,000,000 rows
    python scripts/benchmark_predict.py --model runs/a/model --rows 1000000 --out parquet
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertjax.cli.process.process_setup import restart_with_huge_pages

_SECONDS_BETWEEN_LOOKS = 0.05
WORDS = 400  # different words of the texts
_ALONE = """
import csv, sys
from itertools import islice
from bertjax import Predictor
predictor = Predictor.load(sys.argv[1])
with open(sys.argv[2], newline="") as file:
    predictor([row["text"] for row in islice(csv.DictReader(file), int(sys.argv[3]))])
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--words", type=int, default=25, help="of a text, on average")
    parser.add_argument("--model", help="a model folder of one text; default: a tiny one, made here")
    parser.add_argument("--out", choices=("csv", "jsonl", "parquet"), default="csv")
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--folder", type=Path, help="where everything is written; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()
    restart_with_huge_pages()  # as the command does; what is started here inherits it
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        model = str(Path(arguments.model).absolute()) if arguments.model else tiny_model(folder)
        results = []
        for rows in arguments.rows:
            write_rows(folder / "rows.csv", rows, arguments.words)
            alone, _ = measure(folder, ["-c", _ALONE, model, "rows.csv", str(arguments.batch_size)])
            out = f"answers.{arguments.out}"
            flags = ["--model", model, "--data", "rows.csv", "--out", out, "--batch-size", str(arguments.batch_size)]
            peak, seconds = measure(folder, ["-m", "bertjax", "predict", *flags, "--overwrite"])
            results.append({"rows": rows, "model_mib": alone, "peak_mib": peak, "seconds": seconds})
            print(
                f"{rows:>10,} rows: {peak:,.0f} MiB at most, {peak - alone:,.0f} above the model's {alone:,.0f}; "
                f"{seconds:.0f} s, {rows / seconds:,.0f} rows/s",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(folder: Path, arguments: Sequence[str]) -> tuple[float, float]:
    """The most memory of a Python process, in MiB, and its seconds."""
    started, peak = time.monotonic(), 0.0
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder)
    while process.poll() is None:
        peak = max(peak, high_water(process.pid))
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if process.returncode != 0:
        raise SystemExit(f"{arguments} failed")
    return peak, time.monotonic() - started


def high_water(pid: int) -> float:
    """The most memory that a process has held, in MiB; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def tiny_model(folder: Path) -> str:
    """A model of two small layers, which computes little, so that all else is what is measured."""
    import jax
    from transformers import BertTokenizer

    from bertjax import BertConfig, make_model, save_pretrained

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(word, range(WORDS))]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    config = BertConfig(
        vocab_size=512, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_position_embeddings=128
    )
    model: Any = make_model(config, "classification", ("bad", "good", "other"))
    params = model.init(jax.random.PRNGKey(0))
    save_pretrained(folder / "model", model, params, BertTokenizer(str(folder / "vocab.txt")))
    return str(folder / "model")


def word(number: int) -> str:
    """A word of letters."""
    return "".join(chr(97 + int(digit)) for digit in f"{number:04d}")


def write_rows(path: Path, rows: int, words: int) -> None:
    """A csv file of random texts."""
    rng = random.Random(0)
    known = list(map(word, range(WORDS)))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "source"])
        for i in range(rows):
            writer.writerow([f"{i:09d}", " ".join(rng.choices(known, k=rng.randint(1, 2 * words - 1))), 'a, "b"'])


if __name__ == "__main__":
    sys.exit(main())
