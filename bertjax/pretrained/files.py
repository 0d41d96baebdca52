"""Model folders on disk: the folder that a name refers to, and its tensors, read and written."""

import hashlib
import json
import pkgutil
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401 (gives NumPy the name bfloat16, by which safetensors asks for it)
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bertjax import catalog
from bertjax.errors import AssetError, CheckpointError
from bertjax.pretrained.torch_files import read_torch_file
from bertjax.stage_progress import UNSHOWN, StageProgress
from bertjax.storage.file_faults import file_fault
from bertjax.storage.plain_path import at_home

SINGLE_FILE = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
_TORCH_FILE = "pytorch_model.bin"
_TORCH_INDEX = "pytorch_model.bin.index.json"
_WEIGHTS = (SINGLE_FILE, SHARD_INDEX, _TORCH_FILE, _TORCH_INDEX)

# The files that a fine-tuning run needs; other frameworks' weights are not downloaded.
_HUB_FILES = (
    "config.json", "*.safetensors", SHARD_INDEX,
    "vocab.txt", "vocab.json", "merges.txt", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
_HUB_TORCH_FILES = (_TORCH_FILE, _TORCH_INDEX, "pytorch_model-*-of-*.bin")


# Scheme of a model's address -> the function that fetches it, of a floor above and imported only where it is needed.
_REGISTRIES = {
    "models:/": "bertjax.tracking.models.model_registry:fetch_model",
    "runs:/": "bertjax.tracking.models.best_run:fetch_run_model",
}


def resolve_model(name: str | Path, progress: StageProgress = UNSHOWN) -> Path:
    """The folder of a model, whichever way it is named; the one place that knows these ways.

    Args:
      name: an address in MLflow, `models:/NAME@ALIAS` of its registry or `runs:/ID/model` of a run, a local folder, a
        name of the catalog, or the id of a hub repository; tried in this order.
      progress: shows a download from the catalog.

    Raises:
      AssetError: none of these leads to a model, or the folder is that of an adapter or of a run.
      ConfigError: the registry does not answer.
    """
    name = str(name)
    for scheme, fetch in _REGISTRIES.items():
        if name.startswith(scheme):
            return Path(pkgutil.resolve_name(fetch)(name))
    if (folder := local_folder(name)) is not None:
        if (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
            raise AssetError(
                f"{name} is an adapter and no whole model; bertjax export --model BASE --adapter {name} --out MERGED "
                f"makes it one"
            )
        model = folder / "model"
        if (model / "config.json").is_file() and not any((folder / weights).is_file() for weights in _WEIGHTS):
            raise AssetError(f"{name} is the folder of a run and no model; the model is {Path(name) / 'model'}")
        return folder
    if name in catalog.names("model"):
        return catalog.fetch(name, progress)
    # A hub id is `name` or `owner/name`; anything else is a path.
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise AssetError(f"{name} is not a folder; give a folder, a hub id, or one of {_catalog_names()}")
    return _from_hub(name)


def local_folder(name: str) -> Path | None:
    """The folder of this machine that a model's name is the path of; None where it is none, or an address in MLflow."""
    if name.startswith(tuple(_REGISTRIES)):
        return None
    return next((folder for folder in (Path(name), at_home(name)) if folder.is_dir()), None)


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, allow_patterns=list(_HUB_FILES)))
        # Second, because most repositories have both formats of the same weights. The folder's name is the commit.
        if not (folder / SINGLE_FILE).is_file() and not (folder / SHARD_INDEX).is_file():
            snapshot_download(repository, revision=folder.name, allow_patterns=list(_HUB_TORCH_FILES))
        return folder
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AssetError(
            f"{repository!r} is no local folder, not in the catalog ({_catalog_names()}), and the hub does not "
            f"give it: {reason}"
        ) from None


def _catalog_names() -> str:
    return ", ".join(catalog.names("model"))


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint, from one file or from shards, safetensors before PyTorch's own files.

    Raises:
      CheckpointError: no weights, a truncated or refused file, or a shard that the index names and the folder lacks.
    """
    folder = Path(folder)
    for single, index, read in (
        (SINGLE_FILE, SHARD_INDEX, read_file),
        (_TORCH_FILE, _TORCH_INDEX, read_torch_file),
    ):
        if (folder / single).is_file():
            return read(folder / single)
        if (folder / index).is_file():
            return _read_shards(folder / index, read)
    raise CheckpointError(
        f"{folder} has no {SINGLE_FILE}, {SHARD_INDEX}, {_TORCH_FILE} or {_TORCH_INDEX}; save the model as safetensors"
    )


def weights_digest(folder: Path) -> str:
    """16 hexadecimal digits that change with any byte of the weights in a model folder."""
    content = hashlib.sha256()
    for path in sorted(path for pattern in ("*.safetensors", "*.bin") for path in Path(folder).glob(pattern)):
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: content)
    return content.hexdigest()[:16]


def _read_shards(path: Path, read: Callable[[Path], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path} {file_fault(path) or 'is not an index of shards'}") from None
    tensors: dict[str, np.ndarray] = {}
    for shard in sorted(set(index.values())):
        tensors |= read(path.parent / shard)
    missing = sorted(set(index) - set(tensors))
    if missing:
        raise CheckpointError(f"{path.parent}: the index names tensors that no shard holds: {', '.join(missing)}")
    return tensors


def read_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file.

    Raises:
      CheckpointError: it is missing, truncated, or has numbers that NumPy lacks.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except SafetensorError as error:
        reason = file_fault(path) or f"is truncated or no safetensors file: {error}"
        raise CheckpointError(f"{path} {reason}") from None
    except AttributeError as error:  # it looks for the dtype of a tensor in NumPy
        raise CheckpointError(f"{path} holds numbers of type {error.name}; save the model as float32") from None


def write_tensors(folder: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes the weights of a model folder as one file; errors are those of `write_file`."""
    write_file(folder / SINGLE_FILE, tensors)


def write_file(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes one safetensors file, with the `format` in its metadata that transformers requires.

    Raises:
      OSError: the disk is full.
    """
    try:
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path, {"format": "pt"})
    except SafetensorError as error:  # the tensors are valid, so the disk is at fault
        raise OSError(str(error)) from error
    path.chmod(0o644)  # safetensors makes it readable by its owner only
