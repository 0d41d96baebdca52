"""The tokenizer of a model folder, loaded by transformers and checked against the folder and the network.

transformers assembles a tokenizer from up to six files, and silently picks one where they disagree. So the loaded
tokenizer is checked, not the files.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from bertjax.config import BertConfig
from bertjax.errors import CheckpointError
from bertjax.members import MEMBERS, find_member
from bertjax.storage.file_faults import file_fault

logger = logging.getLogger(__name__)

_JSON, _VOCABULARY, _CONFIG = "tokenizer.json", "vocab.txt", "tokenizer_config.json"
_BYTE_PAIRS = ("vocab.json", "merges.txt")  # of byte-level BPE, before there was a tokenizer.json
_FILES = (_JSON, _VOCABULARY, _BYTE_PAIRS[0], _CONFIG, "added_tokens.json", "special_tokens_map.json")
_OWN = ("BertTokenizer", "BertTokenizerFast")
_WORD_PIECES = '"tokenizer_class": "BertTokenizer"'
# By these, BertTokenizer reads words between spaces as a Japanese BERT does: no character is split off or changed.
_AS_JAPANESE = f'{_WORD_PIECES}, "do_lower_case": false, "strip_accents": false, "tokenize_chinese_chars": false'


class UnsupportedTokenizer(CheckpointError):
    """A tokenizer that is written in Python, or needs a library that is not installed."""


def has_tokenizer(folder: Path) -> bool:
    """Whether a model folder has the files of a tokenizer."""
    present = {path.name for path in Path(folder).iterdir() if path.is_file()} if Path(folder).is_dir() else set()
    return not present.isdisjoint((_JSON, _VOCABULARY)) or present.issuperset(_BYTE_PAIRS)


def tokenizer_digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """16 hexadecimal digits that change with the vocabulary of a tokenizer and with how it cuts texts."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    # These two are of the last call, not of the tokenizer.
    lasting = {name: part for name, part in parts.items() if name not in ("truncation", "padding")}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:16]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The fast tokenizer in a model folder.

    Saved truncation and padding are reset: some checkpoints have those of another job.

    Raises:
      UnsupportedTokenizer: it is no fast one.
      CheckpointError: no tokenizer can be read from the folder, or it is not the one that the files describe.
    """
    folder = Path(folder)
    if not has_tokenizer(folder):
        # transformers would create a tokenizer without a vocabulary.
        raise CheckpointError(f"{folder} has no tokenizer that bertjax reads (neither {_JSON} nor {_VOCABULARY})")
    stored = _stored(folder)
    if _JSON in stored and not (isinstance(model := stored[_JSON].get("model"), dict) and model.get("vocab")):
        raise CheckpointError(f"{folder / _JSON} is no tokenizer: it has no model with a vocab")
    class_name = _class_name(folder, stored)
    try:
        tokenizer = _class_of(class_name, stored).from_pretrained(str(folder), use_fast=True)
    except ImportError as error:
        raise UnsupportedTokenizer(
            f"{folder}: the tokenizer, {class_name}, needs what is not installed ({_first_line(error)}); "
            f"{_way_out(folder, class_name)}"
        ) from None
    except Exception as error:  # Files that contradict each other make transformers raise nearly anything.
        raise CheckpointError(
            f"{folder} has no tokenizer that can be read: {class_name or 'AutoTokenizer'} says {_first_line(error)}; "
            f"{_way_out(folder, class_name)}"
        ) from None
    if not tokenizer.is_fast:
        raise UnsupportedTokenizer(
            f"{folder}: the tokenizer, {class_name}, is written in Python, and bertjax needs a fast one, of the "
            f"tokenizers library; {_way_out(folder, class_name)}"
        )
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    _check_as_stored(folder, stored, tokenizer)
    return tokenizer


def num_entries(tokenizer: PreTrainedTokenizerFast) -> int:
    """One more than the largest id that a tokenizer gives."""
    return 1 + max(tokenizer.get_vocab().values())


def beyond(tokenizer: PreTrainedTokenizerFast, config: BertConfig) -> str | None:
    """The tokens that a network has no embedding for, as a message; None where it has one for each."""
    size, entries = config.vocab_size, num_entries(tokenizer)
    if entries <= size:
        return None
    tokens = added_tokens(tokenizer, size)
    shown = ", ".join(tokens[:3]) + (f" and {len(tokens) - 3} others" if len(tokens) > 3 else "")
    return (
        f"the tokenizer has {entries} entries, the network embeds {size}: it has no row for {shown}; "
        f"--resize-embeddings adds the rows (in Python: from_pretrained(..., vocab_size={entries}))"
    )


def added_tokens(tokenizer: PreTrainedTokenizerFast, size: int) -> list[str]:
    """The tokens from id `size` on, in the order of their ids."""
    ids = tokenizer.get_vocab().items()
    return [token for token, i in sorted(ids, key=lambda entry: entry[1]) if i >= size]


def check_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, config: BertConfig, resize: bool = False) -> None:
    """Checks that a network can read what a tokenizer gives, and says where transformers departs from its files.

    Args:
      tokenizer: as `load_tokenizer` returns it.
      folder: of the model.
      config: of the network, as the checkpoint has it.
      resize: whether the network will get rows for the tokens beyond its vocabulary.

    Raises:
      CheckpointError: ids that the network does not embed, or texts that do not come as `[CLS] ... [SEP]`.
    """
    problem = None if resize else beyond(tokenizer, config)
    if problem:
        raise CheckpointError(f"{folder}: {problem}")
    ids = tokenizer("a")["input_ids"]
    if len(ids) < 3 or (ids[0], ids[-1]) != (tokenizer.cls_token_id, tokenizer.sep_token_id):
        tokens = " ".join(map(str, tokenizer.convert_ids_to_tokens(ids))) or "no token"
        raise CheckpointError(
            f"{folder}: the tokenizer reads the text 'a' as {tokens}, and {find_member(config.model_type).title} reads "
            f"[CLS], the text, [SEP]; for word pieces, set {_WORD_PIECES} in {_CONFIG}"
        )
    _warn_of_differences(folder, _stored(folder), tokenizer)


def _stored(folder: Path) -> dict[str, Any]:
    """The content of a tokenizer's files, by name."""
    paths = {name: folder / name for name in _FILES}
    # A link to nothing is a file that was lost, as a hub's cache has them where it was cleaned.
    return {name: _read(path) for name, path in paths.items() if path.exists() or path.is_symlink()}


