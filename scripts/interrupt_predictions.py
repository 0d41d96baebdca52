"""Predictions that are killed at random moments and resumed, against one that is not: every row once, the same answers.

A tiny model predicts the rows of a csv file in real processes. Each is killed by SIGKILL while it works and started
again with --resume, three times by default; then the output must be that of a start that ran to its end.

    python scripts/interrupt_predictions.py                                  # 3 kills, 200,000 rows
    python scripts/interrupt_predictions.py --rows 1000000 --kills 3 --out csv jsonl parquet folder
    python scripts/interrupt_predictions.py --engine ray                     # the killed ones with a pool of actors
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ATOL = 1e-6
OUTPUTS = {"csv": "killed.csv", "jsonl": "killed.jsonl", "parquet": "killed.parquet", "folder": "killed"}
WORDS = ("good", "bad", "film", "book", "a", "the", "what", "was", "not", "very", "plot", "song", "it", "and", "dull")
_PATIENCE = 600.0  # seconds for a start to finish a part
_MOMENT = 0.1  # seconds, about as long as a part takes: the kill may find anything half done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="of the csv file")
    parser.add_argument("--kills", type=int, default=3, help="of each prediction")
    parser.add_argument("--rows-per-part", type=int, default=5_000)
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="of the starts that are killed")
    parser.add_argument("--out", nargs="+", choices=tuple(OUTPUTS), default=["csv"], help="kinds of output")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="where everything is written; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        make_inputs(folder, arguments.rows)
        run_to_end(folder, ["--out", "whole.csv", "--rows-per-part", str(arguments.rows_per_part)])
        whole = answers(folder / "whole.csv")
        results = []
        for kind in arguments.out:
            flags = ["--out", OUTPUTS[kind], "--rows-per-part", str(arguments.rows_per_part)]
            kept = [kill(folder, [*flags, "--engine", arguments.engine], rng) for _ in range(arguments.kills)]
            run_to_end(folder, [*flags, "--resume"])
            faults = compare(whole, answers(folder / OUTPUTS[kind]))
            results.append({"out": kind, "parts_at_kills": kept, "faults": faults})
            print(f"{kind}: killed with {kept} finished parts: {'; '.join(faults) or 'every row once'}", flush=True)
    right = not any(result["faults"] for result in results)
    if arguments.json:
        report = {"rows": arguments.rows, "engine": arguments.engine, "results": results}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if right else 1


def make_inputs(folder: Path, rows: int) -> None:
    """A tiny classifier and the table."""
    import jax
    from transformers import BertTokenizer

    from bertjax import BertConfig, make_model, save_pretrained

    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    config = BertConfig(
        vocab_size=32, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_position_embeddings=32
    )
    model = make_model(config, "classification", ("bad", "good"))
    params = model.init(jax.random.PRNGKey(0))
    save_pretrained(folder / "model", model, params, BertTokenizer(str(folder / "vocab.txt")))
    rng = random.Random(0)
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows([f"{i:08d}", " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))] for i in range(rows))


def start(folder: Path, flags: Sequence[str]) -> subprocess.Popen[bytes]:
    """`bertjax predict` on the inputs, in a process group of its own."""
    command = [sys.executable, "-m", "bertjax", "predict", "--model", "model", "--data", "rows.csv", *flags]
    return subprocess.Popen(command, cwd=folder, start_new_session=True)


def run_to_end(folder: Path, flags: Sequence[str]) -> None:
    if start(folder, flags).wait() != 0:
        raise SystemExit(f"bertjax predict {' '.join(flags)} failed")


def kill(folder: Path, flags: Sequence[str], rng: random.Random) -> int:
    """Kills a start a moment after one to three new parts; returns the number of finished parts."""
    parts = folder / (flags[1] if "." not in flags[1] else f"{flags[1]}.parts")
    manifest = parts / "_manifest.jsonl"
    awaited = finished(manifest) + rng.randint(1, 3)
    process = start(folder, [*flags, "--resume"])
    deadline = time.monotonic() + _PATIENCE
    while finished(manifest) < awaited:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the prediction ended before it could be killed; give more --rows")
        time.sleep(0.01)
    time.sleep(rng.uniform(0, _MOMENT))
    if process.poll() is not None:
        raise SystemExit("the prediction ended before it could be killed; give more --rows")
    os.killpg(process.pid, signal.SIGKILL)  # Ray's processes, too
    process.wait()
    return finished(manifest)


def finished(manifest: Path) -> int:
    """Parts that a manifest records."""
    return max(0, manifest.read_bytes().count(b"\n") - 1) if manifest.exists() else 0


def answers(out: Path) -> Any:
    """The frame of an output, its ids as text."""
    import pandas as pd

    if out.is_dir() or out.suffix == ".parquet":
        return pd.read_parquet(out)
    if out.suffix == ".jsonl":
        return pd.read_json(out, lines=True, dtype={"id": str, "text": str})
    return pd.read_csv(out, dtype={"id": str, "text": str})


def compare(whole: Any, found: Any) -> list[str]:
    """What is wrong with the answers of a prediction that was killed, a clause each."""
    faults = []
    if found["id"].duplicated().any():
        faults.append(f"{int(found['id'].duplicated().sum())} rows twice")
    if set(whole["id"]) - set(found["id"]):
        faults.append(f"{len(set(whole['id']) - set(found['id']))} rows lost")
    if not faults:
        for name in ("id", "text", "label"):
            if whole[name].tolist() != found[name].tolist():
                faults.append(f"another {name}, or another order")
        if (whole["probability"] - found["probability"]).abs().max() > ATOL:
            faults.append("other probabilities")
    return faults


if __name__ == "__main__":
    sys.exit(main())
