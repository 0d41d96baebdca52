"""`bertjax export`: a checkpoint as a folder that transformers loads."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertjax.cli.flags.parse_flags import check_replaceable, parse
from bertjax.cli.process.messages import say
from bertjax.config import BertConfig, read_config_json
from bertjax.errors import ConfigError, RunFolderError
from bertjax.metrics.reports import is_of_whole
from bertjax.settings import CountFromZero, Seed
from bertjax.storage.folder_lock import locked_folder
from bertjax.storage.small_files import read_numbers

_WRITTEN = re.compile(r"README\.md|vocab\.txt|.+\.(json|safetensors)")  # a tokenizer has several files


@dataclass(frozen=True)
class Arguments:
    """Write a checkpoint as a Hugging Face folder: float32 safetensors, config, labels, tokenizer and a model card."""

    model: str
    """The checkpoint: a folder (such as `model/` of a run), a hub id, a name of the catalog, or
    models:/NAME@ALIAS of MLflow's registry."""

    out: Path
    """The folder to write."""

    adapter: Path | None = None
    """An adapter of the checkpoint to merge into it: a folder that peft saved, or `adapter/` of a run."""

    task: str | None = None
    """Task whose head to export; default: the adapter's, or the checkpoint's own."""

    keep_layers: tuple[CountFromZero, ...] = ()
    """Layers of the encoder to keep, counted from 0, such as 0 5 for a student of two layers; default: all."""

    seed: Seed = 0
    """Of the initialisation of missing tensors."""

    init_missing: tuple[str, ...] = ()
    """Tensors that the checkpoint may lack, by Hugging Face's names or patterns of them (`cls.*`)."""

    drop: tuple[str, ...] = ()
    """Tensors of the checkpoint to leave out, by Hugging Face's names or patterns of them."""

    resize_embeddings: bool = False
    """Add rows to the word embeddings for the tokens that were added to the tokenizer, as transformers'
    `resize_token_embeddings` does."""

    overwrite: bool = False
    """Replace the folder if it is there."""


def main(arguments: Sequence[str]) -> int:
    """Prints the folder and the class that loads it."""
    parsed = parse(Arguments, arguments, "bertjax export")
    with locked_folder(parsed.out):
        return _export(parsed)


def _export(parsed: Arguments) -> int:
    from bertjax.data.encode.pretrained_tokenizer import check_tokenizer, load_tokenizer, num_entries
    from bertjax.model_folder.load_checkpoint import from_pretrained
    from bertjax.model_folder.model_card import auto_class, model_card
    from bertjax.model_folder.save_pretrained import departure_from_transformers, save_pretrained
    from bertjax.model_folder.stored_settings import (
        stored_max_length,
        stored_preprocessing,
        stored_reading,
        stored_task,
        stored_temperature,
    )
    from bertjax.pretrained.files import resolve_model
    from bertjax.tasks import keep_layers

    folder = resolve_model(parsed.model)
    if parsed.out.resolve() == folder.resolve():
        raise RunFolderError(f"--out {parsed.out} is the checkpoint itself; give another folder")
    check_replaceable(parsed.out, parsed.overwrite, _WRITTEN)
    stored = read_config_json(folder)
    architecture, tokenizer = BertConfig.from_hugging_face(stored), load_tokenizer(folder)
    check_tokenizer(tokenizer, folder, architecture, parsed.resize_embeddings)
    model, params = from_pretrained(
        folder,
        parsed.task,
        seed=parsed.seed,
        init_missing=parsed.init_missing,
        drop=parsed.drop,
        vocab_size=max(num_entries(tokenizer), architecture.vocab_size),
        adapter=parsed.adapter,
    )
    if parsed.keep_layers:
        model, params = keep_layers(model, params, parsed.keep_layers)
    if departure := departure_from_transformers(model):
        raise ConfigError(f"{departure}; fine-tune with --pooling pooler to export")
    changed = parsed.adapter is not None or bool(parsed.keep_layers)
    temperature = stored_temperature(stored) if not changed and model.task == stored_task(stored) else 1.0
    card = model_card(model, {} if changed else _scores(folder), temperature)
    save_pretrained(
        parsed.out,
        model,
        params,
        tokenizer,
        card,
        stored_preprocessing(stored),
        stored_max_length(stored),
        stored_reading(stored),
        temperature,
    )
    if temperature != 1:
        say(f"{parsed.out}: probabilities have temperature {temperature:g}; transformers' are those of 1")
    say(f"{parsed.out}: task {model.task}, transformers.{auto_class(model)} loads it")
    return 0


def _scores(folder: Path) -> dict[str, float]:
    """The test scores of the run that the model folder belongs to, if any."""
    metrics = None
    if folder.name == "model":
        remedy = "move it away: the card then has no scores"
        metrics = read_numbers(folder.parent / "metrics.json", remedy)
    metrics = metrics or {}
    of_test = {name: value for name, value in metrics.items() if name.startswith("test/")}
    return {name: value for name, value in of_test.items() if is_of_whole(name) or name.startswith("test/class/")}
