"""What `bertjax eda` costs, and which near-duplicates it finds: time and peak memory of the command on generated
tables, and recall and false share on planted pairs.

    python scripts/benchmark_eda.py --json eda.json
    python scripts/benchmark_eda.py --rows 100000 --parts cost
    python scripts/benchmark_eda.py --rows 100000 5000000 --format parquet

The texts have 8 to 24 words of a vocabulary of 20 thousand, as frequent as words are (Zipf); one row in twenty is a
copy of another one in which one or two words were replaced, put in or taken out. A machine that is busy with other
things makes the seconds longer, and not the processor's: both are printed.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bertjax.data.read.sources import read_table
from bertjax.eda.exploration import DEFAULT_THRESHOLD
from bertjax.eda.facts.near_duplicates import find_near_duplicates
from bertjax.eda.facts.words import words_of

PARTS = ("cost", "near_duplicates")
_VOCABULARY = 20_000
_WORDS = (8, 25)
_PLANTED = 20  # one row in so many
_CHUNK = 100_000
_CLASSES = 5


def texts_of_zipf(number: int, seed: int) -> list[list[str]]:
    """Random texts, as lists of words."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, _VOCABULARY + 1)
    lengths = rng.integers(*_WORDS, number)
    words = rng.choice(_VOCABULARY, int(lengths.sum()), p=shares / shares.sum())
    ends = np.cumsum(lengths)
    return [[f"word{word}" for word in words[end - length : end]] for end, length in zip(ends, lengths, strict=True)]


def edited(words: list[str], edits: int, rng: np.random.Generator) -> list[str]:
    """A copy with some words replaced, put in or taken out."""
    words = list(words)
    for _ in range(edits):
        place, other = int(rng.integers(len(words))), f"word{rng.integers(_VOCABULARY)}"
        match rng.integers(3):
            case 0:
                words[place] = other
            case 1:
                words.insert(place, other)
            case _:
                del words[place]
    return words


def tables(number: int) -> Iterator[pd.DataFrame]:
    """A table with near-duplicates, in parts."""
    rng = np.random.default_rng(1)
    for start in range(0, number, _CHUNK):
        size = min(_CHUNK, number - start)
        copies = size // _PLANTED
        texts = texts_of_zipf(size - copies, seed=start)
        texts += [edited(texts[i], 1 + i % 2, rng) for i in range(copies)]
        days = np.datetime64("2020-01-01") + np.arange(start, start + size) * 1000 // number
        labels = [f"class {i}" for i in rng.integers(0, _CLASSES, size)]
        yield pd.DataFrame({"text": list(map(" ".join, texts)), "label": labels, "day": days.astype(str)})


def write(number: int, path: Path) -> None:
    """Writes such a table as csv or parquet."""
    if path.suffix == ".csv":
        for i, part in enumerate(tables(number)):
            part.to_csv(path, mode="w" if i == 0 else "a", header=i == 0, index=False)
        return
    import pyarrow
    from pyarrow import parquet

    writer = None
    for part in tables(number):
        rows = pyarrow.Table.from_pandas(part, preserve_index=False)
        writer = writer or parquet.ParquetWriter(path, rows.schema)
        writer.write_table(rows)
    assert writer is not None
    writer.close()


def cost(number: int, form: str, folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of the command on a table."""
    path = folder / f"{number}.{form}"
    write(number, path)
    flags = ["--data", str(path), "--date-column", "day", "--out", str(folder / "out"), "--overwrite"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "bertjax", "eda", *flags], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"bertjax eda ended with status {process.returncode}")
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    page = (folder / "out" / "eda.html").stat().st_size
    path.unlink()
    found = {
        "rows": number, "format": form, "seconds": seconds, "processor_seconds": cpu,
        "peak_mib": usage.ru_maxrss / 1024, "page_kib": page / 1024,
    }  # fmt: skip
    print(
        f"{number:>9} rows ({form}): {seconds:.1f} s, {cpu:.1f} s of processor time, peak {found['peak_mib']:.0f} MiB, "
        f"page {found['page_kib']:.0f} KiB", flush=True,
    )  # fmt: skip
    return found


def near_duplicates(name: str, texts: list[list[str]]) -> dict[str, Any]:
    """Recall of planted pairs, and the share of found ones that were not planted."""
    rng = np.random.default_rng(2)
    copies = len(texts) // _PLANTED
    planted = {(i, len(texts) + i) for i in range(copies)}
    rows = [" ".join(text) for text in texts + [edited(texts[i], 1 + i % 2, rng) for i in range(copies)]]
    start = time.perf_counter()
    words = words_of(rows)
    near = find_near_duplicates(words, np.arange(len(rows)), DEFAULT_THRESHOLD, seed=0)
    seconds = time.perf_counter() - start
    pairs = set(map(tuple, near.pairs.tolist()))
    recall = len(planted & pairs) / len(planted)
    false = len(pairs - planted) / max(1, len(pairs))
    print(
        f"{name}: {len(planted)} planted among {len(rows)} rows, {100 * recall:.2f}% found; {len(pairs)} pairs in all, "
        f"{100 * false:.2f}% of them not planted; {seconds:.1f} s", flush=True,
    )  # fmt: skip
    return {"texts": name, "rows": len(rows), "recall": recall, "not_planted": false, "seconds": seconds}


def real_texts() -> list[list[str]]:
    """The questions of TREC that have eight words or more and are no near-duplicate of an earlier one."""
    questions = list(dict.fromkeys(read_table("trec").frame["text"]))
    repeats = find_near_duplicates(words_of(questions), np.arange(len(questions)), DEFAULT_THRESHOLD, seed=0).rows()
    kept = np.setdiff1d(np.arange(len(questions)), repeats)
    numbers = words_of(questions).counts
    return [questions[i].split() for i in kept if numbers[i] >= _WORDS[0]]


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 5_000_000], help="sizes of the tables")
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--planted-rows", type=int, default=100_000, help="rows among which pairs are planted")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if "near_duplicates" in arguments.parts:
            random = texts_of_zipf(arguments.planted_rows, seed=0)
            results["near_duplicates"] = [near_duplicates("random", random), near_duplicates("trec", real_texts())]
        if "cost" in arguments.parts:
            results["cost"] = [cost(number, arguments.format, Path(folder)) for number in arguments.rows]
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