def _read(path: Path) -> Any:
    """The content of a file: of JSON, or the lines of a vocabulary."""
    try:
        fault = file_fault(path)
        if fault:
            raise CheckpointError(f"{path} {fault}")
        text = path.read_bytes().decode("utf-8")
        if path.suffix != ".json":
            return [line.rstrip() for line in text.split("\n")]  # as the tokenizers library reads them
        content = json.loads(text)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}; fetch it again") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is no file of a tokenizer: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no file of a tokenizer: it must hold a JSON object")
    return content


def _class_name(folder: Path, stored: Mapping[str, Any]) -> str | None:
    """The class that the folder names, `BertTokenizer` where it names none and is a BERT."""
    config = _read(folder / "config.json") if (folder / "config.json").is_file() else {}
    named = stored.get(_CONFIG, {}).get("tokenizer_class") or config.get("tokenizer_class")
    member = MEMBERS.get(config.get("model_type", ""))
    return named or (member.tokenizer if member else None)


def _class_of(class_name: str | None, stored: Mapping[str, Any]) -> Any:
    """BERT's own class where it is named, else `AutoTokenizer`.

    `AutoTokenizer` imports PyTorch where it is installed, which takes a second and 190 MiB.
    """
    if class_name in _OWN and "auto_map" not in stored.get(_CONFIG, {}):
        from transformers import BertTokenizer

        return BertTokenizer
    from transformers import AutoTokenizer

    return AutoTokenizer


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _way_out(folder: Path, class_name: str | None) -> str:
    """What to do about a tokenizer that cannot be used."""
    if class_name == "BertJapaneseTokenizer":
        settings = _read(folder / _CONFIG) if (folder / _CONFIG).is_file() else {}
        parts = "characters" if settings.get("subword_tokenizer_type") == "character" else "words"
        return f"split the texts into {parts} yourself, joined by spaces, and set {_AS_JAPANESE} in {_CONFIG}"
    if (folder / _VOCABULARY).is_file() and class_name not in _OWN:
        return f"if its {_VOCABULARY} is one of word pieces, set {_WORD_PIECES} in {_CONFIG}"
    return f"save a fast tokenizer there, with a {_JSON}"


