"""The vocabulary size of a model folder's tokenizer, read from its files without building the tokenizer."""

import json
from pathlib import Path

from bertjax.errors import CheckpointError


def tokenizer_entries(folder: Path) -> int | None:
    """One more than the largest token id of the folder's tokenizer; None where the folder has no tokenizer.

    Raises:
      CheckpointError: an invalid `tokenizer.json`.
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        try:
            content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
            vocabulary = content["model"]["vocab"]
            ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else range(len(vocabulary))
            return 1 + max([*ids, *(token["id"] for token in content.get("added_tokens") or ())])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder / 'tokenizer.json'} is no tokenizer: {error!r}") from None
    if (folder / "vocab.txt").is_file():
        with (folder / "vocab.txt").open(encoding="utf-8") as lines:
            return sum(1 for _ in lines)
    return None
