"""Texts to train on, as token ids: those of the catalog where they are on this machine, else made-up ones of the same
lengths, which say so."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertjax import catalog
from bertjax.batch import CLASS_INDEX
from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.data.encode.examples import Examples
from measuring.bertjax_side import LABELS

MAX_LENGTH = 128
_TOKENIZER = "minilm-l6"

# Every fourth percentile of the tokens of a text, as MiniLM's tokenizer cuts it.
_PERCENTILES: Mapping[str, tuple[int, ...]] = {
    "trec": (
        5, 8, 8, 9, 9, 10, 10, 11, 11, 11, 12, 12, 12, 13, 13, 14, 14, 15, 15, 16, 17, 18, 19, 20, 23, 41
    ),
    "snippets-movies": (
        4, 10, 12, 14, 15, 17, 18, 20, 21, 22, 23, 24, 26, 27, 28, 29, 30, 32, 33, 35, 36, 38, 41, 43, 48, 79
    ),
}  # fmt: skip
SOURCES: Mapping[str, str] = {"trec": "TREC questions", "snippets-movies": "review sentences"}


class TextData(NamedTuple):
    """Tokenized texts with labels, and what they are."""

    about: str
    examples: Examples

    def batches(self, batch_size: int, hidden_size: int) -> StoredBatches:
        """Packed, in the shapes that a run would choose."""
        plan = plan_training(self.examples.lengths, batch_size, 1, 0, hidden_size, num_devices=1, packed=True)
        return StoredBatches(self.examples, plan)


def text_data(source: str, count: int, vocab_size: int) -> TextData:
    """`count` texts of a data set of the catalog; the labels are random either way.

    Nothing is downloaded: it is a file of this machine, or made up.
    """
    rng, name = np.random.default_rng(0), SOURCES[source]
    if all(_is_here(asset) for asset in (source, _TOKENIZER)):
        ids = _token_ids(source)
        chosen = [np.array(ids[i]) for i in rng.permutation(len(ids))[:count]]
        about = f"{len(chosen)} {name}"
    else:
        lengths = np.interp(rng.random(count), np.linspace(0, 1, len(_PERCENTILES[source])), _PERCENTILES[source])
        chosen = [_made_up(rng, int(length), vocab_size) for length in lengths.round()]
        about = f"{count} made-up texts with the lengths of {name} and word pieces as frequent as in a language (Zipf)"
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in chosen])])
    tokens = np.concatenate(chosen).astype(np.int32) % vocab_size
    labels = rng.integers(0, len(LABELS), len(chosen)).astype(np.int32)
    return TextData(about, Examples(tokens, np.zeros_like(tokens), offsets, labels, 0, labels_of=CLASS_INDEX.labels_of))


def _is_here(asset: str) -> bool:
    folder = catalog.cache_folder() / "assets" / asset
    wanted = {"vocab.txt", "tokenizer.json"} if asset == _TOKENIZER else set(catalog.CATALOG[asset].files)
    return all((folder / file).is_file() for file in wanted)  # of a model without its weights


def _token_ids(source: str) -> list[list[int]]:
    from bertjax.data.encode.pretrained_tokenizer import load_tokenizer
    from bertjax.data.read.catalog_tables import read_catalog

    texts = sorted(set(read_catalog(source)["text"]))
    tokenizer = load_tokenizer(Path(catalog.cache_folder() / "assets" / _TOKENIZER))
    ids: list[list[int]] = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    return ids


def _made_up(rng: np.random.Generator, length: int, vocab_size: int) -> np.ndarray:
    """[CLS], word pieces, [SEP]: the gradient of the word table adds up what a frequent piece gets."""
    pieces = 1000 + rng.zipf(1.2, max(length - 2, 1)) % max(vocab_size - 1000, 1)
    return np.concatenate([[101], pieces, [102]])