def _check_as_stored(folder: Path, stored: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> None:
    """Checks that the tokenizer which was built has the tokens, ids and kind of the files.

    Raises:
      CheckpointError: it has others, so that the network would read other words than it was trained on.
    """
    name = next((name for name in (_JSON, _VOCABULARY) if name in stored), _BYTE_PAIRS[0])
    built, class_name = tokenizer.get_vocab(), type(tokenizer).__name__
    saved = stored[name]["model"] if name == _JSON else {}
    kind = type(tokenizer.backend_tokenizer.model).__name__
    if saved.get("type") not in (None, kind):
        raise CheckpointError(
            f"{folder / name} holds a {saved['type']} tokenizer, which {class_name} reads as {kind}; set "
            f'"tokenizer_class": "PreTrainedTokenizerFast" in {_CONFIG}'
        )
    if len(set(built.values())) < len(built):
        raise CheckpointError(f"{folder}: two tokens of the tokenizer have one id; each line of {name} must be another")
    other = [(token, i) for token, i in _stored_ids(stored).items() if built.get(token) != i]
    if other:
        token, i = other[0]
        others = f", and {len(other) - 1} more" if len(other) > 1 else ""
        raise CheckpointError(
            f"{folder}: the files give the token {token!r} the id {i}, and the {class_name} that transformers builds "
            f"of them gives it {built.get(token)}{others}; {_way_out(folder, class_name)}"
        )


def _stored_ids(stored: Mapping[str, Any]) -> dict[str, int]:
    """Token -> id, as the files have it."""
    if _JSON in stored:
        vocabulary = stored[_JSON]["model"]["vocab"]
        if not isinstance(vocabulary, dict):
            vocabulary = {entry[0] if isinstance(entry, list) else entry: i for i, entry in enumerate(vocabulary)}
        ids = {**vocabulary, **{token["content"]: token["id"] for token in stored[_JSON].get("added_tokens") or ()}}
    elif _VOCABULARY in stored:
        ids = {token: i for i, token in enumerate(stored[_VOCABULARY]) if token}
    else:
        ids = stored[_BYTE_PAIRS[0]]
    added = stored.get(_CONFIG, {}).get("added_tokens_decoder") or {}
    return ids | stored.get("added_tokens.json", {}) | {token["content"]: int(i) for i, token in added.items()}


def _warn_of_differences(folder: Path, stored: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> None:
    """Says what transformers does otherwise than `tokenizer.json` has it, and code of the folder that is not run."""
    if "auto_map" in stored.get(_CONFIG, {}):
        logger.warning(
            "%s: the tokenizer's own code (auto_map) is not run; %s reads the texts", folder, type(tokenizer).__name__
        )
    if _JSON not in stored:
        return
    for part in ("normalizer", "pre_tokenizer"):
        used = getattr(tokenizer.backend_tokenizer, part)
        differences = _differences(stored[_JSON].get(part) or {}, json.loads(used.__getstate__()) if used else {})
        if differences:
            logger.warning(
                "%s: transformers reads texts otherwise than the %s of %s says, by %s or its defaults: %s",
                folder, part, _JSON, _CONFIG, differences,
            )  # fmt: skip
    built, lines = tokenizer.get_vocab(), stored.get(_VOCABULARY, ())
    if any(built.get(token) != i for i, token in enumerate(lines) if token):
        logger.warning("%s: %s is not used, and has other tokens than %s", folder, _VOCABULARY, _JSON)


def _differences(saved: Mapping[str, Any], used: Mapping[str, Any]) -> str:
    """How one part of a tokenizer, as it was built, differs from the part in a file."""
    if saved.get("type") != used.get("type"):
        return f"it is a {used.get('type')}, not a {saved.get('type')}"
    return "; ".join(f"{key} is {used.get(key)}, not {saved[key]}" for key in saved if used.get(key) != saved[key])
